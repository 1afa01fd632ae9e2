"""What a check of two contracts costs, and a validation on the hot path: into `benchmarks/contracts.json`, ending with 1 below a mark."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from benchmarks.figures import Mark
from interlock.schemas import check
from interlock.schemas.registry.catalog import Catalog

RESULTS = Path(__file__).with_name("contracts.json")
ROUNDS, CALLS = 40, 25

MARKS = {"check_ms": Mark("at most", 2.0), "validate_us": Mark("at most", 5.0)}


def contract() -> dict[str, Any]:
    """Thirty properties, as a message class writes them."""
    kinds: list[Any] = [
        {"type": "string", "maxLength": 200},
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "string"}},
        {"enum": ["new", "paid", "sent"]},
        {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string"}}, "required": ["zip"]},
        {"type": ["number", "null"]},
    ]
    properties = {f"field_{at}": kinds[at % len(kinds)] for at in range(30)}
    return {"type": "object", "properties": properties, "required": ["field_0", "field_1"], "additionalProperties": False}


def changed() -> list[dict[str, Any]]:
    """The changes that people make."""
    found = []
    for name, schema in (
        ("extra", {"type": "string"}),
        ("field_1", {"type": "integer", "minimum": 1}),
        ("field_3", {"enum": ["new", "paid"]}),
    ):
        new = deepcopy(contract())
        new["properties"][name] = schema
        found.append(new)
    return [*found, {**contract(), "required": ["field_0"]}, {**contract(), "required": ["field_0", "field_2"]}]


def message() -> dict[str, Any]:
    """A kilobyte of it."""
    texts = {f"field_{at}": "x" * 100 for at in (0, 6, 12, 18, 24)}
    numbers = {f"field_{at}": at for at in (1, 7, 13, 19, 25)}
    lists = {f"field_{at}": ["y" * 20, "z" * 20] for at in (2, 8, 14, 20)}
    return {**texts, **numbers, **lists, "field_4": {"street": "s", "zip": "z"}, "field_3": "paid"}


def median(call: Callable[[], object]) -> float:
    """Seconds, as the median of the round that was disturbed the least: others use the machine too."""
    return min(_round(call) for _ in range(ROUNDS))


def _round(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> int:
    catalog, old, value = Catalog(), contract(), message()
    catalog.register("bench.contract", "1.0.0", old)
    results = {
        "check_ms": statistics.median(median(lambda new=new: check(old, new)) for new in changed()) * 1e3,  # type: ignore[misc]
        "validate_us": median(lambda: catalog.validate("bench.contract", "1.0.0", value)) * 1e6,
        "message_bytes": float(len(json.dumps(value))),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    short = [f"{name} is {results[name]:.2f}; its mark is {mark}." for name, mark in MARKS.items() if not mark.reached(results[name])]
    for name, figure in results.items():
        print(f"{name:20} {figure:12.2f}" + (f"   mark: {MARKS[name]}" if name in MARKS else ""))
    for sentence in short:
        print(f"Below the mark: {sentence}", file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
