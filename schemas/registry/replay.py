"""Counterexamples are tried before they are shown: the one validator accepts them, the other refuses them. Then they are made small."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jsonschema_rs

from interlock.schemas.canonical import encode
from interlock.schemas.registry.explain import explain

_VALIDATORS = {7: jsonschema_rs.Draft7Validator, 2019: jsonschema_rs.Draft201909Validator, 2020: jsonschema_rs.Draft202012Validator}
_TRIED_AT_MOST = 400


class Refusal(NamedTuple):
    """A message that one schema accepts and the other refuses, where, and why."""

    message: Any
    accepted_by: str
    refused_by: str
    pointer: str
    problem: str


def validator(schema: Any, draft: int, formats: bool = False) -> jsonschema_rs.Validator:
    """As the bus validates. Raises `ValueError` for what is no schema of the draft."""
    return _VALIDATORS[draft](schema, validate_formats=formats, offline=True)


def tells_apart(accepting: jsonschema_rs.Validator, refusing: jsonschema_rs.Validator, message: Any) -> bool:
    """The message is real JSON, the one accepts it and the other does not."""
    try:
        return accepting.is_valid(message) and not refusing.is_valid(message)
    except ValueError:
        return False


def refusal(accepting: jsonschema_rs.Validator, refusing: jsonschema_rs.Validator, message: Any, sides: tuple[str, str]) -> Refusal:
    """What is shown of a message that tells the two apart: the smallest like it."""
    small = shrunk(message, lambda other: tells_apart(accepting, refusing, other))
    problem = explain(refusing, small)
    pointer, words = (problem.pointer, problem.words) if problem else ("/", "it does not satisfy the schema")
    return Refusal(small, *sides, pointer, words)


def shrunk(message: Any, does: Callable[[Any], bool]) -> Any:
    """The smallest message that still does, by taking one thing away at a time."""
    tried = 0
    smaller = True
    while smaller:
        smaller = False
        for other in _simpler(message):
            tried += 1
            if tried > _TRIED_AT_MOST:
                return message
            if _size(other) < _size(message) and does(other):
                message, smaller = other, True
                break
    return message


def _size(message: Any) -> tuple[int, int]:
    text = encode(message)
    return len(text), sum(char not in b'0a{}[]"' for char in text)


def _simpler(message: Any) -> Iterator[Any]:
    if isinstance(message, dict | list):
        yield from message.values() if isinstance(message, dict) else message
    if isinstance(message, dict):
        for name in message:
            yield {other: value for other, value in message.items() if other != name}
        for name, value in message.items():
            for inner in _simpler(value):
                yield {**message, name: inner}
    elif isinstance(message, list):
        yield []
        for at in range(len(message)):
            yield message[:at] + message[at + 1 :]
        for at, value in enumerate(message):
            for inner in _simpler(value):
                yield [*message[:at], inner, *message[at + 1 :]]
    elif isinstance(message, str) and message:
        yield from ("", message[: len(message) // 2], message[1:], message[:-1])
    elif not isinstance(message, bool) and isinstance(message, int | float) and message:
        yield from (0, int(message), 1)
