"""One schema document in its own dialect, and what its references mean. Nothing is ever fetched."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

DRAFT_7 = "http://json-schema.org/draft-07/schema"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
DIALECTS = {DRAFT_7: 7, DRAFT_2019: 2019, DRAFT_2020: 2020}

_ONE = ("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_ONE_LATER = ("unevaluatedItems", "unevaluatedProperties", "contentSchema")
_LISTS = ("allOf", "anyOf", "oneOf", "items", "prefixItems")
_NAMING = (b'"$id"', b'"$schema"', b'"$anchor"', b'"$dynamicAnchor"', b'"$recursiveAnchor"')

_MAPS = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")


def dialect(schema: Any, default: int = 2020) -> int | None:
    """Which draft a schema is written in; `None` where it names one that is not known here."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    return default if named is None else DIALECTS.get(str(named).rstrip("#"))


@dataclass(frozen=True, slots=True)
class Place:
    """A schema in its document: its JSON Pointer and the base that its references are resolved against."""

    schema: Any
    pointer: str
    base: str


@dataclass
class Document:
    """`root` read as `draft` (7, 2019 or 2020); `number` tells the documents of one comparison apart."""

    root: Any
    content: bytes
    """The root, encoded."""
    draft: int
    number: int = 0
    _by_uri: dict[str, Place] = field(default_factory=dict)
    _anchors: dict[str, Place] = field(default_factory=dict)
    dynamic: dict[str, int] = field(default_factory=dict)
    """How often each dynamic anchor is declared."""
    foreign: str = ""
    """Where a part of it declares another dialect."""

    def __post_init__(self) -> None:
        self._by_uri[""] = Place(self.root, "", "")
        if not any(word in self.content for word in _NAMING):
            return
        for place in walk(self.root, "", "", self.draft):
            self._note(place)

    def top(self) -> Place:
        base = self._own_base(self.root, "") if isinstance(self.root, dict) else ""
        return Place(self.root, "", base)

    def below(self, place: Place, *path: str | int) -> Place:
        """The schema under these keys of another one."""
        inner = place.schema
        for part in path:
            inner = inner[part]
        base = self._own_base(inner, place.base) if isinstance(inner, dict) and "$id" in inner else place.base
        return Place(inner, "/".join((place.pointer, *(escaped(str(part)) for part in path))), base)

    def resolve(self, place: Place, reference: str) -> Place | None:
        """What a reference at `place` points at; `None` where that is not in the document."""
        uri, fragment = urldefrag(urljoin(place.base, reference))
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(f"{uri}#{fragment}")
        found = self._by_uri.get(uri)
        for part in fragment.split("/")[1:]:
            if found is None:
                return None
            key: str | int = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found.schema, list) and str(key).isdigit() and int(key) < len(found.schema):
                key = int(key)
            elif not isinstance(found.schema, dict) or key not in found.schema:
                return None
            found = self.below(found, key)
        return found if found is not None and isinstance(found.schema, dict | bool) else None

    def _note(self, place: Place) -> None:
        schema = place.schema
        if place.pointer and dialect(schema, self.draft) != self.draft:
            self.foreign = self.foreign or place.pointer
        identifier = schema.get("$id")
        if isinstance(identifier, str):
            if self.draft == 7 and identifier.startswith("#"):
                self._anchors[f"{place.base}{identifier}"] = place
            else:
                self._by_uri[place.base] = place
        if self.draft == 7:
            return
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := schema.get(keyword), str):
                self._anchors[f"{place.base}#{name}"] = place
        if isinstance(name := schema.get("$dynamicAnchor"), str):
            self.dynamic[name] = self.dynamic.get(name, 0) + 1
        if schema.get("$recursiveAnchor") is True:
            self.dynamic[""] = self.dynamic.get("", 0) + 1

    @property
    def resources(self) -> int:
        """How many schemas with an address of their own it is made of."""
        return len({place.pointer for place in self._by_uri.values()})

    def _own_base(self, schema: dict[str, Any], base: str) -> str:
        return own_base(schema, base, self.draft)


def own_base(schema: dict[str, Any], base: str, draft: int) -> str:
    """The base of what is inside a schema: its own `$id`, where it has one."""
    identifier = schema.get("$id")
    if not isinstance(identifier, str) or (draft == 7 and (identifier.startswith("#") or "$ref" in schema)):
        return base
    return urldefrag(urljoin(base, identifier)).url


def escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1") if "~" in part or "/" in part else part


def walk(schema: Any, pointer: str, base: str, draft: int) -> Iterator[Place]:
    """Every schema of a document, and of nothing that only looks like one: data under `const` is data."""
    if not isinstance(schema, dict):
        return
    base = own_base(schema, base, draft)
    yield Place(schema, pointer, base)
    for keyword, inner in schema.items():
        at = f"{pointer}/{escaped(keyword)}"
        if keyword in (*_ONE, *_ONE_LATER) and isinstance(inner, dict):
            yield from walk(inner, at, base, draft)
        if keyword in _LISTS and isinstance(inner, list):
            for position, each in enumerate(inner):
                yield from walk(each, f"{at}/{position}", base, draft)
        if keyword in _MAPS and isinstance(inner, dict):
            for name, each in inner.items():
                yield from walk(each, f"{at}/{escaped(name)}", base, draft)
