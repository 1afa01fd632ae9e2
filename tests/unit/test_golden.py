"""What others rely on and nobody changes by accident: the message of every error, the kinds and fields of every entry.

After a change made on purpose: `python tests/unit/test_golden.py` writes both files anew. It refuses a change that would make
an entry unreadable that is already stored: of kinds and fields some may come, none may go.
"""

import dataclasses
import json
from pathlib import Path
from string import Formatter
from typing import Any

from interlock.schemas import errors
from interlock.schemas.entries import KINDS

HERE = Path(__file__).parent
ERRORS = HERE / "golden_errors.json"
ENTRIES = HERE / "golden_entries.json"


def error_classes() -> list[type[errors.InterlockError]]:
    return [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.InterlockError)]


def facts_of(cls: type[errors.InterlockError]) -> dict[str, str]:
    return {name: f"<{name}>" for _, name, _, _ in Formatter().parse(cls.template) if name}


def current_errors() -> dict[str, str]:
    return {cls.code: str(cls(**facts_of(cls))) for cls in error_classes()}


def current_entries() -> dict[str, dict[str, str]]:
    """Per kind, each field and whether it must be given."""
    return {kind: {f.name: "optional" if _has_default(f) else "required" for f in dataclasses.fields(cls)} for kind, cls in KINDS.items()}


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def golden(file: Path) -> Any:
    return json.loads(file.read_text())


def test_every_error_says_what_it_said() -> None:
    assert current_errors() == golden(ERRORS)


def test_every_kind_of_entry_is_pinned() -> None:
    assert current_entries() == golden(ENTRIES), "run python tests/unit/test_golden.py and look at the difference"


def lost(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> list[str]:
    """What stored entries need and `new` no longer has: a kind, a field, or the right to leave a field out."""
    problems = [f"{kind} is gone" for kind in old if kind not in new]
    for kind in old.keys() & new.keys():
        problems += [f"{kind}.{name} is gone" for name in old[kind] if name not in new[kind]]
        problems += [
            f"{kind}.{name} needs a default" for name, need in new[kind].items() if need == "required" and old[kind].get(name) != "required"
        ]
    return sorted(problems)


def test_what_would_make_a_stored_entry_unreadable_is_seen() -> None:
    old = {"a": {"x": "required", "y": "optional"}, "b": {}}
    new = {"a": {"y": "required", "z": "required"}, "c": {"x": "required"}}
    assert lost(old, new) == ["a.x is gone", "a.y needs a default", "a.z needs a default", "b is gone"]


if __name__ == "__main__":
    if ENTRIES.exists() and (problems := lost(golden(ENTRIES), current_entries())):
        raise SystemExit(f"stored entries would be unreadable: {'; '.join(problems)}. Keep them, or begin a new kind.")
    for file, content in ((ERRORS, current_errors()), (ENTRIES, current_entries())):
        file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
