"""From a schema to claims: each keyword in the meaning that its draft gives it.

What is read here is exactly what the validators assert. A keyword that no draft asserts is an annotation and says nothing; one that is
asserted and not understood becomes an opaque claim, which is equal to itself and never proves anything else.
"""

from collections.abc import Callable, Iterator
from typing import Any

from interlock.schemas.canonical import encode
from interlock.schemas.registry.proof import evaluated
from interlock.schemas.registry.proof.document import Document, Place
from interlock.schemas.registry.proof.space import FALSE, NUMBER, OBJECT, TRUE, TYPES, Doubt, Space, exact, scalar

_SIMPLE = "write it with keywords that can be compared, or register the change as a new major"

_REFERRING = b'"$'

_GROUPS = {  # keyword: the rule that reads it, which is the method of that name
    keyword: group
    for group, keywords in {
        "combined": ("type", "const", "enum", "allOf", "anyOf", "oneOf", "not", "if"),
        "numbers": ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
        "strings": ("minLength", "maxLength", "pattern"),
        "arrays": ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"),
        "objects": (
            "properties", "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties", "propertyNames",
        ),
        "dependent": ("dependencies", "dependentRequired", "dependentSchemas"),
        "asserted": ("format", "contentEncoding", "contentMediaType"),
        "unevaluated": ("unevaluatedProperties", "unevaluatedItems"),
    }.items()
    for keyword in keywords
}  # fmt: skip

LOOP = "it refers to itself without going into the value, so it does not say what it accepts"


class Reader:
    """Reads one document into a space. `formats`: `format` is asserted. `closed`: only declared properties are sent."""

    def __init__(self, document: Document, space: Space, formats: bool = False, closed: bool = False) -> None:
        self.document, self.space = document, space
        self._formats, self._closed = formats, closed
        self._level = 0
        self._open: dict[str, int] = {}

    def top(self) -> int:
        """The whole document."""
        if self.document.foreign:
            return self._opaque("$schema", self.document.top(), "a part of it is written in another dialect")
        return self._value(self.document.top())

    def read(self, place: Place) -> int:
        """The claim that a schema makes about the value that its surroundings speak of."""
        schema = place.schema
        if isinstance(schema, bool):
            return TRUE if schema else FALSE
        # What refers to nothing says the same wherever it stands: most of a new version is what the old one has too.
        content = encode(schema)
        if _REFERRING in content:
            return self._once(schema, place)
        own = self._key(content)
        found = self.space.contents.get(own)
        if found is None:
            found = self.space.contents[own] = self.space.both(self._claims(schema, place))
        return found

    def _once(self, schema: dict[str, Any], place: Place) -> int:
        """The claim of a schema that may refer to itself."""
        key = (self.document.number, place.pointer)
        known = self.space.targets.get(key)
        if known is not None:
            return known
        if place.pointer in self._open:
            if self._open[place.pointer] == self._level:
                return self._opaque("$ref", place, LOOP)
            return self.space.claim("reference", *key)
        self._open[place.pointer] = self._level
        found = self.space.both(self._claims(schema, place))
        del self._open[place.pointer]
        self.space.targets[key] = found
        return found

    def inside(self, place: Place) -> int:
        """The claim that a schema makes about a property, an item or a name."""
        self._level += 1
        try:
            return self._value(place)
        finally:
            self._level -= 1

    def _value(self, place: Place) -> int:
        return self.space.both([self.read(place), self._sent(place)]) if self._closed else self.read(place)

    def _sent(self, place: Place) -> int:
        """What a producer adds to a schema of its own: it sends no property that the schema does not name."""
        if isinstance(place.schema, bool):
            return TRUE
        try:
            return evaluated.nothing_else(self, place)
        except evaluated.TooManyCases:
            return TRUE

    def referred(self, place: Place) -> Iterator[tuple[str, Place | None]]:
        """What each reference of a schema points at; `None` where that depends on who refers to it."""
        document, schema = self.document, place.schema
        if isinstance(reference := schema.get("$ref"), str):
            yield "$ref", document.resolve(place, reference)
        dynamic = {2019: "$recursiveRef", 2020: "$dynamicRef"}.get(document.draft, "")
        if isinstance(reference := schema.get(dynamic), str):
            name = reference.rpartition("#")[2]
            several = document.resources > 1 or document.dynamic.get(name, 0) > 1
            yield dynamic, None if several else document.resolve(place, reference)

    def _claims(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        for keyword, target in self.referred(place):
            if target is None:
                yield self._opaque(keyword, place, "what it refers to depends on where it is used")
            else:
                yield self.read(target)
        if self.document.draft == 7 and "$ref" in schema:
            return
        for group in sorted({_GROUPS[keyword] for keyword in schema if keyword in _GROUPS}):
            rule: Callable[[dict[str, Any], Place], Iterator[int]] = getattr(self, f"_{group}")
            yield from rule(schema, place)

    def _combined(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        space = self.space
        if "type" in schema:
            yield self._type(schema["type"])
        if "const" in schema:
            yield space.constant(schema["const"])
        if "enum" in schema:
            plain = [scalar(value) for value in schema["enum"] if not isinstance(value, dict | list)]
            others = [space.constant(value) for value in schema["enum"] if isinstance(value, dict | list)]
            yield space.either([space.one_of_scalars(plain), *others])
        if "allOf" in schema:
            yield from self.branches("allOf", place)
        if "anyOf" in schema:
            yield space.either(self.branches("anyOf", place))
        if "oneOf" in schema:
            yield space.exactly_one(self.branches("oneOf", place))
        if "not" in schema:
            yield -self._below(place, "not")
        if "if" in schema:
            condition = self._below(place, "if")
            then, otherwise = (self._below(place, word) if word in schema else TRUE for word in ("then", "else"))
            yield space.either([-condition, then])
            yield space.either([condition, otherwise])

    def branches(self, keyword: str, place: Place) -> list[int]:
        return [self._below(place, keyword, at) for at in range(len(place.schema[keyword]))]

    def _type(self, named: str | list[str]) -> int:
        names = [named] if isinstance(named, str) else named
        kinds = sum({TYPES[name] for name in names if name != "integer"})
        if "integer" not in names or "number" in names:
            return self.space.types(kinds)
        return self.space.both([self.space.types(kinds | NUMBER), self.space.claim("multiple", exact(1))])

    def _numbers(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        claim = self.space.claim
        if "minimum" in schema:
            yield claim("minimum", exact(schema["minimum"]), False)
        if "exclusiveMinimum" in schema:
            yield claim("minimum", exact(schema["exclusiveMinimum"]), True)
        if "maximum" in schema:
            yield claim("maximum", exact(schema["maximum"]), False)
        if "exclusiveMaximum" in schema:
            yield claim("maximum", exact(schema["exclusiveMaximum"]), True)
        if "multipleOf" in schema:
            yield claim("multiple", exact(schema["multipleOf"]))

    def _strings(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        yield from self._counted(schema, "length", "minLength", "maxLength")
        if "pattern" in schema:
            yield self.space.claim("pattern", schema["pattern"])

    def _counted(self, schema: dict[str, Any], what: str, least: str, most: str) -> Iterator[int]:
        if schema.get(least, 0) > 0:
            yield self.space.claim(f"min_{what}", int(schema[least]))
        if most in schema:
            yield self.space.claim(f"max_{what}", int(schema[most]))

    def _arrays(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        claim = self.space.claim
        yield from self._counted(schema, "items", "minItems", "maxItems")
        if schema.get("uniqueItems") is True:
            yield claim("unique")
        positional = "prefixItems" if self.document.draft == 2020 else "items"
        listed = schema.get(positional)
        start = len(listed) if isinstance(listed, list) else 0
        for at in range(start):
            yield self.item(at, self._within(place, positional, at))
        tail = "items" if self.document.draft == 2020 or not isinstance(listed, list) else "additionalItems"
        if tail in schema:
            yield self.tail(start, self._within(place, tail))
        if "contains" in schema:
            wanted = self._within(place, "contains")
            bounded = self.document.draft > 7
            if (least := int(schema.get("minContains", 1)) if bounded else 1) > 0:
                yield claim("at_least", least, wanted)
            if bounded and "maxContains" in schema:
                yield self.at_most(int(schema["maxContains"]), wanted)

    def item(self, at: int, literal: int) -> int:
        return TRUE if literal == TRUE else self.space.claim("item", at, literal)

    def tail(self, start: int, literal: int) -> int:
        """All items from `start` on."""
        if literal == FALSE:
            return self.space.claim("max_items", start)
        return TRUE if literal == TRUE else self.space.claim("tail", start, literal)

    def at_most(self, most: int, literal: int) -> int:
        return self.tail(0, -literal) if most == 0 else self.space.claim("at_most", most, literal)

    def _objects(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        claim = self.space.claim
        yield from self._counted(schema, "size", "minProperties", "maxProperties")
        for name in schema.get("required", ()):
            yield claim("has", name)
        for name in schema.get("properties", ()):
            if (literal := self._within(place, "properties", name)) != TRUE:
                yield claim("property", name, literal)
        for pattern in schema.get("patternProperties", ()):
            if (literal := self._within(place, "patternProperties", pattern)) != TRUE:
                yield claim("matching", pattern, literal)
        if "additionalProperties" in schema:
            named, patterns = schema.get("properties", ()), schema.get("patternProperties", ())
            yield self.rest(named, patterns, self._within(place, "additionalProperties"))
        if "propertyNames" in schema and (literal := self._within(place, "propertyNames")) != TRUE:
            yield claim("names", literal)

    def rest(self, named: Any, patterns: Any, literal: int) -> int:
        """All properties but those named and those whose name matches a pattern."""
        return TRUE if literal == TRUE else self.space.claim("rest", frozenset(named), tuple(sorted(patterns)), literal)

    def present(self, name: str) -> int:
        """It is an object and has this property."""
        return self.space.both([self.space.types(OBJECT), self.space.claim("has", name)])

    def _dependent(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        words = ("dependencies",) if self.document.draft == 7 else ("dependencies", "dependentRequired", "dependentSchemas")
        for keyword in words:
            for name, needs in schema.get(keyword, {}).items():
                if isinstance(needs, list):
                    needed = self.space.both([self.space.claim("has", other) for other in needs])
                else:
                    needed = self._below(place, keyword, name)
                yield self.space.either([-self.present(name), needed])

    def _asserted(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        """What is asserted and has no meaning here but being the same."""
        words = ["format"] if self._formats else []
        if self.document.draft == 7:
            words += ["contentEncoding", "contentMediaType"]
        for keyword in words:
            if keyword in schema:
                yield self.opaque(keyword, place, "only the same value of it can be compared", encode(schema[keyword]))

    def _unevaluated(self, schema: dict[str, Any], place: Place) -> Iterator[int]:
        if self.document.draft == 7:
            return
        for keyword in ("unevaluatedProperties", "unevaluatedItems"):
            if schema.get(keyword, True) is True:
                continue
            try:
                yield evaluated.leftover(self, place, keyword, self._within(place, keyword))
            except evaluated.TooManyCases as why:
                yield self._opaque(keyword, place, str(why))

    def _below(self, place: Place, *path: str | int) -> int:
        return self.read(self.document.below(place, *path))

    def _within(self, place: Place, *path: str | int) -> int:
        inner = place.schema
        for part in path:
            inner = inner[part]
        known = None if isinstance(inner, bool) or self._closed else self.space.contents.get(self._key(encode(inner)))
        return self.inside(self.document.below(place, *path)) if known is None else known

    def _key(self, content: bytes) -> tuple[int, bool, bool, bytes]:
        return self.document.draft, self._formats, self._closed, content

    def opaque(self, keyword: str, place: Place, reason: str, what: Any) -> int:
        return self.space.opaque(what, Doubt(keyword, place.pointer or "/", reason, _SIMPLE))

    def _opaque(self, keyword: str, place: Place, reason: str) -> int:
        return self.opaque(keyword, place, reason, (self.document.number, place.pointer, reason))
