"""A second opinion on compatibility: the canonical forms of `jsonschema_rs`, which are experimental, so nothing else here touches them.

Some schemas keep them busy for hours, and nothing ends that from outside but ending the process. So only what is small and holds few
choices is looked at in this process; anything else by one of its own, for which this file is run as a script: it imports nothing of
Interlock.
"""

import json
import subprocess
import sys
from typing import Any, Literal

import jsonschema_rs
import orjson
from jsonschema_rs import canonical

Opinion = Literal["yes", "no", "unknown"]

SECONDS = 2.0
"""How long a process of its own may take; after that it has no opinion."""

DRAFTS = {7: jsonschema_rs.Draft7, 2019: jsonschema_rs.Draft201909, 2020: jsonschema_rs.Draft202012}

_SCHEMAS_AT_MOST = 400
_DEPTH_AT_MOST = 30
_NULLABLE_AT_MOST = 8
_PLAIN_AT_MOST = 20_000
"""Characters of a schema without any choice that is small in any case."""
_CHOICES = ("anyOf", "oneOf", "not", "if", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems")

_WORDS = [word.encode() for word in ("$ref", *_CHOICES)]


def opinion(new: Any, old: Any, draft: int, formats: bool, seconds: float = SECONDS) -> Opinion:
    """Whether `new` accepts all that `old` accepts, both of one draft; without a doubt only if it is a `no`."""
    if _is_easy(new) and _is_easy(old):
        return _covers(new, old, draft, formats)
    # -P: the folder of the script, with its plain names, stays off the child's import path.
    command = [sys.executable, "-P", __file__]
    request = json.dumps({"new": new, "old": old, "draft": draft, "formats": formats})
    try:
        child = subprocess.run(command, input=request, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "unknown"
    found: Opinion = json.loads(child.stdout) if child.returncode == 0 else "unknown"
    return found


def difference(old: Any, new: Any, draft: int, formats: bool) -> Any:
    """A schema of what `old` accepts and `new` does not; `False` where none is at hand."""
    if not (_is_easy(new) and _is_easy(old)):
        return False
    try:
        return _canonical(old, draft, formats).subtract(_canonical(new, draft, formats)).to_json_schema()
    except (canonical.CanonicalizationError, ValueError):
        return False


def _covers(new: Any, old: Any, draft: int, formats: bool) -> Opinion:
    try:
        found = _canonical(new, draft, formats).covers(_canonical(old, draft, formats))
    except (canonical.CanonicalizationError, ValueError):
        return "unknown"
    return "yes" if found is canonical.Containment.YES else "no" if found is canonical.Containment.NO else "unknown"


def _canonical(schema: Any, draft: int, formats: bool) -> jsonschema_rs.CanonicalSchema:
    return jsonschema_rs.canonicalize(schema, draft=DRAFTS[draft], validate_formats=formats, offline=True)


def _is_easy(schema: Any) -> bool:
    """Small, and with few choices: of those between something and null some, of others hardly any."""
    text = orjson.dumps(schema)
    if len(text) < _PLAIN_AT_MOST and not any(word in text for word in _WORDS):
        return True
    count = nullable = choices = 0
    todo = [(schema, 0)]
    while todo:
        part, depth = todo.pop()
        if isinstance(part, list):
            todo.extend((inner, depth + 1) for inner in part)
        if not isinstance(part, dict):
            continue
        count += 1
        for keyword, inner in part.items():
            if keyword == "anyOf" and isinstance(inner, list) and len(inner) == 2 and {"type": "null"} in inner:
                nullable += 1
            elif keyword in _CHOICES:
                choices += len(inner) if isinstance(inner, list | dict) else 1
            todo.append((inner, depth + 1))
        if count > _SCHEMAS_AT_MOST or depth > _DEPTH_AT_MOST or choices > 2 or nullable > _NULLABLE_AT_MOST:
            return False
    return True


def _main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    request = json.load(sys.stdin)
    json.dump(_covers(request["new"], request["old"], request["draft"], request["formats"]), sys.stdout)


if __name__ == "__main__":
    _main()
