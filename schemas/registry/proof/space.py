"""What schemas say, taken apart: one small claim about a value each, the same claim only once.

A *literal* is a claim or, negated, its opposite: `-literal` is its complement, so a schema and `not` of it are one node. `TRUE` is 1. A
claim about strings says nothing about other types: they satisfy it. Because equal claims are one number, however they were written, what
two schemas have in common cancels out before anything is compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

TRUE, FALSE = 1, -1

NULL, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT = (1 << at for at in range(6))
EVERY = (1 << 6) - 1

TYPES = {"null": NULL, "boolean": BOOLEAN, "number": NUMBER, "string": STRING, "array": ARRAY, "object": OBJECT}

ABOUT = {
    "minimum": NUMBER,
    "maximum": NUMBER,
    "multiple": NUMBER,
    "min_length": STRING,
    "max_length": STRING,
    "pattern": STRING,
    "item": ARRAY,
    "tail": ARRAY,
    "min_items": ARRAY,
    "max_items": ARRAY,
    "at_least": ARRAY,
    "at_most": ARRAY,
    "unique": ARRAY,
    "property": OBJECT,
    "matching": OBJECT,
    "rest": OBJECT,
    "has": OBJECT,
    "min_size": OBJECT,
    "max_size": OBJECT,
    "names": OBJECT,
}
"""The type that each claim is about."""


class Doubt(NamedTuple):
    """Why nothing can be proved: a keyword, where it stands, why it resists, what to do."""

    keyword: str
    pointer: str
    reason: str
    remedy: str


class Scalar(NamedTuple):
    """Null, a boolean, a number or a string, so that 1 is 1.0 and is not true."""

    kind: int
    value: Any


def scalar(value: Any) -> Scalar:
    """Of a JSON value that is neither array nor object."""
    if value is None:
        return Scalar(NULL, None)
    if isinstance(value, bool):
        return Scalar(BOOLEAN, value)
    if isinstance(value, str):
        return Scalar(STRING, value)
    return Scalar(NUMBER, exact(value))


def exact(number: Any) -> Fraction:
    """A JSON number as what was written: 0.1 is a tenth."""
    return Fraction(number) if isinstance(number, int) else Fraction(str(number))


class Node(NamedTuple):
    """One claim: its kind and what it says."""

    op: str
    args: tuple[Any, ...] = ()


@dataclass
class Space:
    """All claims of the schemas that are compared with each other."""

    nodes: list[Node] = field(default_factory=lambda: [Node("none"), Node("true")])
    doubts: dict[int, Doubt] = field(default_factory=dict)
    targets: dict[tuple[int, str], int] = field(default_factory=dict)
    contents: dict[tuple[int, bool, bool, bytes], int] = field(default_factory=dict)
    """Claims of schemas by what they hold: draft, whether formats are asserted, whether producers are closed, and the bytes."""
    _ids: dict[Node, int] = field(default_factory=dict)
    _kinds: dict[int, int] = field(default_factory=dict)

    def claim(self, op: str, *args: Any) -> int:
        node = Node(op, args)
        found = self._ids.get(node)
        if found is None:
            found = self._ids[node] = len(self.nodes)
            self.nodes.append(node)
        return found

    def node(self, literal: int) -> Node:
        return self.nodes[abs(literal)]

    def types(self, kinds: int) -> int:
        return TRUE if kinds == EVERY else FALSE if not kinds else self.claim("types", kinds)

    def one_of_scalars(self, values: Iterable[Scalar]) -> int:
        members = frozenset(values)
        return self.claim("enum", members) if members else FALSE

    def opaque(self, what: Any, doubt: Doubt) -> int:
        """A claim that nobody here understands; it is equal to itself all the same."""
        found = self.claim("opaque", doubt.keyword, what)
        self.doubts.setdefault(found, doubt)
        return found

    def both(self, literals: Iterable[int]) -> int:
        """All of them."""
        parts: set[int] = set()
        listed: frozenset[Scalar] | None = None
        barred: frozenset[Scalar] = frozenset()
        for literal in self._flat(literals):
            node = self.nodes[abs(literal)]
            if node.op == "enum" and literal > 0:
                listed = node.args[0] if listed is None else listed & node.args[0]
            elif node.op == "enum":
                barred |= node.args[0]
            else:
                parts.add(literal)
        if listed is not None:
            parts.add(self.one_of_scalars(listed - barred))
        elif barred:
            parts.add(-self.one_of_scalars(barred))
        if FALSE in parts or any(-literal in parts for literal in parts):
            return FALSE
        if len(parts) < 2:
            return next(iter(parts), TRUE)
        return self.claim("all", *sorted(parts))

    def either(self, literals: Iterable[int]) -> int:
        """At least one of them."""
        return -self.both([-literal for literal in literals])

    def exactly_one(self, literals: Iterable[int]) -> int:
        parts = sorted(literal for literal in literals if literal != FALSE)
        return FALSE if not parts else parts[0] if len(parts) == 1 else self.claim("one", *parts)

    def _flat(self, literals: Iterable[int]) -> Iterable[int]:
        for literal in literals:
            if literal > TRUE and self.nodes[literal].op == "all":
                yield from self.nodes[literal].args
            elif literal != TRUE:
                yield literal

    def constant(self, value: Any) -> int:
        """Equal to exactly this value."""
        if isinstance(value, dict):
            names = [self.claim("has", name) for name in value]
            values = [self.claim("property", name, self.constant(inner)) for name, inner in value.items()]
            closed = self.claim("rest", frozenset(value), (), FALSE)
            return self.both([self.types(OBJECT), closed, *names, *values])
        if isinstance(value, list):
            items = [self.claim("item", at, self.constant(inner)) for at, inner in enumerate(value)]
            length = [self.claim("min_items", len(value))] if value else []
            return self.both([self.types(ARRAY), *length, self.claim("max_items", len(value)), *items])
        return self.one_of_scalars([scalar(value)])

    def target(self, reference: Node) -> int:
        """What a reference stands for."""
        return self.targets[reference.args[0], reference.args[1]]

    def kinds(self, literal: int) -> int:
        """The types among whose values it can be true; perhaps more than those."""
        found = self._kinds.get(literal)
        if found is None:
            found = self._kinds[literal] = self._kinds_of(literal)
        return found

    def _kinds_of(self, literal: int) -> int:
        op, args = self.nodes[abs(literal)]
        positive = literal > 0
        about = ABOUT.get(op)
        if about is not None:
            return EVERY if positive else about
        match op:
            case "true":
                return EVERY if positive else 0
            case "types":
                kinds: int = args[0]
                return kinds if positive else EVERY & ~kinds
            case "enum":
                if positive:
                    return _union(member.kind for member in args[0])
                gone = NULL if Scalar(NULL, None) in args[0] else 0
                both = {Scalar(BOOLEAN, True), Scalar(BOOLEAN, False)} <= args[0]
                return EVERY & ~gone & ~(BOOLEAN if both else 0)
            case "all" if positive:
                found = EVERY
                for inner in args:
                    found &= self.kinds(inner)
                return found
            case "all":
                return _union(self.kinds(-inner) for inner in args)
            case "one" if positive:
                return _union(self.kinds(inner) for inner in args)
        return EVERY


def _union(kinds: Iterable[int]) -> int:
    found = 0
    for kind in kinds:
        found |= kind
    return found
