"""Marks: which fields of a contract carry what outsiders wrote, and so which messages are untrusted.

A contract is walked from its root, through references and alternatives. Where a mark stands and the walk cannot tell under which
property, the whole message is untrusted: in doubt nothing is trusted.
"""

from typing import Any, NamedTuple

from interlock.schemas.labels import TRUSTED, Label, untrusted
from interlock.schemas.message import UNTRUSTED_KEY
from interlock.schemas.registry.catalog import Catalog

_SAME_VALUE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")
"""Keywords whose schemas speak of the very value that the schema around them speaks of."""
_PLAIN = frozenset({"properties", "$defs", "definitions", "$ref", *_SAME_VALUE})


class Marked(NamedTuple):
    """The marked top-level properties of a contract; `whole` where a mark may be on anything in it."""

    names: tuple[str, ...]
    whole: bool


class Marks:
    """Finds the marked properties of each contract once, then looks only at whether a message has them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[tuple[str, str], Marked] = {}

    def label(self, contract: str, version: str, value: Any) -> Label:
        """Untrusted, with `contract/property` as source, for each marked top-level property that is there and not empty; with the contract
        alone as source where more cannot be told."""
        marked = self._found.get((contract, version))
        if marked is None:
            marked = self._found[contract, version] = marked_in(self._catalog.get(contract, version))
        if not marked.names and not marked.whole:
            return TRUSTED
        if marked.whole or not isinstance(value, dict):
            return untrusted(contract) if value else TRUSTED
        sources = [f"{contract}/{name}" for name in marked.names if value.get(name)]
        return untrusted(*sources) if sources else TRUSTED


def marked_in(schema: dict[str, Any]) -> Marked:
    """The marks of a contract's schema."""
    walk = _Walk(schema)
    if _mentions(schema):
        walk.at(schema)
    return Marked(tuple(sorted(walk.names)), walk.whole)


class _Walk:
    """One walk from a contract's root along everything that speaks of the message itself."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._been: set[str] = set()
        self.names: set[str] = set()
        self.whole = False

    def at(self, part: Any) -> None:
        if not isinstance(part, dict):
            return
        self.whole = self.whole or part.get(UNTRUSTED_KEY) is True
        for name, schema in part.get("properties", {}).items():
            if self._carries(schema, set()):
                self.names.add(name)
        if "$ref" in part and part["$ref"] not in self._been:
            self._been.add(part["$ref"])
            self._refers(part["$ref"])
        for keyword in _SAME_VALUE:
            inner = part.get(keyword, ())
            for one in inner if isinstance(inner, list) else inner.values() if keyword == "dependentSchemas" and inner else (inner,):
                self.at(one)
        rest = {key: value for key, value in part.items() if key not in _PLAIN}
        self.whole = self.whole or self._carries(rest, set())

    def _refers(self, ref: str) -> None:
        known, target = _resolve(self._root, ref)
        if known:
            self.at(target)
        else:
            self.whole = True

    def _carries(self, part: Any, seen: set[str]) -> bool:
        """Whether a mark stands anywhere in this part, what it refers to included; also where it refers to what cannot be found."""
        if isinstance(part, list):
            return any(self._carries(item, seen) for item in part)
        if not isinstance(part, dict):
            return False
        if part.get(UNTRUSTED_KEY) is True or "$dynamicRef" in part or "$recursiveRef" in part:
            return True
        ref = part.get("$ref")
        if isinstance(ref, str) and ref not in seen:
            seen.add(ref)
            known, target = _resolve(self._root, ref)
            if not known or self._carries(target, seen):
                return True
        return any(self._carries(item, seen) for key, item in part.items() if key not in ("$defs", "definitions"))


def _mentions(part: Any) -> bool:
    """Whether a mark stands anywhere in the document at all."""
    if isinstance(part, dict):
        return part.get(UNTRUSTED_KEY) is True or any(_mentions(item) for item in part.values())
    return isinstance(part, list) and any(_mentions(item) for item in part)


def _resolve(root: Any, ref: str) -> tuple[bool, Any]:
    """What a reference within the document (`#`, `#/a/b`) points to, and whether there is such a thing."""
    if ref == "#":
        return True, root
    if not ref.startswith("#/"):
        return False, None
    for step in ref[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(root, list) and key.isdigit() and int(key) < len(root):
            root = root[int(key)]
        elif isinstance(root, dict) and key in root:
            root = root[key]
        else:
            return False, None
    return True, root
