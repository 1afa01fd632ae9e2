"""Whether simple claims can hold of an array: how long it can be, and what can stand where.

Each position that some claim speaks of is looked at for itself; all later ones are alike, and the first of them stands for all.
What some item is to be may find its place at several positions, and the first need not be the right one: only where every choice of
places fails is there no such array.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from interlock.schemas.registry.proof.scalars import lengths
from interlock.schemas.registry.proof.search import MISSING, Answer, Goals, Maybe, Search

_BUILT_AT_MOST = 300
_PAIRS_AT_MOST = 40
_COUNTED_AT_MOST = 12
_TRIED_AT_MOST = 200


class _Wish(NamedTuple):
    """So many items of which this holds, at any of these positions, or from `later` on."""

    many: int
    literal: int
    places: list[int]
    later: int | None


@dataclass
class _Array:
    search: Search
    least: int
    most: int | None
    items: dict[int, list[int]] = field(default_factory=dict)
    tails: list[tuple[int, int]] = field(default_factory=list)
    wanted: list[tuple[int, int]] = field(default_factory=list)
    """At least so many items of which this holds."""
    bounded: list[tuple[int, int]] = field(default_factory=list)
    """At most so many."""
    unique: bool = False
    repeats: bool = False
    demands: list[tuple[int, int]] = field(default_factory=list)
    """Some item, from this position on, of which this holds."""
    extra: dict[int, list[int]] = field(default_factory=dict)
    same: tuple[int, int] | None = None
    tried: int = 0
    given_up: bool = False
    """Not every choice of places was looked at."""

    def take(self, leaf: Goals) -> None:
        for literal in sorted(leaf):
            op, args = self.search.space.node(literal)
            match op, literal > 0:
                case "item", True:
                    self.items.setdefault(args[0], []).append(args[1])
                case "item", False:
                    self.extra.setdefault(args[0], []).append(-args[1])
                    self.least = max(self.least, args[0] + 1)
                case "tail", True:
                    self.tails.append((args[0], args[1]))
                case "tail", False:
                    self.demands.append((args[0], -args[1]))
                case "at_least", True:
                    self.wanted.append((args[0], args[1]))
                case "at_least", False:
                    self._at_most(args[0] - 1, args[1])
                case "at_most", True:
                    self._at_most(args[0], args[1])
                case "at_most", False:
                    self.wanted.append((args[0] + 1, args[1]))
                case "unique", positive:
                    self.unique |= positive
                    self.repeats |= not positive

    def _at_most(self, most: int, literal: int) -> None:
        if most:
            self.bounded.append((most, literal))
        else:
            self.tails.append((0, -literal))

    @property
    def alike(self) -> int:
        """From here on all positions are alike."""
        starts = [
            *(at + 1 for at in self.items),
            *(at + 1 for at in self.extra),
            *(at for at, _ in self.tails),
            *(at for at, _ in self.demands),
        ]
        return max(starts, default=0)

    def goals(self, at: int, *more: int) -> Goals:
        rules = (literal for start, literal in self.tails if start <= at)
        return frozenset((*self.items.get(at, ()), *self.extra.get(at, ()), *rules, *more))

    def solve(self) -> Answer:
        if (self.unique and self.repeats) or not (self._shorten() and self._contradiction_free()):
            return None
        wishes = self._wishes()
        if wishes is None:
            return None
        best: Answer = None
        for _ in self._placed(wishes):
            for same in self._equal():
                self.same = same
                answer = self._solved()
                if answer is not None and answer.sure():
                    return answer
                best = answer if best is None or (answer is not None and best.value is MISSING) else best
        return Maybe() if best is None and self.given_up else best

    def _solved(self) -> Answer:
        """The answer for one choice of places."""
        if self._too_many_forced() or self._too_few_values():
            return None
        return Maybe() if self.least > _BUILT_AT_MOST else self._built()

    def _positions(self) -> range:
        """One position for each kind there is, as far as the array can be long."""
        return range(self.alike + 1 if self.most is None else min(self.alike + 1, self.most))

    def _shorten(self) -> bool:
        """It ends before the first position at which nothing can stand."""
        for at in self._positions():
            if self.search.ask(self.goals(at)) is None:
                self.most = at
                break
        return self.most is None or self.least <= self.most

    def _contradiction_free(self) -> bool:
        """No item that is wanted is one of those of which there are to be fewer."""
        ask = self.search.ask
        return not any(most < least and ask(frozenset((one, -other))) is None for least, one in self.wanted for most, other in self.bounded)

    def _wishes(self) -> list[_Wish] | None:
        """What some items are to be, and where each could stand if it were alone: fewest places first. `None` where one has too few."""
        wishes = []
        alike = self.alike
        for start, count, literal in [
            *((start, 1, literal) for start, literal in self.demands),
            *((0, least, literal) for least, literal in self.wanted),
        ]:
            possible = [at for at in self._positions() if at >= start and self.search.ask(self.goals(at, literal)) is not None]
            later = alike if alike in possible else None
            places = [at for at in possible if at < alike]
            if len(places) < count and (later is None or (self.most is not None and len(places) + self.most - later < count)):
                return None
            if 0 < count <= _BUILT_AT_MOST:
                wishes.append(_Wish(count, literal, places, later))
        return sorted(wishes, key=lambda wish: (wish.later is not None, len(wish.places)))

    def _placed(self, wishes: list[_Wish]) -> Iterator[None]:
        """Each choice of places for all of these: while it is looked at, what they ask is asked there."""
        if not wishes:
            yield
            return
        wish, alike, least = wishes[0], self.alike, self.least
        for places in self._choices(wish, alike):
            for at in places:
                self.extra.setdefault(at, []).append(wish.literal)
            self.least = max(least, max(places) + 1)
            yield from self._placed(wishes[1:])
            self.least = least
            for at in places:
                self.extra[at].pop()
                if not self.extra[at]:
                    del self.extra[at]

    def _choices(self, wish: _Wish, alike: int) -> Iterator[tuple[int, ...]]:
        """The surest first. Of the positions that are alike and still free, only the first ones."""
        end = alike + wish.many if self.most is None else min(alike + wish.many, self.most)
        later = [] if wish.later is None else range(wish.later, end)
        answers = {}
        for at in (*wish.places, *later):
            answer = self.search.ask(self.goals(at, wish.literal))
            if answer is not None:
                answers[at] = answer
        ordered = sorted(answers, key=lambda at: (not answers[at].sure(), at))
        for places in combinations(ordered, wish.many):
            if self._tired():
                return
            free = [at for at in places if at >= alike]
            if not free or max(free) == alike + len(free) - 1:
                yield places

    def _tired(self) -> bool:
        """Enough choices were looked at."""
        if not self.given_up:
            self.search.spend()
            self.tried += 1
            self.given_up = self.tried > _TRIED_AT_MOST
        return self.given_up

    def _equal(self) -> Iterator[tuple[int, int] | None]:
        """Each two positions that can have the same, where two are to."""
        if not self.repeats:
            yield None
            return
        least = self.least
        places = list(self._positions())
        if self.most is None or self.most > self.alike + 1:
            places.append(self.alike + 1)
        if len(places) > _PAIRS_AT_MOST:
            self.given_up = True
            places = places[-2:]
        for first, second in combinations(places, 2):
            if self.search.ask(self.goals(first) | self.goals(second)) is not None:
                if self._tired():
                    return
                self.least = max(least, second + 1)
                yield first, second
                self.least = least

    def _too_many_forced(self) -> bool:
        """More positions that must be taken than may be have no choice but to hold what is bounded."""
        for most, literal in self.bounded:
            if self.least > _BUILT_AT_MOST:
                continue
            forced = sum(self.search.ask(self._bare(at, -literal)) is None for at in range(self.least))
            if forced > most:
                return True
        return False

    def _too_few_values(self) -> bool:
        """All items are to differ, and there are fewer values than items."""
        if not self.unique:
            return False
        if any(least <= _COUNTED_AT_MOST and not self._are_so_many(frozenset((literal,)), least) for least, literal in self.wanted):
            return True
        kinds = {self._bare(at) for at in range(min(self.least, _COUNTED_AT_MOST))}
        return len(kinds) == 1 and not self._are_so_many(kinds.pop(), min(self.least, _COUNTED_AT_MOST))

    def _are_so_many(self, goals: Goals, count: int) -> bool:
        """Whether so many different values may do."""
        for _ in range(count):
            answer = self.search.ask(goals)
            if answer is None:
                return False
            if answer.value is MISSING:
                return True
            goals |= {-self.search.space.constant(answer.value)}
        return True

    def _bare(self, at: int, *more: int) -> Goals:
        """What holds at a position whatever was chosen for it."""
        rules = (literal for start, literal in self.tails if start <= at)
        return frozenset((*self.items.get(at, ()), *rules, *more))

    def _built(self) -> Answer:
        value: list[Any] = []
        doubts: frozenset[Any] = frozenset()
        for at in range(self.least):
            if self.same and at == self.same[1] and self.same[0] < len(value):
                value.append(value[self.same[0]])
                continue
            answer = self._item(at, value)
            if answer is None:
                # All values of these positions are used up, and there are no others: there is no such array.
                return None if self._used_up(at) else Maybe()
            if answer.value is MISSING:
                return Maybe(doubts=answer.doubts)
            value.append(answer.value)
            doubts |= answer.doubts
        return Maybe(value, doubts)

    def _item(self, at: int, before: list[Any]) -> Answer:
        constant = self.search.space.constant
        others = [-constant(value) for value in before] if self.unique else []
        goals = self.goals(at, *others)
        if self.same and at == self.same[0]:
            goals |= self.goals(self.same[1])
        spared = frozenset(-literal for _, literal in self.bounded)
        if spared and (answer := self.search.ask(goals | spared)) is not None:
            return answer
        return self.search.ask(goals)

    def _used_up(self, at: int) -> bool:
        if not self.unique or self.same:
            return False
        first = self.goals(0)
        pinned = any(self.extra.get(position) for position in range(at + 1))
        return not pinned and all(self.goals(position) == first for position in range(at + 1))


def solve_array(search: Search, leaf: Goals) -> Answer:
    least, most = lengths(search, leaf, "items")
    asked = _Array(search, least, most)
    asked.take(leaf)
    return asked.solve()
