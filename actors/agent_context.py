"""What an agent's code sees: its request, its own tools, and nothing else."""

from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from interlock.actors.definitions import AgentDefinition
from interlock.actors.fallback import Models
from interlock.schemas.canonical import decode
from interlock.schemas.errors import ToolRefused, from_wire
from interlock.schemas.frames import Answered
from interlock.schemas.labels import Label, decode_label
from interlock.schemas.message import Message
from interlock.tools.describe import json_args, typed_result
from interlock.tools.tool import Tool

if TYPE_CHECKING:
    from interlock.actors.host import Replica, Work

P = ParamSpec("P")
R = TypeVar("R")


class AgentContext:
    """Handed to an agent with each request. `task` and `dispatch` are ids; `label` says whether the request is trusted."""

    def __init__(self, host: "Replica", work: "Work", request: Message, definition: AgentDefinition) -> None:
        self._host, self._work, self._definition = host, work, definition
        self._models = Models(definition.fallback)
        self.request = request

    @property
    def task(self) -> str:
        return self._work.frame.task

    @property
    def dispatch(self) -> str:
        return self._work.frame.dispatch

    @property
    def goal(self) -> str:
        """What the whole task is for, as its workflow declares it; empty where it does not."""
        return self._work.frame.goal

    @property
    def until(self) -> str:
        """When the whole task is done: its exit condition in words; empty where there is none."""
        return self._work.frame.until

    @property
    def label(self) -> Label:
        return decode_label(self._work.envelope.label)

    @property
    def awaited(self) -> list[type[Message]]:
        """The message classes that the asking workflow awaits, of those that this agent returns."""
        wanted = {ref.name for ref in self._host.awaited(self._work)}
        return [cls for cls in self._definition.returns if cls.contract in wanted]

    async def call(self, tool: Tool[P, R], /, **args: Any) -> R:
        """Call one of this agent's tools and return its typed result; `args` by name, without `ctx`.

        Raises `ToolFailed`, `ToolTimeout` or `ToolRefused`; whatever the crash, the call happens once and is answered from the record.
        """
        if self.tool(tool.spec.name) is None:
            own = ", ".join(sorted(one.spec.name for one in self._definition.tools)) or "none"
            raise ToolRefused(
                tool=tool.spec.name,
                problem=f"agent {self._definition.name} does not have it",
                remedy=f"It has: {own}. Declare it in tools=.",
            )
        answer = await self.call_json(tool, json_args(tool, args))
        if not answer.ok:
            raise from_wire(decode(answer.value))
        return typed_result(tool, answer.value)

    def tool(self, name: str) -> Tool[..., Any] | None:
        """This agent's own tool of that name, where it has one."""
        return next((tool for tool in self._definition.tools if tool.spec.name == name), None)

    @property
    def arguments_differ(self) -> frozenset[str]:
        """The names of tools that had done their deed before, under the same key, with other arguments, and answered with that result."""
        return frozenset(self._work.differing)

    async def call_json(self, tool: Tool[..., Any], args: dict[str, Any]) -> Answered:
        """A tool call in JSON, as the model loop makes it: whether it succeeded, and the result or wire error."""
        return await self._host.tool_call(self._work, tool, args)

    def note(self, kind: str, facts: dict[str, Any]) -> None:
        """Have what the model loop did to its own conversation recorded."""
        self._host.note(self._work, kind, facts)

    async def complete(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """One answer of a model: the chat-completions request without its output cap, the raw response. Where the model finally gives none,
        those that the agent declares as its fallback are asked in its place. Raises `ModelFailed` where nobody answers."""
        return await self._models.complete(model, request, partial(self._host.model_call, self._work))
