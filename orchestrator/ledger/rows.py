"""The rows beside the entries as a store on disk writes them: the tables' names, and the fold of one batch.

A writer has the rows of live tasks and open items at hand, all that entries can change; a task that is not live is looked up.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from interlock.orchestrator.ledger.projections import PROJECTED, AppRow, ContractRow, DeedRow, InboxRow, Key, Row, Tables, TaskRow, key_of
from interlock.orchestrator.ledger.writer import Stored
from interlock.schemas.entries import Entry

LIVE_TASKS = "SELECT * FROM tasks WHERE outcome = ''"
OPEN_ITEMS = "SELECT * FROM inbox WHERE decision = ''"
LAST_ENTRY = "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"


def _or_update(key: str, *columns: str) -> str:
    """Where the row is there already, change these columns and no others: their indexes alone are touched."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return f" ON CONFLICT ({key}) DO UPDATE SET {changes}"


TABLES: dict[type[Any], tuple[str, str]] = {
    TaskRow: ("tasks", _or_update("task", "state", "outcome", "reason", "ended_at")),
    InboxRow: ("inbox", _or_update("item", *(f'"{column}"' for column in InboxRow._fields[1:]))),
    ContractRow: ("contracts", _or_update("contract, version", "seq", "schema", '"by"')),
    AppRow: ("apps", _or_update("app, version", "seq", "spec", '"by"', "at")),
    DeedRow: ("deeds", _or_update("deed", *DeedRow._fields[1:])),
}
"""Per kind of row its table, and what an insert does where the row is there already: said alike by both databases."""


def projected(batch: Sequence[Stored]) -> list[Entry]:
    """Those entries of the batch that may change a row."""
    return [Entry(*stored) for stored in batch if stored[4] in PROJECTED]


class Held:
    """The rows of live tasks and open items."""

    def __init__(self) -> None:
        self._tables = Tables()

    def hold(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._tables.put(row)

    def unknown(self, entries: Sequence[Entry]) -> list[str]:
        """The tasks whose rows have to be looked up before the fold."""
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
