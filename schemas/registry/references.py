"""References that leave a schema: the bus never fetches one, so a contract must hold all that it refers to."""

from typing import Any
from urllib.parse import urldefrag, urljoin

_DATA = ("const", "enum", "default", "examples")
"""Keywords whose value is data: a `$ref` in there is no reference. (A property of such a name is found by the compiler.)"""


def outside(schema: Any) -> str:
    """The first reference that does not resolve inside the document; empty where all do."""
    targets: set[str] = {""}
    references: list[tuple[str, str]] = []
    _collect(schema, "", targets, references)
    return next((written for written, resolved in references if resolved not in targets), "")


def _collect(part: Any, base: str, targets: set[str], references: list[tuple[str, str]]) -> None:
    if isinstance(part, list):
        for item in part:
            _collect(item, base, targets, references)
    if not isinstance(part, dict):
        return
    if isinstance(part.get("$id"), str):
        base = urldefrag(urljoin(base, part["$id"])).url
        targets.add(base)
    for keyword in ("$ref", "$dynamicRef"):
        if isinstance(part.get(keyword), str):
            references.append((part[keyword], urldefrag(urljoin(base, part[keyword])).url))
    for keyword, inner in part.items():
        if keyword not in _DATA:
            _collect(inner, base, targets, references)
