"""Whether simple claims can hold of null, of a boolean, a number or a string."""

import string
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from typing import Any

from interlock.schemas.registry.proof.numbers import Numbers, Undecided
from interlock.schemas.registry.proof.pattern import Unreadable
from interlock.schemas.registry.proof.search import MISSING, Answer, Goals, Maybe, Search
from interlock.schemas.registry.proof.space import BOOLEAN, NULL, NUMBER, STRING, Doubt, Scalar, scalar
from interlock.schemas.registry.proof.texts import TooLarge, find

_LONGEST = 100_000
_BARRED_AT_MOST = 60
_LIKELY = (
    "", "a", "A", "0", "1", "aa", "AA", "00", "a0", "aA0", "A0", "abc", "ABC", "123", "-", "_", ".", "/", " ", "é", "a b", "a-b", "a_b",
    "a.b", "a@b.cd", "1.0", "1.0.0", "0x1f", "http://a.b", "https://a.b/c", "2000-01-01", "2000-01-01T00:00:00Z", "00:00",
    "00000000-0000-4000-8000-000000000000", "127.0.0.1", "+10000000000", "\n",
)  # fmt: skip


def solve_null(search: Search, leaf: Goals) -> Answer:
    return _listed(search, leaf, [Scalar(NULL, None)])


def solve_boolean(search: Search, leaf: Goals) -> Answer:
    return _listed(search, leaf, [Scalar(BOOLEAN, False), Scalar(BOOLEAN, True)])


def solve_number(search: Search, leaf: Goals) -> Answer:
    listed, barred = _enumerated(search, leaf, NUMBER)
    if listed is not None:
        return _listed(search, leaf, sorted(listed))
    asked = Numbers(barred={member.value for member in barred})
    for literal in leaf:
        op, args = search.space.node(literal)
        if (op, literal > 0) in (("minimum", True), ("maximum", False)):
            asked.at_least(args[0], args[1] if literal > 0 else not args[1])
        elif op in ("minimum", "maximum"):
            asked.at_most(args[0], args[1] if literal > 0 else not args[1])
        elif op == "multiple" and literal > 0:
            asked.multiple(args[0])
        elif op == "multiple":
            asked.off.append(args[0])
    try:
        found = asked.find()
    except Undecided:
        return Maybe()
    return None if found is None else Maybe(plain(found))


def plain(number: Fraction) -> Any:
    """As JSON writes it, if it does; a fraction that no double is may come out beside itself."""
    return number.numerator if number.denominator == 1 else float(number)


def solve_string(search: Search, leaf: Goals) -> Answer:
    listed, barred = _enumerated(search, leaf, STRING)
    if listed is not None:
        return _listed(search, leaf, sorted(listed))
    least, most = lengths(search, leaf, "length")
    if most is not None and least > most:
        return None
    wanted = [search.space.node(literal).args[0] for literal in leaf if literal > 0 and search.space.node(literal).op == "pattern"]
    unwanted = [search.space.node(literal).args[0] for literal in leaf if literal < 0 and search.space.node(literal).op == "pattern"]
    gone = {member.value for member in barred}
    if not wanted and not unwanted:
        return _any_text(least, most, gone)
    gone = {text for text in gone if all(search.matches(pattern, text) for pattern in wanted)}
    try:
        if len(gone) > _BARRED_AT_MOST:
            raise TooLarge("too many texts beside it are ruled out")
        found = find(sorted(wanted), sorted(unwanted), sorted(gone), (least, most), search.spend)
    except (Unreadable, TooLarge, RecursionError) as why:
        hint = next((text for text in (*search.hints(), *_LIKELY) if all(_holds(search, claim, scalar(text)) for claim in leaf)), None)
        if hint is not None:
            return Maybe(hint)
        return Maybe(doubts=frozenset([_doubt((wanted + unwanted)[0], str(why) or "it has too many ways to be read")]))
    return None if found is None else Maybe(found)


def _doubt(pattern: str, why: str) -> Doubt:
    shown = pattern if len(pattern) <= 60 else pattern[:60] + "…"
    return Doubt("pattern", shown, f"the pattern cannot be compared: {why}", "write a simpler pattern, or keep it as it was")


def _any_text(least: int, most: int | None, gone: set[str]) -> Answer:
    if most == 0:
        return None if "" in gone else Maybe("")
    if least > _LONGEST:
        return Maybe()
    likely = (char * length for char in string.ascii_lowercase for length in (least, least + 1, least + 2))
    counted = (str(number).zfill(least) for number in range(len(gone)))
    found = (text for text in chain(likely, counted) if text not in gone and (most is None or len(text) <= most))
    return Maybe(next(found, MISSING))


def lengths(search: Search, leaf: Goals, what: str) -> tuple[int, int | None]:
    """The least and the most that claims about this count allow."""
    least, most = 0, None
    low, high = f"min_{what}", f"max_{what}"
    for literal in leaf:
        op, args = search.space.node(literal)
        if op != low and op != high:
            continue
        if (op == low) is (literal > 0):
            least = max(least, args[0] if literal > 0 else args[0] + 1)
        else:
            bound = args[0] if literal > 0 else args[0] - 1
            most = bound if most is None else min(most, bound)
    return least, most


def _enumerated(search: Search, leaf: Goals, kind: int) -> tuple[set[Scalar] | None, set[Scalar]]:
    """The values that are listed, if any are, and those that are ruled out."""
    listed: set[Scalar] | None = None
    barred: set[Scalar] = set()
    for literal in leaf:
        op, args = search.space.node(literal)
        if op != "enum":
            continue
        members = {member for member in args[0] if member.kind == kind}
        if literal > 0:
            listed = members if listed is None else listed & members
        else:
            barred |= members
    return (None if listed is None else listed - barred), barred


def _listed(search: Search, leaf: Goals, members: Iterable[Scalar]) -> Answer:
    for member in members:
        if all(_holds(search, literal, member) for literal in leaf):
            return Maybe(plain(member.value) if member.kind == NUMBER else member.value)
    return None


def _holds(search: Search, literal: int, member: Scalar) -> bool:
    """Whether a simple claim holds of a value; an opaque one may."""
    op, args = search.space.node(literal)
    value = member.value
    found = True
    match op:
        case "opaque" | "reference":
            return True
        case "types":
            found = bool(args[0] & member.kind)
        case "enum":
            found = member in args[0]
        case "minimum":
            found = value > args[0] or (value == args[0] and not args[1])
        case "maximum":
            found = value < args[0] or (value == args[0] and not args[1])
        case "multiple":
            found = (value / args[0]).denominator == 1
        case "min_length":
            found = len(value) >= args[0]
        case "max_length":
            found = len(value) <= args[0]
        case "pattern":
            found = search.matches(args[0], value)
    return found is (literal > 0)
