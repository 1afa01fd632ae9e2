"""The supervisor's journal in a file of its own: one transaction a commit, synced to disk.

What SQLite refuses for a reason that may pass (the disk is full or does not work now, somebody else writes) pauses the journal; see
`Journal`. Orders from outside are rows that no incarnation has written, or files beside the journal where it takes no row now.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from interlock.actors.supervisor import spool
from interlock.actors.supervisor.journal import ONCE, Change, Journal, Order, Row, order_in
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import StaleIncarnation, StoreFailed, StorePaused
from interlock.schemas.ports import Clock
from interlock.tools import sqlite

BUSY_MILLISECONDS = 5000
"""How long a transaction waits for another one."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, task TEXT NOT NULL, data BLOB NOT NULL, writer INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS journal_of_task ON journal (kind, task) WHERE task != '';
CREATE INDEX IF NOT EXISTS journal_starts ON journal (writer) WHERE kind = 'started';
CREATE INDEX IF NOT EXISTS journal_foreign ON journal (seq) WHERE writer = 0;
CREATE UNIQUE INDEX IF NOT EXISTS journal_once ON journal (kind, task) WHERE kind IN {ONCE};
"""
_INSERT = "INSERT OR IGNORE INTO journal (at, kind, task, data, writer) VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM journal WHERE kind = ? AND task = ? AND task != ''"
_SELECT = "SELECT seq, at, kind, task, data FROM journal"
_FIND = f"{_SELECT} WHERE kind = ? AND task IN (SELECT value FROM json_each(?)) AND task != '' ORDER BY seq DESC"
_OUTSIDER = 0


class SqliteJournal(Journal):
    """The journal on disk (WAL, synchronous=FULL). Only `create=True` makes a new one: a restart must find the old."""

    has_outsiders = True

    def __init__(self, path: Path, clock: Clock, create: bool = False) -> None:
        super().__init__(clock)
        self._path, self._spool = path, path.parent / spool.SPOOL
        with _store_errors(path), ExitStack() as opened:
            if create:
                path.touch(mode=0o600)  # SQLite gives its other files the mode of the first
            self._db = opened.enter_context(_connected(path, create))
            if create:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.executescript(_SCHEMA)
            with _transaction(self._db):
                (last,) = self._db.execute("SELECT max(writer) FROM journal WHERE kind = 'started'").fetchone()
                self.incarnation = 1 + (last or 0)
                data = encode({"incarnation": self.incarnation})
                self._db.execute(_INSERT, (clock.now(), "started", "", data, self.incarnation))
                (self._seen,) = self._db.execute("SELECT max(seq) FROM journal").fetchone()
            self._opened = opened.pop_all()
        # No version yet: an order that came in since the transaction must not be missed.
        self._version: int | None = None

    def rows(self) -> Iterator[Row]:
        with _store_errors(self._path):
            for columns in self._db.execute(f"{_SELECT} WHERE seq <= ? ORDER BY seq", (self._seen,)):
                yield _row(columns)

    def _firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
        with _store_errors(self._path):
            # From the last to the first: of many about one task the first stays.
            found = [_row(columns) for columns in self._db.execute(_FIND, (kind, encode(list(tasks)).decode()))]
        return {row.task: row for row in found}

    def foreign(self) -> list[Row]:
        spooled = self._take_over()
        with _store_errors(self._path):
            version = self._data_version()
            if version == self._version and not spooled:
                return []
            query = f"{_SELECT} WHERE writer = 0 AND seq > ? ORDER BY seq"
            rows = [_row(columns) for columns in self._db.execute(query, (self._seen,))]
        self._version = version
        if rows:
            self._seen = rows[-1].seq
        return rows

    def close(self) -> None:
        self._opened.close()

    def _take_over(self) -> bool:
        """Write down the orders that wait as files, as the outsiders' rows that they are."""
        files = spool.waiting(self._spool)
        if not files:
            return False
        self._check()
        with self._failing(), self._changing():
            self._db.executemany(_INSERT, map(_values, files.values()))
        for file in files:
            file.unlink()
        return True

    def _write(self, changes: list[Change]) -> None:
        values = self._rows_of(changes)
        with self._changing():
            self._db.executemany(_INSERT, values)

    def _erase(self, kinds: Sequence[str], tasks: Sequence[str], instead: Sequence[Change]) -> None:
        gone = [(kind, task) for kind in kinds for task in tasks] + [(change.kind, change.task) for change in instead]
        with self._changing():
            self._db.executemany(_DELETE, gone)
            self._db.executemany(_INSERT, self._rows_of(instead))

    def _rows_of(self, changes: Sequence[Change]) -> list[tuple[int, str, str, bytes, int]]:
        at = self._clock.now()
        return [(at, change.kind, change.task, change.encoded, self.incarnation) for change in changes]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction of the journal's owner."""
        with _store_errors(self._path), _transaction(self._db):
            self._check_owner()
            yield

    def _confirm(self) -> None:
        with _store_errors(self._path):
            self._check_owner()

    def _check_owner(self) -> None:
        (latest,) = self._db.execute("SELECT max(writer) FROM journal WHERE kind = 'started'").fetchone()
        if latest != self.incarnation:
            raise StaleIncarnation(incarnation=self.incarnation, current=latest)

    def _data_version(self) -> int:
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version


def write_order(path: Path, order: Order) -> Order:
    """Put an order into the journal at `path` from outside, with every actor dead: durable on return.

    The supervisor obeys it within moments, or as the first thing when it starts again. Returns the order that stands: the
    task's first. Raises `StoreFailed` where there is no journal, `StorePaused` where it takes no order now.
    """
    with _store_errors(path), _connected(path) as db:
        with _transaction(db):
            db.execute(_INSERT, _values(order))
            columns = db.execute(f"{_SELECT} WHERE kind = 'order' AND task = ?", (order.task,)).fetchone()
        return order_in(_row(columns))


def _values(order: Order) -> tuple[int, str, str, bytes, int]:
    return (order.requested, "order", order.task, encode(order._asdict()), _OUTSIDER)


def _row(columns: Iterable[Any]) -> Row:
    seq, at, kind, task, data = columns
    return Row(seq, at, kind, task, decode(data))


@contextmanager
def _connected(path: Path, create: bool = False) -> Iterator[sqlite3.Connection]:
    mode = "rwc" if create else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)) as db:
        db.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        db.execute("PRAGMA synchronous = FULL")
        yield db


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        kind = StorePaused if sqlite.may_pass(error) and path.exists() else StoreFailed
        raise kind(path=str(path), problem=str(error)) from error


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # after some problems SQLite has left it by itself
            db.execute("ROLLBACK")
        raise
