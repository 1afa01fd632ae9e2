"""Definitions: agents and workflows with their code, as replicas and runners load them.

Their counterparts in `schemas/specs.py` are the same declarations as data, for those who never load user code. A definition that
could not run is refused where it is made, not when the first task comes.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interlock.actors.migrations import Migrations
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.message import Message, contract_of
from interlock.schemas.specs import REPEATS, AgentSpec, Conversation, check_repeats

if TYPE_CHECKING:
    from interlock.tools.tool import Tool

_EXIT_FACTS = ("request", "result", "evidence", "degraded")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class AgentDefinition:
    """A specialist. `function` is None for a model loop, which has `instructions` and a `conversation` instead; `resources` makes
    what its tools share; `fallback` are the models that are asked, in order, where `model` gives no answer; `migrations` are the app's."""

    name: str
    version: str
    spec: AgentSpec
    function: Callable[..., Awaitable[Message]] | None
    instructions: str
    accepts: tuple[type[Message], ...]
    returns: tuple[type[Message], ...]
    tools: "tuple[Tool[..., Any], ...]" = ()
    resources: Callable[[], Mapping[str, Any]] | None = None
    model: str | None = None
    conversation: Conversation = field(default_factory=Conversation)
    fallback: tuple[str, ...] = ()
    migrations: Migrations = field(default_factory=Migrations)


@dataclass(frozen=True)
class WorkflowDefinition:
    """A task type. `function(request, ctx)` is the workflow; `entry` and `exit` are plain functions that return a truth value.

    `entry` takes the request. `exit` takes the result, or by their names any of `request`, `result`, `evidence`, `degraded`. `receives` are
    the messages that may be sent into a running task. `repeats`: how often what it asks and hears may repeat as a whole. `migrations` are
    the app's.
    """

    name: str
    version: str
    function: Callable[[Any, Any], Coroutine[Any, Any, Message]]
    request: type[Message]
    result: type[Message]
    entry: Callable[[Any], object] | None = None
    exit: Callable[..., object] | None = None
    receives: tuple[type[Message], ...] = ()
    repeats: int | None = REPEATS
    migrations: Migrations = field(default_factory=Migrations)

    def __post_init__(self) -> None:
        if not inspect.iscoroutinefunction(self.function):
            raise self._bad("it is not a coroutine function", "Write async def.")
        for word, condition in (("entry", self.entry), ("exit", self.exit)):
            if inspect.iscoroutinefunction(condition):
                raise self._bad(f"its {word} condition is async, so it would always hold", "Write a plain def that returns true or false.")
        if self.exit is not None:
            self._exit_parameters(self.exit)
        check_repeats(f"workflow {self.name}", self.repeats)
        majors = [(name, version.partition(".")[0]) for name, version in map(contract_of, self.receives)]
        if twice := sorted({f"{name} {major}" for name, major in majors if majors.count((name, major)) > 1}):
            raise self._bad(f"it receives major {' and '.join(twice)} by two classes", "Name one class for each major, the newest.")

    def exit_holds(self, request: Message, result: Message, evidence: Sequence[Mapping[str, Any]], degraded: bool) -> bool:
        """Whether the success condition holds; true where there is none. What the condition raises, this raises."""
        if self.exit is None:
            return True
        facts = {"request": request, "result": result, "evidence": evidence, "degraded": degraded}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter, fact in self._exit_parameters(self.exit):
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = facts[fact]
            else:
                args.append(facts[fact])
        return bool(self.exit(*args, **kwargs))

    def _exit_parameters(self, condition: Callable[..., object]) -> list[tuple[inspect.Parameter, str]]:
        """Which fact each parameter of the exit condition gets."""
        parameters = [
            parameter
            for parameter in inspect.signature(condition).parameters.values()
            if parameter.kind not in _VARIADIC and (parameter.name in _EXIT_FACTS or parameter.default is inspect.Parameter.empty)
        ]
        if all(parameter.name in _EXIT_FACTS for parameter in parameters):
            return [(parameter, parameter.name) for parameter in parameters]
        if len(parameters) == 1:
            return [(parameters[0], "result")]
        raise self._bad(
            f"its exit condition takes {', '.join(parameter.name for parameter in parameters)}",
            f"Take the result alone, or any of {', '.join(_EXIT_FACTS)} by these names.",
        )

    def _bad(self, problem: str, remedy: str) -> BadDeclaration:
        return BadDeclaration(what=f"workflow {self.name}", problem=problem, remedy=remedy)


def condition_name(condition: Callable[..., object] | None) -> str:
    """What specs and errors call an entry or exit condition; empty where there is none."""
    return "" if condition is None else getattr(condition, "__name__", type(condition).__name__)
