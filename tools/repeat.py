"""How a write tool repeats: the author's answer to "it was granted, and then its process died".

Keyed("order_id", scope="bus")   the system behind it honours `ctx.idempotency_key`: once per key, however often it is called
Keyed("order_id", probe=look)    it does not, but `look` can find out whether it has happened
Natural(resource="branch")       it sets a state: doing it again with the same arguments changes nothing
Never()                          a second call is a second deed: a person is asked
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from interlock.schemas.specs import RepeatSpec, Scope


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe returns: `Finding.happened(result)`, `Finding.not_happened()` or `Finding.cannot_tell(why)`."""

    answer: Literal["happened", "not_happened", "cannot_tell"]
    result: Any = None
    why: str = ""

    @classmethod
    def happened(cls, result: Any) -> Self:
        """It took effect; `result` is what the tool would have returned."""
        return cls("happened", result)

    @classmethod
    def not_happened(cls) -> Self:
        """It did not, and nothing that is under way outside will make it so: it may be called again."""
        return cls("not_happened")

    @classmethod
    def cannot_tell(cls, why: str) -> Self:
        """A person has to look."""
        return cls("cannot_tell", why=why)


@dataclass(frozen=True, slots=True)
class Keyed:
    """Calls with the same value of argument `key` are one deed, within a task or on the whole bus: it is done once, every other call gets
    the first one's result. `probe` is a function with the tool's own parameters, or some of them, that returns a `Finding`; without one
    the system behind the tool must do one deed per `ctx.idempotency_key`.
    """

    key: str
    scope: Scope = "task"
    probe: Callable[..., Any] | None = None

    @property
    def spec(self) -> RepeatSpec:
        return RepeatSpec("keyed", self.key, self.scope, self.probe is not None)


@dataclass(frozen=True, slots=True)
class Natural:
    """It sets the state of what argument `resource` names; A, B, A really ends in A."""

    resource: str

    @property
    def spec(self) -> RepeatSpec:
        return RepeatSpec("natural", self.resource)


@dataclass(frozen=True, slots=True)
class Never:
    """It must not be repeated: where nobody knows whether it happened, a person decides."""

    @property
    def spec(self) -> RepeatSpec:
        return RepeatSpec("never")


Repeat = Keyed | Natural | Never
