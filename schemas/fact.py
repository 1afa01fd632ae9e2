"""The base of what an entry says: a frozen record with a stable `KIND` and JSON fields.

Some fields are content: what people, models and tools said. It is stored apart from the rest, under its task's own key, so that it can be
erased while the record of what happened stays whole and readable.
"""

from dataclasses import dataclass, fields
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
        cls = type(self)
        if not cls.CONTENT:
            return Parts(encode(self))
        head = {name: getattr(self, name) for name in _names(cls)}
        content = {name: head.pop(name) for name in cls.CONTENT if head[name] is not None and head[name] != ""}
        kept = {name: head.pop(name) for name in cls.KEPT if head[name] is not None}
        error = content.get("error")
        if isinstance(error, dict):
            head["error"] = {"code": error.get("code", "error")}
        return Parts(encode(head), encode(content) if content else b"", kept)


_NAMES: dict[type[Fact], tuple[str, ...]] = {}


def _names(cls: type[Fact]) -> tuple[str, ...]:
    found = _NAMES.get(cls)
    if found is None:
        found = _NAMES[cls] = tuple(field.name for field in fields(cls))
    return found
