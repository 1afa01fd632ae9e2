"""Entries about the commands of a workflow and what came of them; `n` numbers a task's commands from 1.

They are used as all entries are, by `interlock.schemas.entries`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from interlock.schemas.fact import Fact


@dataclass(frozen=True, slots=True)
class MessageSent(Fact):
    """A workflow's ask, on its way to `agent`; `attempt` is the first one of this dispatch. `migrated` names the migrations by which the
    agent reads it."""

    KIND: ClassVar[str] = "message.sent"
    CONTENT: ClassVar[tuple[str, ...]] = ("envelope",)
    n: int
    dispatch: str
    attempt: str
    agent: str
    returns: list[str]
    label: str
    envelope: Any
    migrated: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MessageReceived(Fact):
    """An agent's reply; `migrated` names the migrations by which the workflow reads it."""

    KIND: ClassVar[str] = "message.received"
    CONTENT: ClassVar[tuple[str, ...]] = ("envelope",)
    n: int
    dispatch: str
    attempt: str
    replica: str
    degraded: bool
    label: str
    envelope: Any
    migrated: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DispatchAttempted(Fact):
    """A message is handed out again under a new attempt. `lost`: the attempt before ended with its replica's process."""

    KIND: ClassVar[str] = "dispatch.attempted"
    dispatch: str
    attempt: str
    why: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class DispatchFailed(Fact):
    KIND: ClassVar[str] = "dispatch.failed"
    CONTENT: ClassVar[tuple[str, ...]] = ("error",)
    n: int
    dispatch: str
    attempt: str
    error: Any
    label: str = "trusted"


@dataclass(frozen=True, slots=True)
class DispatchSuspended(Fact):
    """The replica let go of it while a human decides about `item`."""

    KIND: ClassVar[str] = "dispatch.suspended"
    dispatch: str
    attempt: str
    item: str


@dataclass(frozen=True, slots=True)
class DeadLettered(Fact):
    """Replica after replica ended on this message, the last one (`replica`) while it did nothing else. It is kept whole as it was sent, and
    handed to nobody until a human has decided about `item`."""

    KIND: ClassVar[str] = "dead.lettered"
    dispatch: str
    attempt: str
    agent: str
    replica: str
    lost: int
    why: str
    item: str


@dataclass(frozen=True, slots=True)
class ReplyRefused(Fact):
    """A late or wrong reply that was not delivered, kept to explain."""

    KIND: ClassVar[str] = "reply.refused"
    CONTENT: ClassVar[tuple[str, ...]] = ("error",)
    dispatch: str
    attempt: str
    error: Any


@dataclass(frozen=True, slots=True)
class TimerSet(Fact):
    KIND: ClassVar[str] = "timer.set"
    n: int
    seconds: float
    fires: int


@dataclass(frozen=True, slots=True)
class TimerFired(Fact):
    KIND: ClassVar[str] = "timer.fired"
    n: int


@dataclass(frozen=True, slots=True)
class CommandCancelled(Fact):
    """The workflow no longer wants what command `n` asked for; `dispatch` where that was an ask. What it had in the inbox is withdrawn."""

    KIND: ClassVar[str] = "command.cancelled"
    n: int
    dispatch: str = ""
