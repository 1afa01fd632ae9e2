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
        names, values, content_names, kept_names = _PLANS.get(type(self)) or _plan_of(type(self))
        if values is None:
            return Parts(encode(self))
        head, content, kept = dict(zip(names, values(self), strict=True)), {}, {}
        for name in content_names:
            value = getattr(self, name)
            if value is None or value == "":
                head[name] = value
            else:
                content[name] = value
        for name in kept_names:
            value = getattr(self, name)
            if value is None:
                head[name] = value
            else:
                kept[name] = value
        if isinstance(error := content.get("error"), dict):
            head["error"] = {"code": error.get("code", "error")}
        return Parts(encode(head), encode(content) if content else b"", kept)


class _Plan(NamedTuple):
    """How facts of a class are split: what is looked up once is not looked up for every entry. `names` are the fields of the head and
    `values` reads them; it is none where all of them are."""

    names: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]] | None
    content: tuple[str, ...]
    kept: tuple[str, ...]


_PLANS: dict[type[Fact], _Plan] = {}


def _plan_of(cls: type[Fact]) -> _Plan:
    apart = {*cls.CONTENT, *cls.KEPT}
    names = tuple(sorted(field.name for field in fields(cls) if field.name not in apart))
    plan = _PLANS[cls] = _Plan(names, _reader(names) if apart else None, cls.CONTENT, cls.KEPT)
    return plan


def _reader(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """What reads these attributes: `attrgetter` gives a bare value where there is one of them, and takes no less."""
    return attrgetter(*names) if len(names) > 1 else lambda fact: tuple(getattr(fact, name) for name in names)
