"""The ledger's file: how one is made, and the one way to write it: a whole batch in one transaction.

A commit writes entries and projections together and is on disk when it returns (`synchronous=FULL`). It checks the epoch in the file, so
an orchestrator that was succeeded can write nothing. Entries can be neither changed nor deleted. Statements carry many rows each: every
statement gives up the interpreter's lock, and under load waits milliseconds to get it back.

What is destroyed is written over in the file (`secure_delete`), and the log beside the file, which still has it, is emptied as soon as no
reader is in the middle of something.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from interlock.orchestrator.ledger.chain import GENESIS
from interlock.orchestrator.ledger.cipher import NO_SECRET, KeyRow
from interlock.orchestrator.ledger.projections import InboxRow, Row, TaskRow
from interlock.orchestrator.ledger.reader import open_file
from interlock.orchestrator.ledger.rows import (
    CONTENTS,
    DELETE_CONTENTS,
    DESTROY_KEY,
    KEYS,
    LAST_ENTRY,
    TABLES,
    Held,
    projected,
)
from interlock.orchestrator.ledger.sealer import Sealed
from interlock.orchestrator.ledger.writer import Opened
from interlock.schemas.errors import InterlockError, LedgerExists, StaleEpoch, StoreFailed, StorePaused
from interlock.tools import sqlite

_MOST_ROWS = 512


def make_file(path: Path) -> None:
    """A new, empty ledger. It appears under its name complete or not at all; `LedgerExists` where something is."""
    from interlock.orchestrator.ledger.migrations import migrate_file  # SQLAlchemy is loaded only where a layout is made

    try:
        handle, draft = tempfile.mkstemp(prefix=path.name, suffix=".new", dir=path.parent)
    except OSError as problem:
        raise StoreFailed(path=str(path), problem=str(problem)) from problem
    os.close(handle)
    try:
        migrate_file(Path(draft))
        place_file(Path(draft), path)
    finally:
        os.unlink(draft)


def place_file(draft: Path, path: Path) -> None:
    """Give a complete file its name, durably; `LedgerExists` where something has it."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise LedgerExists(path=str(path)) from None
    except OSError as problem:
        raise StoreFailed(path=str(path), problem=str(problem)) from problem
    _sync_folder(path.parent)


class LedgerFile:
    """The writing connection. One thread at a time; it may move to another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_file(path, "rw")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")
        self.traces = True  # who wrote before may have died between an erasure and the emptying of the log
        self._epoch = 0
        self._rows = Held()
        self._changed: Sequence[Row] | None = None
        """What the batch that is under way changes: folded once, however often it is tried."""

    def take_epoch(self) -> Opened:
        """Count the epoch up and read where the ledger stands, in one transaction. Raises `StoreFailed`, or `StorePaused`: try again."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            ((self._epoch,),) = self._db.execute("UPDATE epoch SET epoch = epoch + 1 RETURNING epoch").fetchall()
            last = self._db.execute(LAST_ENTRY).fetchall()
            self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            raise self._refused(problem) from problem
        ((seq, head),) = last or [(0, GENESIS)]
        return Opened(self._epoch, seq, head)

    def secrets(self, tasks: Sequence[str]) -> list[KeyRow]:
        """The secrets of those of these tasks that have one. Raises `StoreFailed` or `StorePaused`."""
        try:
            return [KeyRow(*row) for row in self._of(tasks, "keys")]
        except sqlite3.Error as problem:
            raise self._refused(problem) from problem

    def commit(self, batch: Sealed) -> None:
        """Write the batch, all or nothing. Raises `StaleEpoch` or `StoreFailed`, and nothing may be written after either; or `StorePaused`,
        and nothing may be written but the same batch again."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            ((epoch,),) = self._db.execute("SELECT epoch FROM epoch").fetchall()
            if epoch != self._epoch:
                self._db.execute("ROLLBACK")
                raise StaleEpoch(epoch=self._epoch, current=epoch)
            self._insert("entries", batch.entries)
            self._insert(KEYS[0], batch.keys)
            for task in batch.erased:
                self._db.execute(DESTROY_KEY, (NO_SECRET, task))
            for task in (*batch.erased, *batch.pruned):
                self._db.execute(DELETE_CONTENTS, (task,))
            self._insert(CONTENTS[0], batch.contents, CONTENTS[1])
            if self._changed is None:
                self._changed = self._project(batch)
            self._put(self._changed)
            self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            raise self._refused(problem) from problem
        self._changed = None
        self.traces = self.traces or bool(batch.erased or batch.pruned)

    def clean(self) -> None:
        """Empty the log beside the file, if no reader needs it right now: what was destroyed is still in there."""
        try:
            self._db.execute("PRAGMA busy_timeout = 0")
            ((busy, _, _),) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as problem:
            raise self._refused(problem) from problem
        finally:
            self._db.execute("PRAGMA busy_timeout = 5000")
        self.traces = bool(busy)

    def close(self) -> None:
        self._db.close()

    def _refused(self, problem: sqlite3.Error) -> InterlockError:
        """What a refusal means. The transaction is left, where SQLite has not done so itself: nothing half written may be committed with
        what comes next."""
        kind = StorePaused if sqlite.may_pass(problem) else StoreFailed
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            kind = StoreFailed
        return kind(path=str(self._path), problem=str(problem))

    def _put(self, rows: Sequence[Row]) -> None:
        for kind, (table, then) in TABLES.items() if rows else ():
            self._insert(table, [row for row in rows if type(row) is kind], then)

    def _project(self, batch: Sealed) -> Sequence[Row]:
        """The rows that the batch changes."""
        entries = projected(batch)
        if not entries:
            return ()
        tasks = [TaskRow(*row) for row in self._of(self._rows.unknown(entries), "tasks")]
        live = [row.task for row in tasks if not row.outcome]
        self._rows.hold(tasks, [InboxRow(*row) for row in self._of(live, "inbox", " AND decision = ''")])
        return self._rows.fold(entries)

    def _of(self, tasks: Sequence[str], table: str, those: str = "") -> Iterator[Any]:
        """The rows of these tasks, or `those` of them."""
        for start in range(0, len(tasks), _MOST_ROWS):
            some = tasks[start : start + _MOST_ROWS]
            size = _up_to_power(len(some))
            yield from self._db.execute(_rows_of(table, size) + those, [*some, *[None] * (size - len(some))]).fetchall()

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


@lru_cache(maxsize=32)
def _rows_of(table: str, size: int) -> str:
    return f"SELECT * FROM {table} WHERE task IN ({','.join('?' * size)})"


def _up_to_power(size: int) -> int:
    """The power of two that is no smaller: as many marks, NULL in those left over, keep the statements few here too."""
    return 1 << (size - 1).bit_length()


def _sync_folder(folder: Path) -> None:
    """A new name in a folder is durable only once the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
