"""Whether simple claims can hold of an object: which properties it must have, which it may, and what each must be.

Names fall into those that some claim mentions, each looked at for itself, and all others, which are told apart only by the patterns that
they match. A claim that *some* property is wrong (the opposite of `properties`, `patternProperties`, `additionalProperties`,
`propertyNames`) is a demand: it is impossible when no name can meet it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from interlock.schemas.registry.proof.scalars import lengths
from interlock.schemas.registry.proof.search import MISSING, Answer, Goals, Maybe, Search
from interlock.schemas.registry.proof.space import STRING, TRUE, Doubt, Scalar

_PATTERNS_AT_MOST = 7
_FILLED_AT_MOST = 200

_CROWDED = Doubt("patternProperties", "/", "too many patterns may share a name", "use fewer patterns, or plain properties")


class _Demand(NamedTuple):
    """Some property, with a name of this kind, of which `value` holds."""

    value: int = TRUE
    name: int = TRUE
    pattern: str | None = None
    not_named: frozenset[str] = frozenset()
    not_matching: tuple[str, ...] = ()


@dataclass
class _Object:
    search: Search
    least: int
    most: int | None
    properties: dict[str, list[int]] = field(default_factory=dict)
    matching: list[tuple[str, int]] = field(default_factory=list)
    rests: list[tuple[frozenset[str], tuple[str, ...], int]] = field(default_factory=list)
    names: list[int] = field(default_factory=list)
    present: dict[str, list[int]] = field(default_factory=dict)
    """Names that it must have, and what holds of those values beyond the rules."""
    absent: set[str] = field(default_factory=set)
    demands: list[_Demand] = field(default_factory=list)
    doubts: set[Doubt] = field(default_factory=set)

    def take(self, leaf: Goals) -> None:
        for literal in sorted(leaf):
            op, args = self.search.space.node(literal)
            if literal > 0:
                self._allowed(op, args)
            else:
                self._demanded(op, args)

    def _allowed(self, op: str, args: tuple[Any, ...]) -> None:
        match op:
            case "property":
                self.properties.setdefault(args[0], []).append(args[1])
            case "has":
                self.present.setdefault(args[0], [])
            case "matching":
                self.matching.append((args[0], args[1]))
            case "rest":
                self.rests.append((args[0], args[1], args[2]))
            case "names":
                self.names.append(args[0])

    def _demanded(self, op: str, args: tuple[Any, ...]) -> None:
        match op:
            case "property":
                self.present.setdefault(args[0], []).append(-args[1])
            case "has":
                self.absent.add(args[0])
            case "matching":
                self.demands.append(_Demand(-args[1], pattern=args[0]))
            case "rest":
                self.demands.append(_Demand(-args[2], not_named=args[0], not_matching=args[1]))
            case "names":
                self.demands.append(_Demand(name=-args[0]))

    def solve(self) -> Answer:
        if self.absent & self.present.keys() or (self.most is not None and self.least > self.most):
            return None
        for name in sorted(self.present, key=lambda name: not self.present[name]):
            if self._named(name) is None:
                return None
        if self.most is not None and len(self.present) > self.most:
            return None
        for demand in self.demands:
            if not self._meet(demand):
                return None
        if not self._fill():
            return None
        if self.most is not None and len(self.present) > self.most:
            return Maybe()
        return self._built()

    def _built(self) -> Answer:
        value: dict[str, Any] = {}
        for name in self.present:
            answer = self._named(name)
            if answer is None or answer.value is MISSING:
                # What two demands ask of one name need not go together; another choice of names might.
                return Maybe(doubts=answer.doubts if answer else frozenset())
            self.doubts |= answer.doubts
            value[name] = answer.value
        return Maybe(value, frozenset(self.doubts))

    # --- one property -----------------------------------------------------------------------------------------------

    def _rules(self, name: str) -> list[int]:
        """What the rules say of the value of a property of this name."""
        found = list(self.properties.get(name, ()))
        found += [literal for pattern, literal in self.matching if self.search.matches(pattern, name)]
        for named, patterns, literal in self.rests:
            if name not in named and not any(self.search.matches(pattern, name) for pattern in patterns):
                found.append(literal)
        return found

    def _named(self, name: str, extra: Iterable[int] = ()) -> Answer:
        if self.names and self._may_be_called(name) is None:
            return None
        return self.search.ask(frozenset((*self._rules(name), *self.present.get(name, ()), *extra)))

    def _may_be_called(self, name: str, *more: int) -> Answer:
        literal = self.search.space.one_of_scalars([Scalar(STRING, name)])
        return self.search.ask(frozenset((literal, *self.names, *more)))

    def _mentioned(self) -> list[str]:
        names = {*self.properties, *self.present, *(name for named, _, _ in self.rests for name in named)}
        names.update(name for demand in self.demands for name in demand.not_named)
        return sorted(names - self.absent, key=lambda name: (name not in self.present, name))

    # --- some property ----------------------------------------------------------------------------------------------

    def _meet(self, demand: _Demand) -> bool:
        """Give the demand a property; false where no name can meet it."""
        room = self.most is None or len(self.present) < self.most
        possible: tuple[str | None, Maybe] | None = None
        for name, answer in self._candidates(demand, room):
            if possible is None or (answer.sure() and not possible[1].sure()):
                possible = name, answer
            if answer.sure():
                break
        if possible is None:
            return False
        name, answer = possible
        if name is not None:
            self.present.setdefault(name, []).append(demand.value)
        self.doubts |= answer.doubts
        return True

    def _candidates(self, demand: _Demand, room: bool) -> Iterator[tuple[str | None, Maybe]]:
        if room:
            yield from self._fresh(demand)
        for name in self._mentioned():
            if (room or name in self.present) and self._is_of(name, demand):
                answer = self._named(name, [demand.value])
                if answer is not None:
                    yield name, answer

    def _is_of(self, name: str, demand: _Demand) -> bool:
        if demand.pattern is not None and not self.search.matches(demand.pattern, name):
            return False
        if name in demand.not_named or any(self.search.matches(pattern, name) for pattern in demand.not_matching):
            return False
        return demand.name == TRUE or self._may_be_called(name, demand.name) is not None

    def _fresh(self, demand: _Demand) -> Iterator[tuple[str | None, Maybe]]:
        """Names that nothing mentions, one of each kind that the patterns tell apart; no name where none is at hand."""
        space = self.search.space
        patterns = {pattern for pattern, _ in self.matching} | {pattern for _, several, _ in self.rests for pattern in several}
        patterns |= {demand.pattern} if demand.pattern is not None else set()
        patterns |= set(demand.not_matching)
        if len(patterns) > _PATTERNS_AT_MOST:
            yield None, Maybe(doubts=frozenset([_CROWDED]))
            return
        ordered = sorted(patterns)
        mentioned = {*self._mentioned(), *self.absent}
        barred = [-space.one_of_scalars([Scalar(STRING, name) for name in mentioned])] if mentioned else []
        for signs in product((False, True), repeat=len(ordered)):
            held = {pattern for pattern, sign in zip(ordered, signs, strict=True) if sign}
            if (demand.pattern is not None and demand.pattern not in held) or held & set(demand.not_matching):
                continue
            value = self.search.ask(frozenset(self._fresh_rules(held, demand)))
            if value is None:
                continue
            kinds = [space.claim("pattern", pattern) * (1 if pattern in held else -1) for pattern in ordered]
            goals = frozenset((space.types(STRING), *kinds, *barred, *self.names, demand.name))
            # A name that can be seen, if one will do.
            name = self.search.ask(goals | {space.claim("min_length", 1)}) or self.search.ask(goals)
            if name is not None:
                found = None if name.value is MISSING else name.value
                yield found, Maybe(value.value if found is not None else MISSING, value.doubts | name.doubts)

    def _fresh_rules(self, held: set[str], demand: _Demand) -> Iterator[int]:
        yield demand.value
        yield from (literal for pattern, literal in self.matching if pattern in held)
        yield from (literal for _, patterns, literal in self.rests if not held & set(patterns))

    # --- enough properties ------------------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Add properties until there are enough; false where there cannot be."""
        if len(self.present) >= self.least:
            return True
        unsure = 0
        for name in self._mentioned():
            if len(self.present) >= self.least:
                return True
            if name in self.present:
                continue
            answer = self._named(name)
            if answer is not None and answer.sure():
                self.present[name] = []
            elif answer is not None:
                unsure += 1
        for _ in range(min(self.least - len(self.present), _FILLED_AT_MOST)):
            fresh = next((found for found in self._fresh(_Demand()) if found[1].sure()), None)
            if fresh is None or fresh[0] is None:
                break
            self.present[fresh[0]] = []
        if len(self.present) >= self.least:
            return True
        if len(self.present) + unsure < self.least and next(self._fresh(_Demand()), None) is None:
            return False
        self.doubts.add(Doubt("minProperties", "/", "no object with enough properties was found", "ask for fewer properties"))
        return True


def solve_object(search: Search, leaf: Goals) -> Answer:
    least, most = lengths(search, leaf, "size")
    asked = _Object(search, least, most)
    asked.take(leaf)
    return asked.solve()
