"""Entries about effects: what an agent is about to do to the world, how it ended, what nobody knows of it.

They are used as all entries are, by `interlock.schemas.entries`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from interlock.schemas.fact import Fact


@dataclass(frozen=True, slots=True)
class EffectIntended(Fact):
    """It is about to happen; durable before the grant. `kind` is read, write or irreversible."""

    KIND: ClassVar[str] = "effect.intended"
    effect: str
    dispatch: str
    attempt: str
    kind: str
    tool: str
    args: Any
    digest: str
    key: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class EffectEnded(Fact):
    """How it ended: `ok` and `value`, or a wire error as `value`."""

    KIND: ClassVar[str] = "effect.ended"
    effect: str
    dispatch: str
    attempt: str
    tool: str
    ok: bool
    value: Any
    latency_ms: float
    cut: bool = False


@dataclass(frozen=True, slots=True)
class EffectUnknown(Fact):
    """Its holder is gone and no result came: whether it happened is not known. `then`: `repeat` or `ask`, `none` where nobody
    waits for it any more."""

    KIND: ClassVar[str] = "effect.unknown"
    effect: str
    dispatch: str
    attempt: str
    tool: str
    why: str
    then: str


@dataclass(frozen=True, slots=True)
class EffectRefused(Fact):
    KIND: ClassVar[str] = "effect.refused"
    effect: str
    dispatch: str
    attempt: str
    tool: str
    error: Any


@dataclass(frozen=True, slots=True)
class ModelCalled(Fact):
    """A model call in full. `request` is the body as sent (model, messages, tools, parameters), `response` the raw answer
    or null, `error` a wire error or null, `usage` has `input_tokens` and `output_tokens`, `price` is decimal USD or null."""

    KIND: ClassVar[str] = "model.called"
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


@dataclass(frozen=True, slots=True)
class ModelCutOff(Fact):
    """Its gateway died while the call was in flight: charged in full as reserved; it may be repeated once. `charged` are the amounts by
    meter, money as decimal text."""

    KIND: ClassVar[str] = "model.cut_off"
    effect: str
    dispatch: str
    gateway: str
    number: int
    charged: dict[str, Any] = field(default_factory=dict)
