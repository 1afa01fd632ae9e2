"""What a tool may know about the call it serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Handed to a tool that declares a parameter `ctx: ToolContext`; never seen by the model.

    `idempotency_key` names the deed and is the same in every attempt: hand it to the system behind the tool. `message` is the request
    that the agent answers. `secrets` are those that the tool declared, `resources` the objects that the agent's host shares with its
    tools. `mark` goes into the environment of every child process, so that a kill finds it.
    """

    task: str
    dispatch: str
    attempt: str
    idempotency_key: str
    message: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    resources: Mapping[str, Any] = field(default_factory=dict)
    mark: Mapping[str, str] = field(default_factory=dict)
