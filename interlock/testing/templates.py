"""Answers of a playbook that cite the request: `{{/order_id}}` is a JSON pointer into the last user message that is JSON,
`{{tool/total}}` one into the last tool result. A string that is nothing but a citation becomes the value itself, of its own type.
"""

import re
from typing import Any

from interlock.schemas.canonical import encode

_CITATION = re.compile(r"\{\{(?=tool|/)(tool)?(/[^{}]*)?\}\}")


class NoValue(Exception):
    """The request has nothing where the answer points."""


def filled(value: Any, user: Any, tool: Any) -> Any:
    """`value` with every citation replaced; raises `NoValue` where one points at nothing."""
    if isinstance(value, dict):
        return {key: filled(item, user, tool) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, user, tool) for item in value]
    if not isinstance(value, str):
        return value
    whole = _CITATION.fullmatch(value)
    if whole:
        return _cited(whole, user, tool)
    return _CITATION.sub(lambda match: _as_text(_cited(match, user, tool)), value)


def unfolded(value: Any) -> Any:
    """`value` with each `{"$lines": [...]}` as one text of those lines, so that a diff stays readable in JSON."""
    if isinstance(value, dict):
        lines = value.get("$lines")
        if len(value) == 1 and isinstance(lines, list):
            return "".join(f"{line}\n" for line in lines)
        return {key: unfolded(item) for key, item in value.items()}
    return [unfolded(item) for item in value] if isinstance(value, list) else value


def at(document: Any, pointer: str) -> Any:
    """What the JSON pointer names in `document`; raises `LookupError` where there is nothing."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list) and key.isdigit():
            document = document[int(key)]
        elif isinstance(document, dict):
            document = document[key]
        else:
            raise LookupError(pointer)
    return document


def _cited(match: re.Match[str], user: Any, tool: Any) -> Any:
    source, pointer = match.groups()
    document, name = (tool, "last tool result") if source else (user, "last user message that is JSON")
    try:
        return at(document, pointer or "")
    except LookupError:
        raise NoValue(f"the answer cites {match.group()}, and the {name} has nothing there") from None


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()
