"""Patterns as languages: the part of ECMA-262 that can be reasoned about, in the meaning that the validators give it.

A pattern finds its match anywhere, so where it begins and ends is written with two marks that no text holds: `^` reads the one before the
text, `$` the one after it. Everything else (look-around, back references, words' edges, properties of characters) is refused:
`Unreadable`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

BEGIN, END = -2, -1
LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]
Term = tuple[Any, ...]

EMPTY: Term = ("empty",)
NOTHING: Term = ("nothing",)
"""The empty text, and no text at all."""


class Unreadable(ValueError):
    """This pattern is beyond what can be reasoned about here."""


def chars(ranges: Ranges) -> Term:
    return ("chars", ranges) if ranges else NOTHING


TEXT: Ranges = ((0, 0xD7FF), (0xE000, LAST))
ANYTHING: Term = ("star", ("chars", ((BEGIN, END), *TEXT)))

_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = (
    (9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F),
    (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_SYNTAX = "^$\\.*+?()[]{}|/-"
"""What stands for itself behind a backslash; of anything else the validators make what they will."""
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}
_MOST_REPEATED = 4096


def joined(*many: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    for low, high in sorted(pair for ranges in many for pair in ranges):
        if found and low <= found[-1][1] + 1 and low >= 0:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def without(ranges: Ranges) -> Ranges:
    """All characters but these."""
    found, at = [], 0
    for low, high in joined(ranges, ((0xD800, 0xDFFF),)):
        if at < low:
            found.append((at, low - 1))
        at = high + 1
    return (*found, (at, LAST)) if at <= LAST else tuple(found)


def sequence(first: Term, then: Term) -> Term:
    if NOTHING in (first, then):
        return NOTHING
    if first == EMPTY:
        return then
    if then == EMPTY:
        return first
    if then == ANYTHING and nullable(first):
        return ANYTHING
    if first[0] == "sequence":
        return ("sequence", first[1], sequence(first[2], then))
    return ("sequence", first, then)


def choice(terms: list[Term]) -> Term:
    flat: set[Term] = set()
    for term in terms:
        flat.update(term[1] if term[0] == "choice" else [term])
    flat.discard(NOTHING)
    if ANYTHING in flat:
        return ANYTHING
    if len(flat) < 2:
        return next(iter(flat), NOTHING)
    return ("choice", frozenset(flat))


def repeated(term: Term, least: int, most: int | None) -> Term:
    if most == 0 or term == EMPTY:
        return EMPTY
    if term == NOTHING:
        return EMPTY if least == 0 else NOTHING
    if (least, most) == (1, 1):
        return term
    if (least, most) == (0, None):
        return term if term[0] == "star" else ("star", term)
    return ("repeat", term, least, most)


@lru_cache(maxsize=65536)
def nullable(term: Term) -> bool:
    match term:
        case ("empty",) | ("star", _):
            return True
        case ("sequence", first, then):
            return nullable(first) and nullable(then)
        case ("choice", terms):
            return any(nullable(inner) for inner in terms)
        case ("repeat", inner, least, _):
            return least == 0 or nullable(inner)
    return False


@lru_cache(maxsize=512)
def language(pattern: str) -> Term:
    """All marked texts in which the pattern is found."""
    body = _Parser(pattern).whole()
    return sequence(ANYTHING, sequence(body, ANYTHING))


def literally(text: str) -> Term:
    """Exactly this text."""
    found: Term = chars(((END, END),))
    for char in reversed(text):
        found = sequence(chars(((ord(char), ord(char)),)), found)
    return sequence(chars(((BEGIN, BEGIN),)), found)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def whole(self) -> Term:
        found, _, _ = self._choice(0)
        if self._at < len(self._text):
            raise Unreadable(f"{self._text[self._at]!r} is out of place")
        return found

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise Unreadable("it ends too early")
        self._at += 1
        return char

    def _choice(self, depth: int) -> tuple[Term, bool, bool]:
        """A term, and whether it may read the mark of the beginning, of the end."""
        if depth > 50:
            raise Unreadable("it is nested too deeply")
        parts = [self._sequence(depth)]
        while self._peek() == "|":
            self._take()
            parts.append(self._sequence(depth))
        return choice([part[0] for part in parts]), any(part[1] for part in parts), any(part[2] for part in parts)

    def _sequence(self, depth: int) -> tuple[Term, bool, bool]:
        terms, begins, ends = [], False, False
        while self._peek() not in ("", "|", ")"):
            term, begin, end = self._item(depth)
            if (begins and begin) or (ends and end):
                raise Unreadable("it asks for its beginning or its end twice")
            if ends and begin:
                raise Unreadable("it asks for its beginning after its end")
            begins, ends = begins or begin, ends or end
            terms.append(term)
        found = EMPTY
        for term in reversed(terms):
            found = sequence(term, found)
        return found, begins, ends

    def _item(self, depth: int) -> tuple[Term, bool, bool]:
        term, begins, ends = self._atom(depth)
        bounds = self._quantity()
        if bounds is None:
            return term, begins, ends
        if begins or ends:
            raise Unreadable("it repeats its beginning or its end")
        return repeated(term, *bounds), False, False

    def _atom(self, depth: int) -> tuple[Term, bool, bool]:
        char = self._take()
        if char == "^":
            return chars(((BEGIN, BEGIN),)), True, False
        if char == "$":
            return chars(((END, END),)), False, True
        if char == "(":
            return self._group(depth)
        plain: dict[str, Callable[[], Ranges]] = {".": lambda: without(((10, 10),)), "[": self._class, "\\": self._escape}
        if char in plain:
            return chars(plain[char]()), False, False
        if char in "*+?{}])":
            raise Unreadable(f"{char!r} is out of place")
        return chars(((ord(char), ord(char)),)), False, False

    def _group(self, depth: int) -> tuple[Term, bool, bool]:
        if self._peek() == "?":
            self._take()
            if self._take() != ":":
                raise Unreadable("it looks around, or names a group")
        found = self._choice(depth + 1)
        if self._peek() != ")":
            raise Unreadable("a group has no end")
        self._take()
        return found

    def _quantity(self) -> tuple[int, int | None] | None:
        char = self._peek()
        if char not in ("*", "+", "?", "{") or not char:
            return None
        self._take()
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        bounds = simple[char] if char in simple else self._counts()
        if self._peek() == "?":  # lazy: finds the same texts
            self._take()
        if self._peek() in ("*", "+", "{") and self._peek():
            raise Unreadable("it repeats a repetition")
        return bounds

    def _counts(self) -> tuple[int, int | None]:
        inside, found, _ = self._text[self._at :].partition("}")
        least, comma, most = inside.partition(",")
        if not found or not least.isdecimal() or (most and not most.isdecimal()):
            raise Unreadable("its braces hold no count")
        self._at += len(inside) + 1
        bounds = int(least), (int(most) if most else None) if comma else int(least)
        if max(bounds[0], bounds[1] or 0) > _MOST_REPEATED or (bounds[1] is not None and bounds[1] < bounds[0]):
            raise Unreadable("it repeats too often")
        return bounds

    def _escape(self) -> Ranges:
        char = self._take()
        if char.lower() in _CLASSES:
            return _CLASSES[char] if char.islower() else without(_CLASSES[char.lower()])
        if char in _CONTROLS:
            return ((_CONTROLS[char], _CONTROLS[char]),)
        if char in ("x", "u"):
            return self._code(2 if char == "x" else 4)
        if char not in _SYNTAX:
            raise Unreadable(f"\\{char} cannot be reasoned about")
        return ((ord(char), ord(char)),)

    def _code(self, length: int) -> Ranges:
        digits = "".join(self._take() for _ in range(length))
        if not all(digit in "0123456789abcdefABCDEF" for digit in digits) or 0xD800 <= int(digits, 16) <= 0xDFFF:
            raise Unreadable("it writes a character by a code that is none")
        return ((int(digits, 16), int(digits, 16)),)

    def _class(self) -> Ranges:
        negated = self._peek() == "^"
        if negated:
            self._take()
        found: list[Ranges] = []
        while self._peek() != "]":
            low = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                high = self._member()
                if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1] or low[0][0] > high[0][0]:
                    raise Unreadable("a class has a range that is none")
                low = ((low[0][0], high[0][0]),)
            found.append(low)
        self._take()
        if not found:
            raise Unreadable("a class is empty")
        ranges = joined(*found)
        return without(ranges) if negated else without(without(ranges))

    def _member(self) -> Ranges:
        char = self._take()
        if char == "\\":
            return self._escape()
        if char == "[" or self._text[self._at - 1 : self._at + 1] in ("&&", "--", "~~"):
            raise Unreadable("a class holds another one")
        return ((ord(char), ord(char)),)
