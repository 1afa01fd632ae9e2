"""The rows beside the entries as a store on disk writes them: the tables' names, and the fold of one batch.

A writer has the rows of some live tasks and their open items at hand: all that entries can change. Those of another task are looked up when
an entry of it comes, so a restart reads none, and tasks that only wait take no memory.
"""

from collections.abc import Sequence
from typing import Any

from interlock.orchestrator.ledger.projections import PROJECTED, AppRow, ContractRow, DeedRow, InboxRow, Key, Row, Tables, TaskRow, key_of
from interlock.orchestrator.ledger.sealer import Sealed
from interlock.schemas.entries import Entry

DESTROY_KEY = "UPDATE keys SET secret = ? WHERE task = ?"
DELETE_CONTENTS = "DELETE FROM contents WHERE task = ?"
LAST_ENTRY = "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"

ROWS_AT_MOST = 20_000
"""With more at hand a writer forgets all: the next batches look up what they need."""


def _or_update(key: str, *columns: str) -> str:
    """Where the row is there already, change these columns and no others: their indexes alone are touched."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return f" ON CONFLICT ({key}) DO UPDATE SET {changes}"


TABLES: dict[type[Any], tuple[str, str]] = {
    TaskRow: ("tasks", _or_update("task", "state", "outcome", "ended_at", "reason_seq")),
    InboxRow: ("inbox", _or_update("item", *(f'"{column}"' for column in InboxRow._fields[1:]))),
    ContractRow: ("contracts", _or_update("contract, version", "seq", "schema", '"by"')),
    AppRow: ("apps", _or_update("app, version", "seq", "spec", '"by"', "at")),
    DeedRow: ("deeds", _or_update("deed", *DeedRow._fields[1:])),
}
"""Per kind of row its table, and what an insert does where the row is there already: said alike by both databases."""

KEYS, CONTENTS = ("keys", ""), ("contents", " ON CONFLICT (task, name) DO NOTHING")
"""The same of what is beside the entries and no fold of them."""


def projected(batch: Sealed) -> list[Entry]:
    """Those entries of the batch that may change a row."""
    return [entry for entry in batch.opened if entry.kind in PROJECTED]


class Held:
    """The rows of some live tasks, each with all its open items. Use it for one batch after another, each written before the next."""

    def __init__(self) -> None:
        self._tables = Tables()

    def hold(self, tasks: Sequence[TaskRow], items: Sequence[InboxRow]) -> None:
        """What was looked up: both, or a task would seem to have nothing open."""
        for task in tasks:
            self._tables.put(task)
        for item in items:
            self._tables.put(item)

    def unknown(self, entries: Sequence[Entry]) -> list[str]:
        """The tasks whose rows and open items have to be looked up before the fold."""
        if len(self._tables.rows) > ROWS_AT_MOST:
            self._tables = Tables()
        return list({entry.task for entry in entries if not self._tables.holds(entry.task)})

    def fold(self, entries: Sequence[Entry]) -> list[Row]:
        """The rows that these entries change, each once, as they are after all of them. What is settled is let go."""
        changed: dict[Key, Row] = {}
        for entry in entries:
            changed.update((key_of(row), row) for row in self._tables.fold(entry))
        for row in changed.values():
            if not _is_live(row):
                self._tables.forget(row)
        return list(changed.values())


def _is_live(row: Row) -> bool:
    return (isinstance(row, TaskRow) and not row.outcome) or (isinstance(row, InboxRow) and not row.decision)
