"""Does one schema accept all that another accepts? Proved, refuted by a message, or in doubt.

What is looked for is a message that the one accepts and the other refuses. If the search proves that there is none, and the second
opinion does not say otherwise, inclusion holds. What it finds is tried on both validators before anybody believes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jsonschema_rs

from interlock.schemas.canonical import encode
from interlock.schemas.registry.proof import second
from interlock.schemas.registry.proof.arrays import solve_array
from interlock.schemas.registry.proof.document import Document
from interlock.schemas.registry.proof.objects import solve_object
from interlock.schemas.registry.proof.reading import Reader
from interlock.schemas.registry.proof.scalars import solve_boolean, solve_null, solve_number, solve_string
from interlock.schemas.registry.proof.search import MISSING, Search, Solver, TooMuch
from interlock.schemas.registry.proof.space import ARRAY, BOOLEAN, FALSE, NULL, NUMBER, OBJECT, STRING, Doubt, Space
from interlock.schemas.registry.replay import Refusal, refusal, tells_apart

SOLVERS: dict[int, Solver] = {
    NULL: solve_null,
    BOOLEAN: solve_boolean,
    NUMBER: solve_number,
    STRING: solve_string,
    ARRAY: solve_array,
    OBJECT: solve_object,
}

_SCHEMAS_AT_MOST = 20_000

_SIMPLER = "make the schemas simpler, or register the change as a new major"
TOO_MUCH = Doubt("$schema", "/", "the comparison takes more work than a check may", _SIMPLER)
TOO_DEEP = Doubt("$schema", "/", "the schemas are nested too deeply", _SIMPLER)
TOO_LARGE = Doubt("$schema", "/", "the schemas are too large to be compared", _SIMPLER)
NO_MESSAGE = Doubt(
    "$schema", "/", "no proof was found, and no message that is accepted no longer", "make the change smaller or of a simpler kind"
)
CONTRADICTED = Doubt("$schema", "/", "it was proved, and a second prover says that it is not so", "please report the two schemas")


@dataclass(frozen=True, slots=True)
class Side:
    """One schema of a comparison: called `old` or `new`, of a draft, with the validator that the bus would use."""

    name: str
    schema: Any
    encoded: bytes
    draft: int
    validator: jsonschema_rs.Validator
    formats: bool = False


class Inclusion(NamedTuple):
    """Proved where there is neither a refusal nor a doubt."""

    refusal: Refusal | None = None
    doubts: tuple[Doubt, ...] = ()

    def proved(self) -> bool:
        return self.refusal is None and not self.doubts


class Pair:
    """An old and a new schema, read once. `closed`: who writes sends only properties that its own schema names."""

    def __init__(self, old: Side, new: Side, closed: bool = False) -> None:
        self._closed = closed
        self._space = Space()
        self._old, self._new = old, new
        self._same = old.draft == new.draft and old.encoded == new.encoded
        self._read: list[tuple[int, int]] = []

    def backward(self) -> Inclusion:
        """Whether the new one accepts what the old one does."""
        return self._included(self._old, self._new)

    def forward(self) -> Inclusion:
        """Whether the old one accepts what the new one does."""
        return self._included(self._new, self._old)

    def _included(self, writer: Side, reader: Side) -> Inclusion:
        if self._same:
            return Inclusion()
        try:
            if not self._read and any(_is_too_large(side) for side in (self._old, self._new)):
                return Inclusion(doubts=(TOO_LARGE,))
            if not self._read:
                self._read = [self._of(side, number) for number, side in enumerate((self._old, self._new))]
            read = dict(zip((self._old.name, self._new.name), self._read, strict=True))
            return _included(self._space, (writer, read[writer.name][0]), (reader, read[reader.name][1]), self._closed)
        except RecursionError:
            return Inclusion(doubts=(TOO_DEEP,))

    def _of(self, side: Side, number: int) -> tuple[int, int]:
        """What it says as a writer's schema and as a reader's."""
        read = Reader(Document(side.schema, side.encoded, side.draft, number), self._space, side.formats).top()
        if not self._closed:
            return read, read
        return Reader(Document(side.schema, side.encoded, side.draft, number + 2), self._space, side.formats, closed=True).top(), read


def _included(space: Space, writer: tuple[Side, int], reader: tuple[Side, int], closed: bool) -> Inclusion:
    (old, accepted), (new, required) = writer, reader
    goals = frozenset((accepted, -required))
    if FALSE in goals or accepted == required:
        return Inclusion()
    search = Search(space, SOLVERS, hints=partial(_hints, old.schema, new.schema))
    doubts: dict[Doubt, None] = {}
    try:
        for answer in search.answers(goals):
            if answer.value is not MISSING and tells_apart(old.validator, new.validator, answer.value):
                return _refused(old, new, answer.value)
            doubts |= dict.fromkeys(answer.doubts or (NO_MESSAGE,))
    except TooMuch:
        doubts = {TOO_MUCH: None}
    if not doubts:
        return Inclusion(doubts=(CONTRADICTED,)) if not closed and _contradicted(old, new) else Inclusion()
    if not closed:
        for guess in _guesses(old, new):
            if tells_apart(old.validator, new.validator, guess):
                return _refused(old, new, guess)
    real = [doubt for doubt in doubts if doubt is not NO_MESSAGE] or [NO_MESSAGE]
    return Inclusion(doubts=tuple(sorted(real)))


def _is_too_large(side: Side) -> bool:
    """It is made of more objects than can be read in the time that a check may take."""
    if len(side.encoded) < _SCHEMAS_AT_MOST * 2:
        return False
    count, todo = 0, [side.schema]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo.extend(part)
        elif isinstance(part, dict):
            count += 1
            todo.extend(part.values())
    return count > _SCHEMAS_AT_MOST


def _refused(old: Side, new: Side, message: Any) -> Inclusion:
    return Inclusion(refusal(old.validator, new.validator, message, (old.name, new.name)))


def _contradicted(old: Side, new: Side) -> bool:
    return old.draft == new.draft and second.opinion(new.schema, old.schema, new.draft, new.formats) == "no"


def _guesses(old: Side, new: Side) -> Iterator[Any]:
    """Messages that may tell them apart: of what the second prover says is lost, then all that the schemas show as examples."""
    if old.draft == new.draft:
        lost = second.difference(old.schema, new.schema, old.draft, old.formats)
        space = Space()
        search = Search(space, SOLVERS)
        try:
            goals = frozenset([Reader(Document(lost, encode(lost), old.draft), space, old.formats).top()])
            yield from (answer.value for answer in search.answers(goals) if FALSE not in goals and answer.value is not MISSING)
        except (TooMuch, RecursionError):
            pass
    yield from _shown(old.schema)
    yield from _shown(new.schema)


def _shown(schema: Any) -> Iterator[Any]:
    """Every value that a schema spells out."""
    todo = [schema]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo.extend(part)
        elif isinstance(part, dict):
            yield from (part[keyword] for keyword in ("const", "default", "example") if keyword in part)
            for keyword in ("enum", "examples"):
                if isinstance(part.get(keyword), list):
                    yield from part[keyword]
            todo.extend(part.values())


def _hints(*schemas: Any) -> tuple[str, ...]:
    """Texts that a pattern which nobody here understands may find something in."""
    found = dict.fromkeys(value for schema in schemas for value in _shown(schema) if isinstance(value, str))
    return tuple(found)
