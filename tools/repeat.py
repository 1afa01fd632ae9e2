"""How a write tool repeats: the author's answer to "it was granted, and then its process died".

Keyed("order_id", scope="bus")   the system behind it honours `ctx.idempotency_key`: once per key, however often it is called
Natural(resource="branch")       it sets a state: doing it again with the same arguments changes nothing
Never()                          a second call is a second deed: a person is asked
"""

from dataclasses import dataclass

from interlock.schemas.specs import RepeatSpec, Scope


@dataclass(frozen=True, slots=True)
class Keyed:
    """Calls with the same value of argument `key` are one deed, within a task or on the whole bus."""

    key: str
    scope: Scope = "task"

    @property
    def spec(self) -> RepeatSpec:
        return RepeatSpec("keyed", self.key, self.scope)


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
