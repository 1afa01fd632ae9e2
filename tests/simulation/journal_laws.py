"""Laws that the supervisor's journal shows by all its rows, in a simulated storm as on Ray."""

from collections.abc import Iterable, Sequence
from typing import Any

from interlock.actors.supervisor.journal import Row
from interlock.actors.supervisor.meters import Meters
from interlock.schemas import entries as e
from interlock.schemas.entries import Entry


def check_fences(rows: Sequence[Row], facts: Iterable[tuple[Entry, Any]]) -> None:
    """After an order against a task nothing is reserved for it, and once the ledger has the order nothing of it is intended."""
    ordered = {row.task: row.seq for row in rows if row.kind == "order"}
    late = [row for row in rows if row.kind == "reserve" and row.seq > ordered.get(row.task, row.seq)]
    assert not late, late
    recorded: dict[str, int] = {}
    for entry, fact in facts:
        if isinstance(fact, e.OrderRecorded):
            recorded[entry.task] = entry.seq
        assert not (isinstance(fact, e.EffectIntended) and entry.task in recorded), entry


def check_limits(rows: Sequence[Row], at_least: int) -> None:
    """What was used and is held never passes a limit, at any row. There are so many reservations at least: without any this would say
    nothing."""
    meters, reserved = Meters(), 0
    for row in rows:
        if row.kind == "order":
            meters.fence(row.task, "an order")
        elif row.kind == "receipt":
            meters.release(row.task)
        else:
            meters.apply(row.kind, row.task, row.data)
        reserved += row.kind == "reserve"
        for meter, (used, held, limit) in meters.used(row.task).items():
            assert limit is None or used + held <= limit, (row, meter)
    assert reserved >= at_least, reserved
