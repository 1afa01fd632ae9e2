"""What changed between two schemas, keyword by keyword: its kind, where, and in words. What that does to anybody the verdict says."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from interlock.schemas.canonical import encode

_ANNOTATIONS = frozenset(
    ["title", "description", "default", "examples", "example", "$comment", "deprecated", "readOnly", "writeOnly", "$id", "$schema"]
)
_ONE = frozenset(
    [
        "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
        "unevaluatedItems", "unevaluatedProperties",
    ]
)  # fmt: skip
_LISTS = frozenset(["allOf", "anyOf", "oneOf", "prefixItems", "items"])
_MAPS = {
    "properties": "property",
    "patternProperties": "pattern_property",
    "$defs": "definition",
    "definitions": "definition",
    "dependentSchemas": "dependency",
    "dependentRequired": "dependency",
    "dependencies": "dependency",
}
_LIMITS = {
    "minimum": 1, "exclusiveMinimum": 1, "minLength": 1, "minItems": 1, "minProperties": 1, "minContains": 1,
    "maximum": -1, "exclusiveMaximum": -1, "maxLength": -1, "maxItems": -1, "maxProperties": -1, "maxContains": -1,
}  # fmt: skip
_SHOWN = 60
_ABSENT = object()


class Change(NamedTuple):
    """`pointer` leads to it in the new schema; of what was removed, in the old one."""

    kind: str
    pointer: str
    message: str


def changes(old: Any, new: Any) -> tuple[Change, ...]:
    """From the top down, in the order of the keywords' names."""
    return tuple(_compared(old, new, ""))


def _compared(old: Any, new: Any, at: str) -> Iterator[Change]:
    if encode(old) == encode(new):
        return
    if not isinstance(old, dict) or not isinstance(new, dict):
        yield Change("schema_changed", at or "/", f"was {_shown(old)}, is {_shown(new)}")
        return
    for keyword in sorted(old.keys() | new.keys()):
        before, after = old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)
        if _ABSENT in (before, after) or encode(before) != encode(after):
            yield from _keyword(keyword, before, after, f"{at}/{_escaped(keyword)}")


def _keyword(keyword: str, old: Any, new: Any, at: str) -> Iterator[Change]:
    if keyword in _ANNOTATIONS or keyword.startswith("x-"):
        yield Change("annotation_changed", at, f"{keyword} {_was(old, new)}; it is an annotation")
    elif keyword in _MAPS:
        yield from _map(_MAPS[keyword], old, new, at)
    elif keyword == "required":
        yield from _members("required", "is required", "is no longer required", old, new, at)
    elif keyword == "enum":
        yield from _members("value", "is allowed", "is no longer allowed", old, new, at)
    elif keyword == "type":
        yield _type(old, new, at)
    elif keyword in _LIMITS:
        yield _limit(keyword, old, new, at)
    elif keyword in _LISTS and all(isinstance(side, list) or side is _ABSENT for side in (old, new)):
        yield from _list(keyword, old, new, at)
    elif keyword in _ONE and isinstance(old, dict) and isinstance(new, dict):
        yield from _compared(old, new, at)
    elif keyword in ("additionalProperties", "unevaluatedProperties") and (old is False or new is False):
        closed = new is False
        yield Change(
            "closed" if closed else "opened", at, f"properties that are not named are {'refused' if closed else 'no longer refused'}"
        )
    else:
        kind = "added" if old is _ABSENT else "removed" if new is _ABSENT else "changed"
        yield Change(f"keyword_{kind}", at, f"{keyword} {_was(old, new)}")


def _map(what: str, old: Any, new: Any, at: str) -> Iterator[Change]:
    before, after = ({} if side is _ABSENT else side for side in (old, new))
    for name in sorted(before.keys() | after.keys()):
        place = f"{at}/{_escaped(name)}"
        if name not in before:
            yield Change(f"{what}_added", place, f"{what.replace('_', ' ')} {name!r} is new")
        elif name not in after:
            yield Change(f"{what}_removed", place, f"{what.replace('_', ' ')} {name!r} is gone")
        else:
            yield from _compared(before[name], after[name], place)


def _list(keyword: str, old: Any, new: Any, at: str) -> Iterator[Change]:
    before, after = ([] if side is _ABSENT else side for side in (old, new))
    known, kept = {encode(part) for part in before}, {encode(part) for part in after}
    gone = [(place, part) for place, part in enumerate(before) if encode(part) not in kept]
    come = [(place, part) for place, part in enumerate(after) if encode(part) not in known]
    if len(gone) == len(come):
        for (_, was), (place, part) in zip(gone, come, strict=True):
            yield from _compared(was, part, f"{at}/{place}")
        if not gone:
            yield Change("order_changed", at, f"{keyword} is in another order, or says something twice")
        return
    yield from (Change("branch_removed", f"{at}/{place}", f"{_shown(part)} is gone from {keyword}") for place, part in gone)
    yield from (Change("branch_added", f"{at}/{place}", f"{_shown(part)} is new in {keyword}") for place, part in come)


def _members(what: str, added: str, removed: str, old: Any, new: Any, at: str) -> Iterator[Change]:
    before, after = ([] if side is _ABSENT else side for side in (old, new))
    known, kept = {encode(member) for member in before}, {encode(member) for member in after}
    yield from (Change(f"{what}_removed", at, f"{_shown(member)} {removed}") for member in before if encode(member) not in kept)
    yield from (Change(f"{what}_added", at, f"{_shown(member)} {added}") for member in after if encode(member) not in known)
    if known == kept:
        yield Change("order_changed", at, "the same in another order")


def _type(old: Any, new: Any, at: str) -> Change:
    before, after = _types(old), _types(new)
    kind = "type_widened" if before < after else "type_narrowed" if after < before else "type_changed"
    return Change(kind, at, f"type {_was(old, new)}")


def _types(named: Any) -> set[str]:
    every = {"null", "boolean", "integer", "number", "string", "array", "object"}
    found = every if named is _ABSENT else {named} if isinstance(named, str) else set(named)
    return found | {"integer"} if "number" in found else found


def _limit(keyword: str, old: Any, new: Any, at: str) -> Change:
    tighter = old is _ABSENT or (new is not _ABSENT and (new - old) * _LIMITS[keyword] > 0)
    return Change("limit_tightened" if tighter else "limit_loosened", at, f"{keyword} {_was(old, new)}")


def _was(old: Any, new: Any) -> str:
    if old is _ABSENT:
        return f"is new: {_shown(new)}"
    return f"is gone; it was {_shown(old)}" if new is _ABSENT else f"was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
