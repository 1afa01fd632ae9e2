"""Interlock's own contracts: the run record, the envelope, what a drill and undoing say. Every bus registers them before any other."""

from functools import cache
from typing import Any

from interlock.schemas.drill import Drill
from interlock.schemas.message import contract_of
from interlock.schemas.record import RunRecord
from interlock.schemas.registry.catalog import DIALECT
from interlock.schemas.undo import MESSAGES

_TIME = {"type": "string", "format": "date-time"}
_WORD = {"type": "string", "minLength": 1}

# Open, as CloudEvents asks: whoever passes an event on may add extension attributes of its own.
ENVELOPE: dict[str, Any] = {
    "$schema": DIALECT,
    "title": "Envelope",
    "description": "A CloudEvents 1.0 event in JSON: one message on its way over the bus.",
    "type": "object",
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {**_WORD, "description": "The task's or the dispatch's id."},
        "source": {**_WORD, "format": "uri-reference"},
        "type": {**_WORD, "description": "The contract's name."},
        "subject": {**_WORD, "description": "The task."},
        "time": _TIME,
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"type": "string", "pattern": "^interlock:[a-z0-9_.]+:[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?$"},
        "data": {"description": "The message; it satisfies the contract that dataschema names."},
        "traceparent": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        "correlationid": _WORD,
        "causationid": {"type": "string"},
        "label": {"type": "string", "pattern": "^(trusted|untrusted:.*)$"},
        "attempt": _WORD,
        "deadline": _TIME,
    },
    "required": [
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "datacontenttype",
        "dataschema",
        "data",
        "traceparent",
        "correlationid",
        "causationid",
        "label",
    ],
}


@cache
def builtin() -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Name, version and JSON Schema of each of Interlock's own contracts: the very same objects every time."""
    own = tuple((*contract_of(cls), cls.json_schema()) for cls in (RunRecord, Drill, *MESSAGES))
    return (*own, ("interlock.envelope", "1.0.0", ENVELOPE))
