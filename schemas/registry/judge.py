"""The proof itself: does one JSON Schema accept everything that another accepts?

A yes is `jsonschema_rs.CanonicalSchema.covers`, of which only YES is a proof. A no is a value that the old schema accepts and
the new one refuses (a few likely ones are tried), or else the library's own no. Whatever is not proved either way is `unknown`.

The cost of a proof is unbounded for some schemas (nested `if`, wide `allOf` of `anyOf`), so `compare` runs this file as a process
of its own with a bound on time and memory. For that it imports nothing of Interlock: it reads `{"new": …, "old": …}` from
standard input and writes `[status, reason]`.
"""

import json
import resource
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import jsonschema_rs
from jsonschema_rs import CanonicalSchema, canonical

MEMORY_BYTES = 2 << 30
SHOWN_CHARS = 300
TRIED = 2_000
DEPTH = 4

_BY_TYPE: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True, False],
    "integer": [0, 1, -1, 10**6],
    "number": [0, 0.5, -1, 10**6],
    "string": ["", "a", "a" * 12, "a" * 300],
    "array": [[]],
    "object": [{}],
}


def judge(new: Any, old: Any) -> tuple[str, str]:
    """`compatible`, `incompatible` or `unknown`, and the reason of anything but the first."""
    try:
        wider, narrower = _canonical(new), _canonical(old)
        containment = wider.covers(narrower)
    except canonical.IncompatibleOperands:
        doubt = 'a schema refers to itself by "$ref": "#"; put the recursive part under $defs and refer to it there'
        return _by_example(new, old) or ("unknown", doubt)
    except (canonical.CanonicalizationError, RecursionError) as error:
        return _by_example(new, old) or ("unknown", _raw(new) or _raw(old) or f"the two cannot be compared ({error})")
    if containment is canonical.Containment.YES:
        return "compatible", ""
    if containment is canonical.Containment.NO:
        return _by_example(new, old) or ("incompatible", _lost(wider, narrower))
    doubt = "it could not be proved that every value is still accepted; make the change smaller or of a simpler kind"
    return _by_example(new, old) or ("unknown", doubt)


def _canonical(schema: Any) -> CanonicalSchema:
    # Formats are annotations here, as they are when a message is validated.
    return jsonschema_rs.canonicalize(schema, draft=jsonschema_rs.Draft202012, validate_formats=False, offline=True)


def _raw(schema: Any) -> str:
    """Which part of a schema the library cannot model, if it says so."""
    try:
        view = _canonical(schema).view()
    except canonical.CanonicalizationError:
        return ""
    if not isinstance(view, canonical.RawView):
        return ""
    return f"the part at {view.pointer or '/'} cannot be compared ({view.reason}); write it in a simpler way"


def _lost(wider: CanonicalSchema, narrower: CanonicalSchema) -> str:
    """What is no longer accepted, as a schema, where the library can say it."""
    try:
        difference = narrower.subtract(wider).to_json_schema()
    except canonical.CanonicalizationError:
        return "it refuses values that were accepted"
    if isinstance(difference, dict):
        difference.pop("$schema", None)
    return f"it refuses values that were accepted, namely those of {_shown(difference)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"


# --- counterexamples ------------------------------------------------------------------------------------------------


def _by_example(new: Any, old: Any) -> tuple[str, str] | None:
    """`incompatible` with the first value found that only the old schema accepts."""
    accepted, still = _validator(old), _validator(new)
    for value in islice(_likely(old, old, DEPTH), TRIED):
        if accepted.is_valid(value) and not still.is_valid(value):
            return "incompatible", f"it refuses {_shown(value)}, which was accepted"
    return None


def _validator(schema: Any) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=False, offline=True)


def _likely(schema: Any, root: Any, depth: int) -> Iterator[Any]:
    """Values that the schema may well accept, simple ones first; the validators decide, so a guess may be wrong."""
    if not isinstance(schema, dict) or depth == 0:
        yield from (value for values in _BY_TYPE.values() for value in values)
        return
    if isinstance(ref := schema.get("$ref"), str) and ref.startswith("#"):
        yield from _likely(_target(root, ref), root, depth - 1)
    for keyword in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(keyword, ()):
            yield from _likely(branch, root, depth - 1)
    yield from schema.get("enum", ())
    yield from (schema[bound] for bound in ("const", "minimum", "maximum") if bound in schema)
    kinds = schema.get("type", list(_BY_TYPE))
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        yield from _BY_TYPE[kind]
    if "object" in kinds:
        yield from _likely_objects(schema, root, depth)
    if "array" in kinds and "items" in schema:
        yield from ([item] for item in _likely(schema["items"], root, depth - 1))


def _likely_objects(schema: dict[str, Any], root: Any, depth: int) -> Iterator[Any]:
    """The smallest object, the fullest one, one with a strange field, and the smallest with each value of each property."""
    properties = schema.get("properties", {})
    first = {name: _first_accepted(inner, root, depth) for name, inner in properties.items()}
    smallest = {name: first.get(name) for name in schema.get("required", ())}
    yield smallest
    yield from ({**smallest, name: value} for name, value in first.items())
    yield first
    yield {**smallest, "another_field": None}
    for name, inner in properties.items():
        yield from ({**smallest, name: value} for value in _likely(inner, root, depth - 1))


def _first_accepted(schema: Any, root: Any, depth: int) -> Any:
    """A likely value of a property that the property's own schema accepts, or null."""
    whole = {"$defs": root.get("$defs", {}), **schema} if isinstance(root, dict) and isinstance(schema, dict) else schema
    try:
        validator = _validator(whole)
    except ValueError:
        return None
    return next((value for value in islice(_likely(schema, root, depth - 1), TRIED) if validator.is_valid(value)), None)


def _target(root: Any, ref: str) -> Any:
    """What a local reference points at; `True` where it is an anchor or nothing."""
    target = root
    for part in ref.removeprefix("#").split("/")[1:]:
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return True if target is None else target


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    request = json.load(sys.stdin)
    json.dump(judge(request["new"], request["old"]), sys.stdout)


if __name__ == "__main__":
    main()
