"""Is there a text that some patterns find and others do not, of a length between two bounds? If so, a short one.

The patterns are read side by side, character by character, by their derivatives; characters that none of them tells apart are one.
"""

from collections.abc import Callable
from functools import lru_cache

from interlock.schemas.registry.proof.pattern import (
    ANYTHING,
    BEGIN,
    EMPTY,
    END,
    LAST,
    NOTHING,
    TEXT,
    Ranges,
    Term,
    choice,
    language,
    literally,
    nullable,
    repeated,
    sequence,
)

STATES = 20_000
"""Most steps that are taken; a search that needs more is given up."""

_PAID_EVERY = 8

State = tuple[Term, ...]


class TooLarge(Exception):
    """The patterns have too many ways to be read together."""


def find(
    wanted: list[str], unwanted: list[str], barred: list[str], lengths: tuple[int, int | None], spend: Callable[[], None]
) -> str | None:
    """A text in which all `wanted` patterns are found and no `unwanted`, and that is none of those `barred`; `None`: there is none.

    `lengths` are the least and the most; `spend` is called now and then and may raise to give the search up.
    """
    start: State = (*map(language, wanted), *map(language, unwanted), *map(literally, barred))
    return _Search(start, len(wanted), spend).run(*lengths)


class _Search:
    def __init__(self, start: State, wanted: int, spend: Callable[[], None]) -> None:
        self._wanted, self._pay = wanted, spend
        self._alphabet = _representatives(start)
        self._start = tuple(_after(term, BEGIN) for term in start)
        self._spent = 0

    def run(self, least: int, most: int | None) -> str | None:
        if self._dead(self._start):
            return None
        level: dict[State, str] = {self._start: ""}
        seen: set[State] = set()
        length = 0
        while level and (most is None or length <= most):
            if length >= least:
                for state, text in level.items():
                    if self._accepts(state):
                        return text
                seen.update(level)
            onward: dict[State, str] = {}
            for state, text in level.items():
                for char in self._alphabet:
                    self._spend()
                    after = tuple(_after(term, char) for term in state)
                    if after not in onward and not self._dead(after) and (length + 1 < least or after not in seen):
                        onward[after] = text + chr(char)
            level = onward
            length += 1
        return None

    def _spend(self) -> None:
        self._spent += 1
        if self._spent % _PAID_EVERY == 0:
            self._pay()
        if self._spent > STATES:
            raise TooLarge

    def _accepts(self, state: State) -> bool:
        ends = [nullable(_after(term, END)) for term in state]
        return all(ends[: self._wanted]) and not any(ends[self._wanted :])

    def _dead(self, state: State) -> bool:
        return NOTHING in state[: self._wanted] or ANYTHING in state[self._wanted :]


@lru_cache(maxsize=65536)
def _after(term: Term, char: int) -> Term:
    """What is left to be read of a term when this character has been read."""
    match term:
        case ("chars", ranges):
            return EMPTY if any(low <= char <= high for low, high in ranges) else NOTHING
        case ("star", inner):
            return sequence(_after(inner, char), term)
        case ("repeat", inner, int(least), most):
            fewer = None if most is None else most - 1
            return sequence(_after(inner, char), repeated(inner, max(least - 1, 0), fewer))
        case ("sequence", first, then):
            found = sequence(_after(first, char), then)
            return choice([found, _after(then, char)]) if nullable(first) else found
        case ("choice", terms):
            return choice([_after(inner, char) for inner in terms])
    return NOTHING


def _representatives(state: State) -> list[int]:
    """One character of each kind that the terms tell apart, the most readable of it."""
    classes: set[Ranges] = set()
    for term in state:
        _collect(term, classes)
    edges = sorted({0, 0xE000, *(low for ranges in classes for low, _ in ranges), *(high + 1 for ranges in classes for _, high in ranges)})
    kinds: dict[tuple[bool, ...], int] = {}
    for low, high in zip(edges, [*edges[1:], LAST + 1], strict=True):
        if low < 0 or 0xD800 <= low <= 0xDFFF or low > LAST:
            continue
        kind = tuple(any(a <= low <= b for a, b in ranges) for ranges in classes)
        best = next((ord(char) for char in "a0A _-" if low <= ord(char) < high), None)
        char = best if best is not None else max(low, 33) if low < 127 and high > 33 else low
        if kind not in kinds or (best is not None and not 48 <= kinds[kind] <= 122):
            kinds[kind] = char
    return list(kinds.values())


def _collect(term: object, classes: set[Ranges]) -> None:
    if isinstance(term, tuple) and term and term[0] == "chars":
        if term[1] not in (TEXT, ((BEGIN, END), *TEXT)):
            classes.add(term[1])
        return
    if isinstance(term, tuple | frozenset):
        for inner in term:
            _collect(inner, classes)
