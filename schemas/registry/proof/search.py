"""Is there a value of which some claims hold? The one question that compatibility comes down to: accepted by the old, refused by the new.

The claims are taken apart until only simple ones about one type are left, each way of a choice for itself. What is left is solved type by
type; of objects and arrays it asks the same question about what is in them.

`None` is a proof: in every way something must hold of the value, or of a part of it, that cannot. A question that comes up again inside
itself may be taken to have no answer, for the smallest value has none of its own kind in it; whatever was concluded so is kept only while
the question it rests on stands, and is forgotten with it. `Maybe` holds a value that should do, to be tried; with doubts, there may be
none.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import jsonschema_rs

from interlock.schemas.registry.proof.space import ARRAY, BOOLEAN, FALSE, NULL, NUMBER, OBJECT, STRING, Doubt, Space

MISSING: Final = object()
"""In the place of a value: one may exist, and none is at hand."""

WORK = 150_000
"""Steps after which a search is given up: about two seconds."""

Goals = frozenset[int]


@dataclass(frozen=True, slots=True)
class Maybe:
    value: Any = MISSING
    doubts: frozenset[Doubt] = frozenset()

    def sure(self) -> bool:
        return self.value is not MISSING and not self.doubts


Answer = Maybe | None
"""`None` is the proof that there is nothing."""

Solver = Callable[["Search", Goals], Answer]


class TooMuch(Exception):
    """The search has used up its work."""


@dataclass
class Search:
    """One search over one space; `solvers` say of each type whether simple claims can hold together."""

    space: Space
    solvers: dict[int, Solver]
    work: int = WORK
    hints: Callable[[], tuple[str, ...]] = tuple
    """Texts to try where no rule finds one."""
    _known: dict[Goals, Answer] = field(default_factory=dict)
    _assumed: dict[Goals, None] = field(default_factory=dict)
    _patterns: dict[str, jsonschema_rs.Validator] = field(default_factory=dict)
    _loops: dict[int, bool] = field(default_factory=dict)
    _apart: dict[int, bool | None] = field(default_factory=dict)

    def spend(self, steps: int = 1) -> None:
        self.work -= steps
        if self.work < 0:
            raise TooMuch

    def ask(self, goals: Goals) -> Answer:
        """Whether a value, inside of the one that is asked about, can satisfy all of these."""
        if FALSE in goals:
            return None
        if goals in self._known:
            return self._known[goals]
        if goals in self._assumed:
            return None
        self.spend()
        mark = len(self._assumed)
        self._assumed[goals] = None
        best: Answer = None
        for answer in self.answers(goals):
            if best is None or answer.sure() or (best.value is MISSING and answer.value is not MISSING):
                best = answer
            if answer.sure():
                break
        if best is not None:
            while len(self._assumed) > mark:
                self._assumed.popitem()
            self._known[goals] = best
        elif mark == 0:
            self._known.update(dict.fromkeys(self._assumed))
            self._assumed.clear()
        return best

    def answers(self, goals: Goals) -> Iterator[Maybe]:
        """Everything that is not proved impossible, way by way."""
        kinds = self.possible(goals)
        for kind in (OBJECT, STRING, NUMBER, ARRAY, NULL, BOOLEAN):
            if not kinds & kind:
                continue
            for leaf in self._leaves(list(goals), kind, set(), []):
                self.spend(1 + len(leaf) // 16)
                known = self.space.doubts
                doubts = frozenset(known[abs(claim)] for claim in leaf if abs(claim) in known) if known else frozenset()
                answer = self.solvers[kind](self, leaf)
                if answer is not None:
                    yield Maybe(answer.value, answer.doubts | doubts) if doubts else answer

    def possible(self, goals: Goals) -> int:
        kinds = (1 << 6) - 1
        for literal in goals:
            kinds &= self.space.kinds(literal)
        return kinds

    def matches(self, pattern: str, text: str) -> bool:
        """As the validators find it."""
        if pattern not in self._patterns:
            self._patterns[pattern] = jsonschema_rs.Draft202012Validator({"pattern": pattern}, validate_formats=False, offline=True)
        return self._patterns[pattern].is_valid(text)

    # --- taking claims apart ----------------------------------------------------------------------------------------

    def _leaves(self, todo: list[int], kind: int, taken: set[int], choices: list[list[tuple[int, ...]]]) -> Iterator[Goals]:
        """Each way in which the claims may hold of a value of this type, as simple claims only."""
        while True:
            if not self._unfolded(todo, kind, taken, choices):
                return
            todo, choices, possible = self._propagated(choices, kind, taken)
            if not possible:
                return
            if not todo:
                break
        leaf = frozenset(literal for literal in taken if self._simple(literal))
        if not choices:
            yield leaf
            return
        # Where what is certain is impossible already, no choice helps.
        if len(choices) > 1 and self.solvers[kind](self, leaf) is None:
            return
        chosen = max(choices, key=len)
        others = [choice for choice in choices if choice is not chosen]
        for way in chosen:
            self.spend(1 + len(taken) // 16)
            yield from self._leaves(list(way), kind, set(taken), list(others))

    def _unfolded(self, todo: list[int], kind: int, taken: set[int], choices: list[list[tuple[int, ...]]]) -> bool:
        """Take `todo` apart into `taken` and `choices`; false where that contradicts itself."""
        space = self.space
        while todo:
            literal = todo.pop()
            if literal in taken:
                continue
            if -literal in taken or not space.kinds(literal) & kind:
                return False
            if not space.kinds(-literal) & kind:
                continue
            taken.add(literal)
            op, args = space.node(literal)
            if op == "all" and literal > 0:
                todo.extend(args)
            elif op == "all":
                choices.append([(-inner,) for inner in args])
            elif op == "one":
                self._one(literal, args, todo, choices)
            elif op == "reference" and not self._endless(literal):
                target = space.target(space.node(literal))
                todo.append(target if literal > 0 else -target)
        return True

    def _one(self, literal: int, args: tuple[int, ...], todo: list[int], choices: list[list[tuple[int, ...]]]) -> None:
        if self._are_apart(abs(literal), args):
            if literal > 0:
                choices.append([(inner,) for inner in args])
            else:
                todo.extend(-inner for inner in args)
            return
        places = range(len(args))
        if literal > 0:
            choices.append([tuple(args[at] if at == chosen else -args[at] for at in places) for chosen in places])
        else:
            none = tuple(-inner for inner in args)
            choices.append([none, *((args[at], args[other]) for at in places for other in places if at < other)])

    def _propagated(
        self, choices: list[list[tuple[int, ...]]], kind: int, taken: set[int]
    ) -> tuple[list[int], list[list[tuple[int, ...]]], bool]:
        """What follows where a choice has one way left; the choices that remain; whether each has a way at all."""
        space = self.space
        forced: list[int] = []
        remaining = []
        for choice in choices:
            ways = []
            for way in choice:
                if any(-literal in taken or not space.kinds(literal) & kind for literal in way):
                    continue
                if all(literal in taken or not space.kinds(-literal) & kind for literal in way):
                    break
                ways.append(way)
            else:
                if not ways:
                    return [], [], False
                if len(ways) == 1:
                    forced.extend(ways[0])
                else:
                    remaining.append(ways)
        return forced, remaining, True

    def _simple(self, literal: int) -> bool:
        op = self.space.node(literal).op
        return op not in ("all", "one") and (op != "reference" or self._endless(literal))

    def _endless(self, literal: int) -> bool:
        """A reference that comes back to itself without going into the value."""
        found = self._loops.get(abs(literal))
        if found is None:
            found = self._loops[abs(literal)] = self._reaches(abs(literal))
            if found:
                doubt = Doubt(
                    "$ref", self.space.node(literal).args[1] or "/", "it refers to itself without going deeper", "remove the circle"
                )
                self.space.doubts[abs(literal)] = doubt
        return found

    def _reaches(self, reference: int) -> bool:
        seen: set[int] = set()
        todo = [abs(self.space.target(self.space.node(reference)))]
        while todo:
            at = todo.pop()
            if at == reference:
                return True
            if at in seen:
                continue
            seen.add(at)
            node = self.space.node(at)
            if node.op in ("all", "one"):
                todo.extend(map(abs, node.args))
            elif node.op == "reference":
                todo.append(abs(self.space.target(node)))
        return False

    def _are_apart(self, node: int, args: tuple[int, ...]) -> bool:
        """No value satisfies two of these: then exactly one of them is any one of them."""
        found = self._apart.get(node, MISSING)
        if found is MISSING:
            self._apart[node] = None  # while it is being asked, nobody may rely on it
            assumed, self._assumed = self._assumed, {}
            try:
                pairs = (frozenset((one, other)) for at, one in enumerate(args) for other in args[at + 1 :])
                found = self._apart[node] = len(set(args)) == len(args) and all(self.ask(pair) is None for pair in pairs)
            finally:
                self._assumed = assumed
        return bool(found)
