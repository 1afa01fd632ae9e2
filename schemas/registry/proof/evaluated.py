"""What `unevaluatedProperties` and `unevaluatedItems` speak of: all that no schema beside them has looked at.

Which that is depends on which of those schemas hold. So each way in which they can hold or not is a case of its own: what must hold in
it, and what has been looked at then. In one case the keyword says no more than `additionalProperties` would.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from interlock.schemas.registry.proof.document import Place
from interlock.schemas.registry.proof.space import ARRAY, FALSE, OBJECT, TRUE

if TYPE_CHECKING:
    from interlock.schemas.registry.proof.reading import Reader

_MOST = 64


class TooManyCases(Exception):
    """What has been looked at cannot be told beforehand."""


class Case(NamedTuple):
    """`holds` must hold; then these properties and items have been looked at."""

    holds: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    every_property: bool = False
    prefix: int = 0
    every_item: bool = False
    contained: frozenset[int] = frozenset()

    def with_(self, other: Case) -> Case:
        return Case(
            self.holds | other.holds,
            self.names | other.names,
            self.patterns | other.patterns,
            self.every_property or other.every_property,
            max(self.prefix, other.prefix),
            self.every_item or other.every_item,
            self.contained | other.contained,
        )

    def silent(self) -> bool:
        """Nothing has been looked at."""
        return self._replace(holds=frozenset()) == Case()


def leftover(reader: Reader, place: Place, keyword: str, literal: int) -> int:
    """The claim of one `unevaluated…`, whose schema is `literal`."""
    space = reader.space
    found = []
    for case in _cases(reader, place, (), keyword):
        if keyword == "unevaluatedProperties":
            rest = TRUE if case.every_property else reader.rest(case.names, case.patterns, literal)
        else:
            rest = TRUE if case.every_item else reader.tail(case.prefix, space.either([literal, *case.contained]))
        found.append(space.both([*case.holds, rest]))
    kind = OBJECT if keyword == "unevaluatedProperties" else ARRAY
    return space.either([-space.types(kind), *found])


def nothing_else(reader: Reader, place: Place) -> int:
    """No property but those that the schema, in the case that applies, names; nothing where it names none in any case."""
    cases = _cases(reader, place, (), "")
    if all(not case.names and not case.patterns for case in cases):
        return TRUE
    found = [
        reader.space.both([*case.holds, TRUE if case.every_property else reader.rest(case.names, case.patterns, FALSE)]) for case in cases
    ]
    return reader.space.either([-reader.space.types(OBJECT), *found])


def _cases(reader: Reader, place: Place, via: tuple[str, ...], leaving_out: str = "") -> list[Case]:
    schema = place.schema
    if isinstance(schema, bool):
        return [Case()]
    if place.pointer in via:
        raise TooManyCases("it looks into a schema that refers to itself")
    via = (*via, place.pointer)
    parts = [[_own(reader, place, leaving_out)]] if not (reader.document.draft == 7 and "$ref" in schema) else []
    parts += _always(reader, place, via)
    if not (reader.document.draft == 7 and "$ref" in schema):
        parts += _sometimes(reader, place, via)
    found = [Case()]
    for part in parts:
        found = [one.with_(other) for one, other in product(found, part)]
        if len(found) > _MOST:
            raise TooManyCases("too many schemas beside it may hold or not")
    return found


def _own(reader: Reader, place: Place, leaving_out: str) -> Case:
    """What the keywords of this very schema look at, whether or not anything else holds."""
    schema, draft = place.schema, reader.document.draft
    listed = schema.get("prefixItems" if draft == 2020 else "items")
    prefix = len(listed) if isinstance(listed, list) else 0
    tail = "additionalItems" if draft < 2020 and isinstance(listed, list) else "items"
    if draft == 2019 and "contains" in schema and leaving_out == "unevaluatedItems":
        raise TooManyCases("validators differ on whether contains counts as having looked at an item in this dialect")
    contained = [reader.inside(reader.document.below(place, "contains"))] if draft == 2020 and "contains" in schema else []
    others = [word for word in ("additionalProperties", "unevaluatedProperties") if word in schema and word != leaving_out]
    return Case(
        names=frozenset(schema.get("properties", ())),
        patterns=frozenset(schema.get("patternProperties", ())),
        every_property=bool(others),
        prefix=prefix,
        every_item=tail in schema or ("unevaluatedItems" in schema and leaving_out != "unevaluatedItems"),
        contained=frozenset(contained),
    )


def _always(reader: Reader, place: Place, via: tuple[str, ...]) -> list[list[Case]]:
    """Of schemas that hold wherever this one holds."""
    parts = []
    for _, target in reader.referred(place):
        if target is None:
            raise TooManyCases("what a reference beside it points at depends on where it is used")
        parts.append(_cases(reader, target, via))
    if "allOf" in place.schema and not (reader.document.draft == 7 and "$ref" in place.schema):
        parts += [_cases(reader, reader.document.below(place, "allOf", at), via) for at in range(len(place.schema["allOf"]))]
    return parts


def _sometimes(reader: Reader, place: Place, via: tuple[str, ...]) -> list[list[Case]]:
    """Of schemas that may hold or not."""
    schema, below = place.schema, reader.document.below
    parts = []
    for keyword in ("anyOf", "oneOf"):
        for at in range(len(schema.get(keyword, ()))):
            branch = below(place, keyword, at)
            parts.append(_if(reader.read(branch), _cases(reader, branch, via), [Case()]))
    for keyword in ("dependentSchemas", "dependencies"):
        for name, needs in schema.get(keyword, {}).items():
            if isinstance(needs, dict | bool):
                parts.append(_if(reader.present(name), _cases(reader, below(place, keyword, name), via), [Case()]))
    if "if" in schema:
        condition = below(place, "if")
        then, otherwise = ([Case()] if word not in schema else _cases(reader, below(place, word), via) for word in ("then", "else"))
        held = [one.with_(other) for one, other in product(_cases(reader, condition, via), then)]
        parts.append(_if(reader.read(condition), held, otherwise))
    return parts


def _if(condition: int, held: list[Case], otherwise: list[Case]) -> list[Case]:
    if all(case.silent() and not case.holds for case in (*held, *otherwise)):
        return [Case()]
    return [
        *(case.with_(Case(holds=frozenset([condition]))) for case in held),
        *(case.with_(Case(holds=frozenset([-condition]))) for case in otherwise),
    ]
