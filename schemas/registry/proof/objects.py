"""Whether simple claims can hold of an object: which properties it must have, which it may, and what each must be.

Names fall into those that some claim mentions, each looked at for itself, and all others, which are told apart only by the patterns that
they match. A claim that *some* property is wrong (the opposite of `properties`, `patternProperties`, `additionalProperties`,
`propertyNames`) is a demand: it is impossible when no name can meet it. Several may meet in one property or each have its own; only where
every choice fails is there no such object.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from interlock.schemas.registry.proof.scalars import lengths
from interlock.schemas.registry.proof.search import MISSING, Answer, Goals, Maybe, Search
from interlock.schemas.registry.proof.space import STRING, Doubt, Scalar

_PATTERNS_AT_MOST = 7
_FILLED_AT_MOST = 200
_TRIED_AT_MOST = 100
_NAMES_AT_MOST = 4

_CROWDED = Doubt("patternProperties", "/", "too many patterns may share a name", "use fewer patterns, or plain properties")


class _Demand(NamedTuple):
    """Some property, of whose value and name these hold, and whose name these patterns find, or do not."""

    values: frozenset[int] = frozenset()
    names: frozenset[int] = frozenset()
    matching: frozenset[str] = frozenset()
    not_named: frozenset[str] = frozenset()
    not_matching: frozenset[str] = frozenset()

    def and_also(self, other: "_Demand") -> "_Demand":
        return _Demand(
            self.values | other.values,
            self.names | other.names,
            self.matching | other.matching,
            self.not_named | other.not_named,
            self.not_matching | other.not_matching,
        )


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
    known: list[str] = field(default_factory=list)
    """Names that are looked at each for itself, whether or not it has them."""
    unnamed: list[_Demand] = field(default_factory=list)
    """Properties that it must have, of another name than these."""
    tried: int = 0
    given_up: bool = False
    """Not every choice was looked at."""

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
                self.demands.append(_Demand(frozenset([-args[1]]), matching=frozenset([args[0]])))
            case "rest":
                self.demands.append(_Demand(frozenset([-args[2]]), not_named=args[0], not_matching=frozenset(args[1])))
            case "names":
                self.demands.append(_Demand(names=frozenset([-args[0]])))

    def solve(self) -> Answer:
        if self.absent & self.present.keys() or (self.most is not None and self.least > self.most):
            return None
        for name in sorted(self.present, key=lambda name: not self.present[name]):
            if self._named(name) is None:
                return None
        if self.most is not None and len(self.present) > self.most:
            return None
        self.known = self._mentioned()
        self._spell_out()
        wishes = [(demand, self._places(demand)) for demand in self.demands]
        if any(not places for _, places in wishes):
            return None
        wishes.sort(key=lambda wish: (None in wish[1], len(wish[1])))
        best: Answer = None
        for _ in self._met(wishes):
            answer = self._solved()
            if answer is not None and answer.sure():
                return answer
            best = answer if best is None or (answer is not None and best.value is MISSING) else best
        return Maybe() if best is None and self.given_up else best

    def _solved(self) -> Answer:
        """The answer for one choice of which property meets which demand."""
        present, doubts = self.present, self.doubts
        self.present, self.doubts = dict(present), set(doubts)
        try:
            if not self._christen():
                return Maybe(doubts=frozenset(self.doubts))
            if not self._fill():
                return None
            if self.most is not None and len(self.present) > self.most:
                return Maybe()
            return self._built()
        finally:
            self.present, self.doubts = present, doubts

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

    def _spell_out(self) -> None:
        """Where there are only a few other names, each is looked at for itself."""
        if not self.names or len(self.demands) < 2:
            return
        found: list[str] = []
        for _ in range(_NAMES_AT_MOST):
            answer = self._unmentioned((), {*self.known, *self.absent, *found})
            if answer is None:
                self.known += found
                return
            if not answer.sure():
                return
            found.append(answer.value)

    def _places(self, demand: _Demand) -> list[str | None]:
        """The names that could meet this demand if it were alone; `None` for all those that nothing mentions."""
        named = [name for name in self.known if self._is_of(name, demand) and self._named(name, demand.values) is not None]
        return [None, *named] if self._fresh(demand) else [*named]

    def _met(self, wishes: list[tuple[_Demand, list[str | None]]]) -> Iterator[None]:
        """Each choice of a property for each demand: while it is looked at, what they ask is asked there."""
        if not wishes:
            yield
            return
        (demand, places), *others = wishes
        room = self.most is None or len(self.present) + len(self.unnamed) < self.most
        for name in places:
            if name is None and room and not self._tired():
                self.unnamed.append(demand)
                yield from self._met(others)
                self.unnamed.pop()
            elif name is not None and (room or name in self.present) and not self._tired() and self._named(name, demand.values) is not None:
                before = self.present.get(name)
                self.present[name] = [*(before or ()), *demand.values]
                yield from self._met(others)
                if before is None:
                    del self.present[name]
                else:
                    self.present[name] = before
        for at, group in enumerate(self.unnamed if None in places else ()):
            both = group.and_also(demand)
            if not self._tired() and self._fresh(both):
                self.unnamed[at] = both
                yield from self._met(others)
                self.unnamed[at] = group

    def _tired(self) -> bool:
        """Enough choices were looked at."""
        if not self.given_up:
            self.search.spend()
            self.tried += 1
            self.given_up = self.tried > _TRIED_AT_MOST
        return self.given_up

    def _christen(self) -> bool:
        """Name the unnamed; false where no name is at hand."""
        for demand in self.unnamed:
            found = self._fresh(demand, self.present)
            if found is None:
                return False
            self.doubts |= found[1].doubts
            if found[0] is not None:
                self.present[found[0]] = list(demand.values)
        return True

    def _is_of(self, name: str, demand: _Demand) -> bool:
        if name in demand.not_named or not all(self.search.matches(pattern, name) for pattern in demand.matching):
            return False
        if any(self.search.matches(pattern, name) for pattern in demand.not_matching):
            return False
        return not demand.names or self._may_be_called(name, *demand.names) is not None

    def _fresh(self, demand: _Demand, taken: Iterable[str] = ()) -> tuple[str | None, Maybe] | None:
        """The surest name that nothing mentions and that may meet this; no name where none is at hand, `None` where there is none."""
        best: tuple[str | None, Maybe] | None = None
        for found in self._kinds_of_names(demand, {*self.known, *self.absent, *taken}):
            if found[1].sure():
                return found
            best = best or found
        return best

    def _kinds_of_names(self, demand: _Demand, barred: set[str]) -> Iterator[tuple[str | None, Maybe]]:
        """One of each kind that the patterns tell apart."""
        patterns = {pattern for pattern, _ in self.matching} | {pattern for _, several, _ in self.rests for pattern in several}
        ordered = sorted(patterns | demand.matching | demand.not_matching)
        if len(ordered) > _PATTERNS_AT_MOST:
            yield None, Maybe(doubts=frozenset([_CROWDED]))
            return
        for signs in product((False, True), repeat=len(ordered)):
            held = {pattern for pattern, sign in zip(ordered, signs, strict=True) if sign}
            if not demand.matching <= held or held & demand.not_matching:
                continue
            value = self.search.ask(demand.values.union(self._fresh_rules(held)))
            if value is None:
                continue
            kinds = [self.search.space.claim("pattern", pattern) * (1 if pattern in held else -1) for pattern in ordered]
            name = self._unmentioned((*kinds, *demand.names), barred)
            if name is not None:
                found = None if name.value is MISSING else name.value
                yield found, Maybe(value.value if found is not None else MISSING, value.doubts | name.doubts)

    def _unmentioned(self, claims: Iterable[int], barred: set[str]) -> Answer:
        """A name of which these hold, and not one of `barred`; one that can be seen, if it will do."""
        space = self.search.space
        others = [-space.one_of_scalars([Scalar(STRING, name) for name in barred])] if barred else []
        goals = frozenset((space.types(STRING), *claims, *others, *self.names))
        return self.search.ask(goals | {space.claim("min_length", 1)}) or self.search.ask(goals)

    def _fresh_rules(self, held: set[str]) -> Iterator[int]:
        yield from (literal for pattern, literal in self.matching if pattern in held)
        yield from (literal for _, patterns, literal in self.rests if not held & set(patterns))

    # --- enough properties ------------------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Add properties until there are enough; false where there cannot be."""
        if len(self.present) >= self.least:
            return True
        unsure = 0
        for name in self.known:
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
            fresh = self._fresh(_Demand(), self.present)
            if fresh is None or fresh[0] is None or not fresh[1].sure():
                break
            self.present[fresh[0]] = []
        if len(self.present) >= self.least:
            return True
        if len(self.present) + unsure < self.least and self._fresh(_Demand(), self.present) is None:
            return False
        self.doubts.add(Doubt("minProperties", "/", "no object with enough properties was found", "ask for fewer properties"))
        return True


def solve_object(search: Search, leaf: Goals) -> Answer:
    least, most = lengths(search, leaf, "size")
    asked = _Object(search, least, most)
    asked.take(leaf)
    return asked.solve()
