"""Why a value breaks a schema, in words for a person or a model.

Of all errors the most telling one is chosen: the one nearest the root, and inside `anyOf` and `oneOf` the branch that came
closest. The errors are those of the validator itself (`jsonschema_rs`), so the explanation never runs a pattern in another,
backtracking engine, and what it says is bounded however large the value is.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jsonschema_rs import ValidationError, ValidationErrorKind, Validator

POINTER_CHARS = 200
PROBLEM_CHARS = 300

_BRANCHED = (ValidationErrorKind.AnyOf, ValidationErrorKind.OneOfNotValid)


class Problem(NamedTuple):
    """Where (a JSON Pointer, `/` for the whole value) and what is wrong. `allowed` are the values that may stand there, if they
    are listed, `given` the one that does; `unexpected` the names of fields that may not."""

    pointer: str
    words: str
    allowed: tuple[Any, ...] = ()
    given: Any = None
    unexpected: tuple[str, ...] = ()


def pointer(path: Iterable[str | int]) -> str:
    """A bounded JSON Pointer; `/` for the root, which a reader sees better than nothing."""
    text = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return _bounded(text, POINTER_CHARS) or "/"


def explain(validator: Validator, value: Any) -> Problem | None:
    """The most telling problem of `value`, or `None` where it is valid."""
    try:
        errors = list(validator.iter_errors(value))
    except ValueError:
        return Problem("/", "it is nested too deeply to be checked")
    return _problem(_most_telling(errors)) if errors else None


def explain_all(validator: Validator, value: Any, most: int) -> list[Problem]:
    """Every separate problem of `value`, nearest the root first, `most` at the most."""
    try:
        errors = sorted(validator.iter_errors(value), key=_rank)
    except ValueError:
        return [Problem("/", "it is nested too deeply to be checked")]
    return [_problem(_descended(error)) for error in errors[:most]]


def _rank(error: ValidationError) -> tuple[int, bool]:
    return len(error.instance_path), isinstance(error.kind, _BRANCHED)


def _most_telling(errors: Sequence[ValidationError]) -> ValidationError:
    return _descended(min(errors, key=_rank))


def _descended(error: ValidationError) -> ValidationError:
    """Inside `anyOf` and `oneOf`: the error of the branch that was meant, if one branch got further than the others."""
    kind = error.kind
    if not isinstance(kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        return error
    branches = [branch for branch in kind.context if branch and not _wrong_type(branch, error)]
    if len(branches) != 1:
        return error
    return _most_telling(branches[0])


def _wrong_type(branch: Sequence[ValidationError], error: ValidationError) -> bool:
    """The value is not even of the branch's type, so the branch was not the one meant."""
    return any(isinstance(inner.kind, ValidationErrorKind.Type) and inner.instance_path == error.instance_path for inner in branch)


def _problem(error: ValidationError) -> Problem:
    kind = error.kind
    problem = Problem(pointer(error.instance_path), _bounded(error.message, PROBLEM_CHARS))
    if isinstance(kind, ValidationErrorKind.Enum):
        return problem._replace(allowed=tuple(kind.options), given=error.instance)
    if isinstance(kind, ValidationErrorKind.Constant):
        return problem._replace(allowed=(kind.expected_value,), given=error.instance)
    if isinstance(kind, ValidationErrorKind.AdditionalProperties):
        return problem._replace(unexpected=tuple(kind.unexpected))
    return problem


def _bounded(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"
