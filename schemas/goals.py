"""What a task is for, in words that go with each of its dispatches: declared with the workflow, filled with fields of the request.

`Draft an invoice for order {order_id}` may cite plain trusted fields only: the words stand where a model takes them for its owner's.
"""

import inspect
from functools import lru_cache
from string import Formatter
from typing import Any

from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.message import UNTRUSTED_KEY
from interlock.schemas.words import clean

VALUE_CHARS = 1_000
_NOT_PLAIN = (f'"{UNTRUSTED_KEY}"', '"$ref"', '"type":"object"', '"type":"array"')


def first_paragraph(thing: object) -> str:
    """What a docstring says first, as one line; empty where there is none. Nothing in it is a field."""
    said = (inspect.getdoc(thing) or "") if inspect.isfunction(thing) else ""
    return " ".join(said.split("\n\n")[0].split()).replace("{", "{{").replace("}", "}}")


def until_of(condition: object) -> str:
    """An exit condition in words: what its docstring says first, else its name."""
    name = getattr(condition, "__name__", "")
    return filled(first_paragraph(condition), b"{}") or ("" if name == "<lambda>" else name.replace("_", " "))


def check_goal(what: str, goal: str, schema: dict[str, Any]) -> None:
    """Refuse a goal that cites what the request does not have, or what may not stand in it."""
    try:
        cited = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(goal) if name is not None]
    except ValueError as error:
        raise _bad(what, f"its goal cannot be read ({error})") from None
    for name, spec, conversion in cited:
        found = schema.get("properties", {}).get(name)
        if found is None or spec or conversion:
            raise _bad(what, f"its goal cites {{{name}}}, which is no field of its request")
        if any(mark in encode(found).decode() for mark in _NOT_PLAIN):
            raise _bad(what, f"its goal cites {{{name}}}, which is untrusted or no plain value")


def _bad(what: str, problem: str) -> BadDeclaration:
    return BadDeclaration(what=what, problem=problem, remedy="Cite plain trusted fields of the request, as in goal='Answer {question}'.")


@lru_cache(maxsize=4096)
def filled(goal: str, request: bytes) -> str:
    """The goal of the task that has this request."""
    if "{" not in goal and "}" not in goal:
        return goal
    fields = decode(request)
    said = []
    for literal, name, _, _ in Formatter().parse(goal):
        said.append(literal)
        if name is not None:
            value = fields.get(name)
            said.append(clean(value if isinstance(value, str) else encode(value).decode(), VALUE_CHARS))
    return "".join(said)
