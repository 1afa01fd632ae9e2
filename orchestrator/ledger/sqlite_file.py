"""The ledger's file: its layout, how one is made, and the one way to write it: a whole batch in one transaction.

A commit writes entries and projections together and is on disk when it returns (`synchronous=FULL`). It checks the epoch in the file, so
an orchestrator that was succeeded can write nothing. Entries can be neither changed nor deleted. Statements carry many rows each: every
statement gives up the interpreter's lock, and under load waits milliseconds to get it back.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from interlock.orchestrator.ledger.chain import GENESIS
from interlock.orchestrator.ledger.projections import PROJECTED, AppRow, ContractRow, InboxRow, Key, Row, Tables, TaskRow, key_of
from interlock.orchestrator.ledger.reader import APPLICATION_ID, SCHEMA_VERSION, open_file
from interlock.orchestrator.ledger.writer import Opened, Stored
from interlock.schemas.entries import Entry
from interlock.schemas.errors import LedgerExists, StaleEpoch, StoreFailed

_SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
BEGIN;
CREATE TABLE epoch (epoch INTEGER NOT NULL) STRICT;
INSERT INTO epoch VALUES (0);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, at INTEGER NOT NULL, task TEXT NOT NULL, kind TEXT NOT NULL,
    data BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE INDEX entries_of_task ON entries (task);
CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;
CREATE TRIGGER entries_keep BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries never change'); END;
CREATE TABLE tasks (
    task TEXT PRIMARY KEY, seq INTEGER NOT NULL, type TEXT NOT NULL, state TEXT NOT NULL, outcome TEXT NOT NULL,
    reason TEXT NOT NULL, accepted_at INTEGER NOT NULL, ended_at INTEGER
) STRICT;
CREATE INDEX tasks_by_seq ON tasks (seq);
CREATE INDEX tasks_live ON tasks (seq) WHERE outcome = '';
CREATE TABLE inbox (
    item TEXT PRIMARY KEY, seq INTEGER NOT NULL, task TEXT NOT NULL, kind TEXT NOT NULL, "to" TEXT NOT NULL, text TEXT NOT NULL,
    details TEXT NOT NULL, n INTEGER NOT NULL, dispatch TEXT NOT NULL, asked_at INTEGER NOT NULL, expires INTEGER NOT NULL,
    decision TEXT NOT NULL, "by" TEXT NOT NULL, note TEXT NOT NULL, decided_at INTEGER
) STRICT;
CREATE INDEX inbox_open ON inbox (task) WHERE decision = '';
CREATE TABLE contracts (
    contract TEXT NOT NULL, version TEXT NOT NULL, seq INTEGER NOT NULL, schema TEXT NOT NULL, "by" TEXT NOT NULL,
    PRIMARY KEY (contract, version)
) STRICT;
CREATE TABLE apps (
    app TEXT NOT NULL, version TEXT NOT NULL, seq INTEGER NOT NULL, spec TEXT NOT NULL, "by" TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (app, version)
) STRICT;
COMMIT;
"""


def _or_update(key: str, *columns: str) -> str:
    """Where the row is there already, change these columns and no others: their indexes alone are touched."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return f" ON CONFLICT ({key}) DO UPDATE SET {changes}"


_TABLES: dict[type[Any], tuple[str, str]] = {
    TaskRow: ("tasks", _or_update("task", "state", "outcome", "reason", "ended_at")),
    InboxRow: ("inbox", _or_update("item", *(f'"{column}"' for column in InboxRow._fields[1:]))),
    ContractRow: ("contracts", _or_update("contract, version", "seq", "schema", '"by"')),
    AppRow: ("apps", _or_update("app, version", "seq", "spec", '"by"', "at")),
}
_MOST_ROWS = 512


def make_file(path: Path) -> None:
    """A new, empty ledger. It appears under its name complete or not at all; `LedgerExists` where something is."""
    try:
        handle, draft = tempfile.mkstemp(prefix=path.name, suffix=".new", dir=path.parent)
    except OSError as problem:
        raise StoreFailed(path=str(path), problem=str(problem)) from problem
    os.close(handle)
    try:
        db = sqlite3.connect(draft, isolation_level=None)
        db.executescript(_SCHEMA)
        db.close()
        os.link(draft, path)
    except FileExistsError:
        raise LedgerExists(path=str(path)) from None
    except (sqlite3.Error, OSError) as problem:
        raise StoreFailed(path=str(path), problem=str(problem)) from problem
    finally:
        os.unlink(draft)
    _sync_folder(path.parent)


class LedgerFile:
    """The writing connection. One thread at a time; it may move to another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_file(path, "rw")
        self._db.execute("PRAGMA synchronous = FULL")
        self._epoch = 0
        self._tables = Tables()  # rows of live tasks and open items: all that entries can change

    def take_epoch(self) -> Opened:
        """Count the epoch up and read where the ledger stands, in one transaction."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            ((self._epoch,),) = self._db.execute("UPDATE epoch SET epoch = epoch + 1 RETURNING epoch").fetchall()
            last = self._db.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchall()
            self._hold(TaskRow(*row) for row in self._db.execute("SELECT * FROM tasks WHERE outcome = ''"))
            self._hold(InboxRow(*row) for row in self._db.execute("SELECT * FROM inbox WHERE decision = ''"))
            self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            raise StoreFailed(path=str(self._path), problem=str(problem)) from problem
        ((seq, head),) = last or [(0, GENESIS)]
        return Opened(self._epoch, seq, head)

    def commit(self, batch: Sequence[Stored]) -> None:
        """Write the batch, all or nothing. Raises `StaleEpoch` or `StoreFailed`; nothing may be written after either."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            ((epoch,),) = self._db.execute("SELECT epoch FROM epoch").fetchall()
            if epoch != self._epoch:
                self._db.execute("ROLLBACK")
                raise StaleEpoch(epoch=self._epoch, current=epoch)
            self._insert("entries", batch)
            changed = self._project([Entry(*stored) for stored in batch if stored[4] in PROJECTED])
            if changed:
                for kind, (table, then) in _TABLES.items():
                    self._insert(table, [row for row in changed if type(row) is kind], then)
            self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            raise StoreFailed(path=str(self._path), problem=str(problem)) from problem

    def close(self) -> None:
        self._db.close()

    def _project(self, entries: list[Entry]) -> Sequence[Row]:
        """The rows that these entries change, each once, as they are after all of them."""
        if not entries:
            return ()
        unheld = list({entry.task for entry in entries if not self._tables.holds(entry.task)})
        for start in range(0, len(unheld), _MOST_ROWS):
            some = unheld[start : start + _MOST_ROWS]
            size = _up_to_power(len(some))
            self._hold(TaskRow(*row) for row in self._db.execute(_tasks_of(size), [*some, *[None] * (size - len(some))]))
        changed: dict[Key, Row] = {}
        for entry in entries:
            changed.update((key_of(row), row) for row in self._tables.fold(entry))
        for row in changed.values():
            if not _is_live(row):
                self._tables.forget(row)
        return list(changed.values())

    def _hold(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._tables.put(row)

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]], then: str = "") -> None:
        start = 0
        while left := len(rows) - start:
            size = min(_MOST_ROWS, 1 << (left.bit_length() - 1))
            some = rows[start : start + size]
            self._db.execute(_insert_of(table, size, len(some[0]), then), list(chain.from_iterable(some)))
            start += size


@lru_cache(maxsize=256)
def _insert_of(table: str, rows: int, columns: int, then: str) -> str:
    """Powers of two for `rows` keep the statements few, so that SQLite has them prepared."""
    marks = f"({','.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {','.join([marks] * rows)}{then}"


@lru_cache(maxsize=16)
def _tasks_of(size: int) -> str:
    return f"SELECT * FROM tasks WHERE task IN ({','.join('?' * size)})"


def _up_to_power(size: int) -> int:
    """The power of two that is no smaller: as many marks, NULL in those left over, keep the statements few here too."""
    return 1 << (size - 1).bit_length()


def _is_live(row: Row) -> bool:
    return (isinstance(row, TaskRow) and not row.outcome) or (isinstance(row, InboxRow) and not row.decision)


def _sync_folder(folder: Path) -> None:
    """A new name in a folder is durable only once the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
