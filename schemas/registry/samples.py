"""Messages that a schema allows, made up by chance from what it says: to try code on them that must take every one.

What is made is tried on the validator, and only what it accepts is given. A schema whose chance never finds one (a pattern, a condition) is
asked of the search for counterexamples, which knows how to satisfy it.
"""

import random
import string
from collections.abc import Callable
from typing import Any

from interlock.schemas.canonical import encode
from interlock.schemas.registry.replay import validator
from interlock.schemas.registry.verdict import check

_DEEP = 4
"""From so many levels on only what must be there is made."""
_TRIES = 4
"""For each message that is wanted."""
_LETTERS = string.ascii_letters + string.digits + " _-äß€漢\u0301\U0001f600"
_NUMBERS = (0, 1, -1, 2, 7, 100, -(2**31), 2**53)


def samples(schema: dict[str, Any], count: int = 100, seed: int = 0) -> list[Any]:
    """At the most `count` messages that the JSON Schema 2020-12 allows, the same for the same seed; none where nothing was found."""
    chance, allows = random.Random(seed), validator(schema, 2020).is_valid
    maker = _Maker(schema, chance)
    found: list[Any] = []
    for _ in range(count * _TRIES):
        message = maker.make(schema, 0)
        if allows(message):
            found.append(message)
        if len(found) == count:
            return found
    one = _one(schema) if not found else None
    return found if found or not allows(one) else [one]


def _one(schema: dict[str, Any]) -> Any:
    """A value that the schema allows, found by search; `None` where there is none, which may be allowed too."""
    shown = check(schema, {"not": {}}).refusal
    return None if shown is None else shown.message


class _Maker:
    def __init__(self, root: dict[str, Any], chance: random.Random) -> None:
        self._root, self._chance = root, chance
        self._found: dict[bytes, Any] = {}
        self._by_type: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda schema, depth: chance.random() < 0.5,
            "null": lambda schema, depth: None,
        }

    def make(self, schema: Any, depth: int) -> Any:
        """A value that the schema may allow."""
        if not isinstance(schema, dict) or depth > 8 * _DEEP:
            return None
        if isinstance(ref := schema.get("$ref"), str):
            return self.make({**self._at(ref), **{key: value for key, value in schema.items() if key != "$ref"}}, depth + 1)
        for name in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(name), list) and choices:
                rest = {key: value for key, value in schema.items() if key != name}
                return self.make(_merged(rest, self._chance.choice(choices)), depth + 1)
        for one in schema.get("allOf", ()):
            schema = _merged({key: value for key, value in schema.items() if key != "allOf"}, one)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._chance.choice(schema["enum"])
        kinds = schema.get("type") or ("object" if "properties" in schema else list(self._by_type))
        kind = self._chance.choice(kinds) if isinstance(kinds, list) else kinds
        return self._by_type[kind](schema, depth) if kind in self._by_type else None

    def _at(self, ref: str) -> dict[str, Any]:
        here: Any = self._root
        for part in ref.removeprefix("#").split("/")[1:]:
            here = here.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(here, dict) else {}
        return here if isinstance(here, dict) else {}

    def _object(self, schema: dict[str, Any], depth: int) -> Any:
        wanted = [name for name in schema.get("properties", {}) if depth < _DEEP and self._chance.random() < 0.6]
        names = dict.fromkeys([*schema.get("required", ()), *wanted])
        made = {name: self.make(schema.get("properties", {}).get(name, {}), depth + 1) for name in names}
        more = schema.get("additionalProperties", False)
        while more is not False and (len(made) < schema.get("minProperties", 0) or (depth < _DEEP and self._chance.random() < 0.3)):
            made[self._string({"minLength": 1}, depth)] = self.make(more, depth + 1)
        return made

    def _array(self, schema: dict[str, Any], depth: int) -> Any:
        first = schema.get("prefixItems", ())
        least, most = schema.get("minItems", 0), schema.get("maxItems", max(schema.get("minItems", 0), len(first)) + 3)
        size = self._chance.randint(least, most) if depth < _DEEP and least <= most else least
        return [self.make(first[n] if n < len(first) else schema.get("items", {}), depth + 1) for n in range(size)]

    def _string(self, schema: dict[str, Any], depth: int) -> Any:
        if "pattern" in schema:
            return self._searched({**schema, "type": "string"})
        least, longest = schema.get("minLength", 0), self._chance.choice((12, 12, 12, 120))
        size = self._chance.randint(least, max(least, min(schema.get("maxLength", least + longest), least + longest)))
        return "".join(self._chance.choices(_LETTERS, k=size))

    def _searched(self, schema: dict[str, Any]) -> Any:
        name = encode(schema)
        if name not in self._found:
            self._found[name] = _one(schema)
        return self._found[name]

    def _integer(self, schema: dict[str, Any], depth: int) -> Any:
        step = schema.get("multipleOf", 1)
        return int(self._number(schema, depth) // step * step)

    def _number(self, schema: dict[str, Any], depth: int) -> Any:
        bounds = [schema[name] for name in ("minimum", "maximum") if name in schema]
        bounds += [schema[name] + by for name, by in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)) if name in schema]
        near = [bound + by for bound in bounds for by in (0, 1, -1)]
        return self._chance.choice((*_NUMBERS, *near, *near, *near))


def _merged(one: dict[str, Any], other: Any) -> dict[str, Any]:
    """Both together, as far as that is simple."""
    if not isinstance(other, dict):
        return one
    properties = {**one.get("properties", {}), **other.get("properties", {})}
    required = [*one.get("required", ()), *other.get("required", ())]
    return {**one, **other, **({"properties": properties} if properties else {}), **({"required": required} if required else {})}
