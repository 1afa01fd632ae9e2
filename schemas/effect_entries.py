"""Entries about effects: what an agent is about to do to the world, how it ended, what nobody knows of it.

They are used as all entries are, by `interlock.schemas.entries`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from interlock.schemas.fact import Fact


@dataclass(frozen=True, slots=True)
class EffectIntended(Fact):
    """It is about to happen; durable before the grant. `kind` is read, write or irreversible; `deed` names what others that do the same or
    write to the same wait for, `replica` is who may do it."""

    KIND: ClassVar[str] = "effect.intended"
    CONTENT: ClassVar[tuple[str, ...]] = ("args", "digest")
    effect: str
    dispatch: str
    attempt: str
    kind: str
    tool: str
    args: Any
    digest: str
    key: str
    system: str = ""
    deed: str = ""
    replica: str = ""


@dataclass(frozen=True, slots=True)
class EffectEnded(Fact):
    """How it ended: `ok` and `value`, or a wire error as `value`. `same_as`: it was not done, for the effect of this id had done it before;
    `arguments_differ` where that one was called with others."""

    KIND: ClassVar[str] = "effect.ended"
    CONTENT: ClassVar[tuple[str, ...]] = ("value",)
    effect: str
    dispatch: str
    attempt: str
    tool: str
    ok: bool
    value: Any
    latency_ms: float
    cut: bool = False
    same_as: str = ""
    arguments_differ: bool = False


@dataclass(frozen=True, slots=True)
class EffectUnknown(Fact):
    """Its holder is gone and no result came: whether it happened is not known. `then`: `repeat` (the system behind it does it once),
    `probe`, `confirm` (repeat once nothing is left of `replica`), `ask` (a human), `none` where nobody waits for it any more.
    `why` is a sentence of the bus itself: it outlives the task's content."""

    KIND: ClassVar[str] = "effect.unknown"
    CONTENT: ClassVar[tuple[str, ...]] = ("digest",)
    effect: str
    dispatch: str
    attempt: str
    tool: str
    why: str
    then: str
    deed: str = ""
    replica: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class EffectProbed(Fact):
    """The tool's own probe has looked whether an unknown effect happened: `happened` (`value` is its result), `not_happened`, or
    `cannot_tell` (`value` says why)."""

    KIND: ClassVar[str] = "effect.probed"
    CONTENT: ClassVar[tuple[str, ...]] = ("value",)
    effect: str
    dispatch: str
    attempt: str
    tool: str
    answer: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class GrantLapsed(Fact):
    """The replica says that the time of its grant was over before the tool had begun: it did not happen."""

    KIND: ClassVar[str] = "grant.lapsed"
    effect: str
    dispatch: str
    attempt: str
    tool: str


@dataclass(frozen=True, slots=True)
class DeedSettled(Fact):
    """What is known of a deed from here on. `done`: the entry before this one has its result, which answers whoever asks for it again; else
    nothing is left open of it."""

    KIND: ClassVar[str] = "deed.settled"
    CONTENT: ClassVar[tuple[str, ...]] = ("digest",)
    deed: str
    effect: str
    dispatch: str
    attempt: str
    tool: str
    digest: str
    done: bool


@dataclass(frozen=True, slots=True)
class EffectRefused(Fact):
    KIND: ClassVar[str] = "effect.refused"
    CONTENT: ClassVar[tuple[str, ...]] = ("error",)
    effect: str
    dispatch: str
    attempt: str
    tool: str
    error: Any


@dataclass(frozen=True, slots=True)
class ModelCalled(Fact):
    """A model call in full. `request` is the body as sent (model, messages, tools, parameters), `response` the raw answer
    or null, `error` a wire error or null, `usage` has `input_tokens` and `output_tokens`, `price` is decimal USD or null. `instead_of`: the
    model that gave no answer before, where this one is its fallback. `gateway` made it."""

    KIND: ClassVar[str] = "model.called"
    CONTENT: ClassVar[tuple[str, ...]] = ("error",)
    KEPT: ClassVar[tuple[str, ...]] = ("request", "response")
    effect: str
    dispatch: str
    attempt: str
    model: str
    model_reported: str
    endpoint: str
    system_hash: str
    request: Any
    response: Any
    usage: dict[str, int]
    price: str | None
    latency_ms: float
    tries: int
    error: Any = None
    instead_of: str = ""
    gateway: str = ""


@dataclass(frozen=True, slots=True)
class ModelCutOff(Fact):
    """Its gateway died while the call was in flight: charged in full as reserved; it may be repeated once. `charged` are the amounts by
    meter, money as decimal text. `late`: its gateway lives, and it was charged what it used; another one had answered before. Without a
    `dispatch` it was found in the journal alone, after its task had ended."""

    KIND: ClassVar[str] = "model.cut_off"
    effect: str
    dispatch: str
    gateway: str
    number: int
    charged: dict[str, Any] = field(default_factory=dict)
    late: bool = False
