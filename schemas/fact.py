"""The base of what an entry says: a frozen record with a stable `KIND` and JSON fields.

Some fields are content: what people, models and tools said. It is stored apart from the rest, under its task's own key, so that it can be
erased while the record of what happened stays whole and readable.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

from interlock.schemas.canonical import encode


class Gone(str):
    """Stands where content was that is there no more, and says why: `erased` or `pruned`."""

    __slots__ = ()


ERASED, PRUNED = Gone("erased"), Gone("pruned")

_NONE: dict[str, Any] = {}


class Parts(NamedTuple):
    """A fact as it is stored: `head` is JSON that stays readable, `content` JSON of what can be erased, both objects of fields; `kept` are
    large fields of content that are stored by name, each piece of them once. What it holds may not change any more."""

    head: bytes
    content: bytes = b""
    kept: dict[str, Any] = _NONE


@dataclass(frozen=True, slots=True)
class Fact:
    """Base of what an entry says. `CONTENT` and `KEPT` name the fields that are content; one that is empty says nothing and is in the head.
    Of an `error` the code stays in the head."""

    KIND: ClassVar[str] = ""
    CONTENT: ClassVar[tuple[str, ...]] = ()
    KEPT: ClassVar[tuple[str, ...]] = ()

    def encode(self) -> bytes:
        """All of it as one JSON object."""
        return encode(self)

    def split(self) -> Parts:
        """It in the parts in which it is stored."""
        if not self.CONTENT and not self.KEPT:
            return Parts(encode(self))
        plan = _plan_of(type(self))
        head, content, kept = dict(zip(plan.names, plan.values(self), strict=True)), {}, {}
        for name in plan.content:
            if head[name] is not None and head[name] != "":
                content[name] = head.pop(name)
        for name in plan.kept:
            if head[name] is not None:
                kept[name] = head.pop(name)
        if isinstance(error := content.get("error"), dict):
            head["error"] = {"code": error.get("code", "error")}
        return Parts(encode(head), encode(content) if content else b"", kept)


class _Plan(NamedTuple):
    """How facts of a class are split: what is looked up once is not looked up for every entry."""

    names: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]
    content: tuple[str, ...]
    kept: tuple[str, ...]


_PLANS: dict[type[Fact], _Plan] = {}


def _plan_of(cls: type[Fact]) -> _Plan:
    plan = _PLANS.get(cls)
    if plan is None:
        names = tuple(sorted(field.name for field in fields(cls)))
        values = attrgetter(*names) if len(names) > 1 else lambda fact: (getattr(fact, names[0]),)
        plan = _PLANS[cls] = _Plan(names, values, cls.CONTENT, cls.KEPT)
    return plan
