"""Marks: which fields of a contract carry what outsiders wrote, and so which messages are untrusted."""

from typing import Any

from interlock.schemas.labels import TRUSTED, Label, untrusted
from interlock.schemas.message import UNTRUSTED_KEY
from interlock.schemas.registry.catalog import Catalog


class Marks:
    """Finds the marked properties of each contract once, then looks only at whether a message has them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}

    def label(self, contract: str, version: str, value: Any) -> Label:
        """Untrusted, with `contract/property` as source, for each marked top-level property that is there and not empty."""
        marked = self._found.get((contract, version))
        if marked is None:
            marked = self._found[contract, version] = _marked(self._catalog.get(contract, version))
        if not marked or not isinstance(value, dict):
            return TRUSTED
        sources = [f"{contract}/{name}" for name in marked if value.get(name)]
        return untrusted(*sources) if sources else TRUSTED


def _marked(schema: dict[str, Any]) -> tuple[str, ...]:
    definitions = schema.get("$defs", {})
    return tuple(name for name, part in schema.get("properties", {}).items() if _carries(part, definitions, set()))


def _carries(part: Any, definitions: dict[str, Any], seen: set[str]) -> bool:
    """Whether the mark stands anywhere in this part of the schema, definitions that it refers to included."""
    if isinstance(part, list):
        return any(_carries(item, definitions, seen) for item in part)
    if not isinstance(part, dict):
        return False
    if part.get(UNTRUSTED_KEY) is True:
        return True
    name = str(part.get("$ref", "")).removeprefix("#/$defs/")
    if name in definitions and name not in seen:
        seen.add(name)
        if _carries(definitions[name], definitions, seen):
            return True
    return any(_carries(item, definitions, seen) for key, item in part.items() if key != "$defs")
