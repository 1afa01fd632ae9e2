"""Tools: what agents may do, declared with `@tool(...)` or `@app.tool(...)` on a plain or async function.

A declaration that leaves open what a crash would ask (does it write, on what system, how does it repeat?) is refused at the line that
makes it. The decorated name is a `Tool`; calling it raises, since inside an agent a tool is an effect that must be recorded.
"""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, ParamSpec, Protocol, Required, TypedDict, TypeVar, Unpack, cast, overload

from pydantic import BaseModel, TypeAdapter

from interlock.schemas.breaker import FAILURES
from interlock.schemas.errors import BadDeclaration, DirectCall
from interlock.schemas.specs import Effect, ToolSpec
from interlock.tools.describe import describe
from interlock.tools.nearest import nearest
from interlock.tools.repeat import Finding, Keyed, Natural, Repeat

P = ParamSpec("P")
R = TypeVar("R")

SECONDS = 30.0
MAX_BYTES = 65_536
MIN_BYTES = 256
"""The least that `max_bytes` may be: what stands for a result that was cut needs some room itself."""
PROBE_BYTES = 1_024
"""What a finding may need beside the result in it."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")  # what chat-completions endpoints take as a function's name


class ToolOptions(TypedDict, total=False):
    """What a declaration says beside the function itself.

    `effect`: what it does to the world. `system`: the external system that it writes to, whose budget it uses. `repeat`: how it
    repeats. `timeout` in seconds. `max_bytes` bounds its encoded result. `name`: if not the function's own. `trusted`: why what it
    returns can be trusted; without a reason it is untrusted. `secrets`: the names of those it needs in `ctx.secrets`. `breaker`: after so
    many outages in a row (no connection, no answer in time, HTTP 500 and above) it is not called for 30 seconds; None: it always is.
    """

    effect: Required[Effect]
    system: str
    repeat: Repeat
    timeout: float
    max_bytes: int
    name: str
    trusted: str
    secrets: Sequence[str]
    breaker: int | None


@dataclass(frozen=True, eq=False)
class Tool(Generic[P, R]):
    """A declared tool. `spec` is what others read; `function` is the code itself, for tests and for whoever runs it.

    `arguments` and `result` convert JSON to what the function takes and back; `context` names its `ToolContext` parameter; `probe` finds
    out whether a call has taken effect.
    """

    spec: ToolSpec
    function: Callable[P, R] | Callable[P, Awaitable[R]]
    arguments: type[BaseModel]
    result: TypeAdapter[R]
    context: str
    probe: "Tool[..., Any] | None" = None

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DirectCall(tool=self.spec.name)

    def __repr__(self) -> str:
        return f"Tool({self.spec.name}, {self.spec.effect})"


class Declarer(Protocol):
    """What `tool(...)` returns: it makes a `Tool` of the function below it."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...


def tool(**options: Unpack[ToolOptions]) -> Declarer:
    """Declare the function below as a tool: `@tool(effect="read")`; see `ToolOptions`. Raises `BadDeclaration`."""

    def declarer(function: Callable[..., Any]) -> Tool[..., Any]:
        return declare(function, **options)

    return cast(Declarer, declarer)


def declare(function: Callable[..., Any], **options: Unpack[ToolOptions]) -> Tool[..., Any]:
    """The tool that a function and its options declare; `BadDeclaration` where they leave something open."""
    if not inspect.isfunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__name__", type(function).__name__)
        raise BadDeclaration(what=f"tool {name}", problem="it is no plain or async function", remedy="Write def or async def, and return.")
    description = describe(function)
    repeat = options.get("repeat")
    spec = ToolSpec(
        name=options.get("name", function.__name__),
        description=description.summary,
        parameters=description.parameters,
        returns=description.returns,
        effect=options["effect"],
        system=options.get("system", ""),
        repeat=repeat.spec if repeat is not None else None,
        timeout=float(options.get("timeout", SECONDS)),
        max_bytes=options.get("max_bytes", MAX_BYTES),
        trusted_because=options.get("trusted", ""),
        secrets=tuple(options.get("secrets", ())),
        breaker=options.get("breaker", FAILURES) or 0,
    )
    _check_bounds(spec)
    _check_effect(spec)
    _check_repeat(spec, repeat)
    probe = _probe_of(spec, repeat.probe) if isinstance(repeat, Keyed) and repeat.probe is not None else None
    return Tool(spec, function, description.arguments, description.result, description.context, probe)


def _probe_of(spec: ToolSpec, function: Callable[..., Any]) -> Tool[..., Any]:
    """The probe of a tool, as one that reads."""
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, Tool):
        raise _bad(spec, f"its probe {name} is a tool itself", "Give a plain or async function that returns a Finding.")
    probe = declare(function, effect="read", timeout=spec.timeout, max_bytes=spec.max_bytes + PROBE_BYTES)
    unknown = [one for one in probe.spec.parameters["properties"] if one not in spec.parameters["properties"]]
    if unknown:
        raise _bad(
            spec, f"its probe {name} takes {unknown[0]!r}, which the tool does not", "A probe takes what the tool takes, or some of it."
        )
    if typing.get_type_hints(function).get("return") is not Finding:
        raise _bad(spec, f"its probe {name} does not return a Finding", "Write -> Finding, and return Finding.happened(...) and so on.")
    return probe


def _check_bounds(spec: ToolSpec) -> None:
    if not _NAME.fullmatch(spec.name):
        remedy = "Use up to 64 letters, digits, _ and -; models know it by this name."
        raise _bad(spec, f"{spec.name!r} is no tool name", remedy)
    if not 0 < spec.timeout < float("inf"):
        raise _bad(spec, f"timeout={spec.timeout:g} is no time", "Give seconds, more than zero.")
    if spec.breaker < 0:
        raise _bad(spec, f"breaker={spec.breaker} is no number of outages", "Write as in breaker=5, or None.")
    if spec.max_bytes < MIN_BYTES:
        raise _bad(spec, f"max_bytes={spec.max_bytes} leaves no room", f"Give at least {MIN_BYTES}.")


def _check_effect(spec: ToolSpec) -> None:
    """A write says on what system and how it repeats; a read has nothing to repeat."""
    if spec.effect not in ("read", "write", "irreversible"):
        raise _bad(spec, f"effect={spec.effect!r} is none", "Write read, write or irreversible.")
    if spec.effect == "read":
        if spec.repeat is not None:
            raise _bad(spec, "a read repeats freely, yet it has repeat=", 'Drop repeat=, or write effect="write".')
        return
    if not spec.system:
        raise _bad(spec, f"effect={spec.effect!r} needs system=", "Name the system that it writes to, whose budget it uses.")
    if spec.repeat is None:
        remedy = "Write Keyed(argument), Natural(argument) or Never(): what may happen if its process dies halfway?"
        raise _bad(spec, f"effect={spec.effect!r} needs repeat=", remedy)


def _check_repeat(spec: ToolSpec, repeat: Repeat | None) -> None:
    """What a tool repeats by is an argument that every call gives."""
    if not isinstance(repeat, Keyed | Natural):
        return
    key = repeat.spec.key
    names = list(spec.parameters["properties"])
    if key not in names:
        remedy = f"Did you mean {nearest(key, names)!r}?" if names else "It takes no arguments; use Never()."
        raise _bad(spec, f"repeat= names {key!r}, which is no parameter", remedy)
    if key not in spec.parameters.get("required", ()):
        raise _bad(spec, f"repeat= names {key!r}, which has a default", "Calls that leave it out would count as one deed; require it.")


def _bad(spec: ToolSpec, problem: str, remedy: str) -> BadDeclaration:
    return BadDeclaration(what=f"tool {spec.name}", problem=problem, remedy=remedy)
