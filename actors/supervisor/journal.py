"""The supervisor's own memory: a journal that never waits for the ledger. Nothing in it changes; what is over may be forgotten.

A change counts once it is here: a reservation is granted, a kill is valid. One commit is one transaction, synced to disk;
everything that became due in the same moment shares it. A journal has one owner, the supervisor's latest incarnation: an
earlier one that still lives is refused. Others may add orders only (`write_order`), so a kill needs no living actor.
"""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import Refused, StaleIncarnation, StoreFailed
from interlock.schemas.ids import derived
from interlock.schemas.ports import Clock
from interlock.schemas.words import clean

ONCE = ("order", "receipt")
"""Kinds of which a task has one for ever: the first stands."""


class Change(NamedTuple):
    """What is to be remembered of a task, or of a pool's member. `data` holds JSON values and exact amounts."""

    kind: str
    task: str
    data: dict[str, Any]
    encoded: bytes = b""

    def sealed(self) -> "Change":
        """The same with its bytes: made before anything depends on it, so that what cannot be kept is refused and harms nobody else."""
        if self.encoded:
            return self
        try:
            return Change(self.kind, self.task, self.data, encode(self.data))
        except (TypeError, ValueError) as error:
            raise Refused(detail=f"This cannot be kept ({self.kind} of {self.task}: {error}); nothing was changed.") from None


class Row(NamedTuple):
    """A change as it is remembered. `at`: microseconds since the epoch. Amounts have become strings."""

    seq: int
    at: int
    kind: str
    task: str
    data: dict[str, Any]


class Order(NamedTuple):
    """Stop a task. `what`: `kill` or `budget`; `requested` in microseconds since the epoch. A task has one order for ever."""

    task: str
    what: str
    by: str
    why: str
    requested: int

    @property
    def id(self) -> str:
        return derived("ord", self.task)

    @classmethod
    def made(cls, task: str, what: str, by: str, why: str, requested: int) -> "Order":
        """An order in words that can be kept, whatever somebody typed."""
        return cls(task, what, clean(by), clean(why), requested)

    def change(self) -> Change:
        return Change("order", self.task, self._asdict())


def order_in(row: Row) -> Order:
    return Order(**row.data)


class Journal:
    """What every journal does: collect changes and commit them together. `incarnation` counts the openings, from 1."""

    incarnation: int
    has_outsiders: ClassVar[bool] = False
    """Whether another process may write orders here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._staged: list[Change] = []
        self._flushed: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._failed = asyncio.Event()

    def append(self, *changes: Change) -> None:
        """Commit `changes`, and all that waits, now: durable on return. Raises `Refused` for what cannot be encoded."""
        self.stage(*changes)
        self._commit()

    def stage(self, *changes: Change) -> None:
        """Have `changes` in the next commit. Whoever depends on them awaits `durable`."""
        self._staged.extend([change.sealed() for change in changes])

    async def durable(self, *changes: Change) -> None:
        """Commit `changes` with everything else that is due by the loop's next turn; durable on return."""
        self.stage(*changes)
        if self._flushed is None:
            loop = asyncio.get_running_loop()
            self._flushed = loop.create_future()
            loop.call_soon(self._flush, self._flushed)
        await asyncio.shield(self._flushed)

    async def failure(self) -> None:
        """Returns never: raises what a commit failed with, once one has."""
        await self._failed.wait()
        self._check()

    def rows(self) -> Iterator[Row]:
        """Everything that was remembered at the opening, in order."""
        raise NotImplementedError

    def find(self, kind: str, task: str) -> Row | None:
        """The first row of that kind about that task."""
        return self.firsts(kind, [task]).get(task)

    def firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
        """The first row of that kind about each of these tasks, where there is one."""
        raise NotImplementedError

    def foreign(self) -> list[Row]:
        """Orders that another process has written since the last call (or since the opening)."""
        raise NotImplementedError

    def forget(self, kinds: Sequence[str], tasks: Sequence[str]) -> None:
        """Drop all rows of these kinds about these tasks, at once or not at all. Commit before what is staged about them."""
        self._check()
        with self._failing():
            self._erase(kinds, tasks)

    def close(self) -> None:
        """Give the store back; what is staged and was not waited for is dropped."""

    def _erase(self, kinds: Sequence[str], tasks: Sequence[str]) -> None:
        raise NotImplementedError

    def _write(self, changes: list[Change]) -> None:
        raise NotImplementedError

    def _flush(self, flushed: "asyncio.Future[None]") -> None:
        self._flushed = None
        try:
            self._commit()
        except Exception as error:  # noqa: BLE001 - it travels in the future
            flushed.set_exception(error)
            # Whoever awaited this may be gone; the failure stays and meets every later caller.
            flushed.exception()
        else:
            flushed.set_result(None)

    def _check(self) -> None:
        # Memory is ahead of a journal that failed once: nothing may be acknowledged from it any more, only a new start helps.
        if self._failure is not None:
            raise self._failure

    def _commit(self) -> None:
        self._check()
        changes, self._staged = self._staged, []
        if not changes:
            return
        with self._failing():
            self._write(changes)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failure = error
            self._failed.set()
            raise


class MemoryJournal(Journal):
    """The twin without a disk. Opening another one on the same `store` is a restart."""

    def __init__(self, clock: Clock, store: list[Row] | None = None) -> None:
        super().__init__(clock)
        self.store: list[Row] = [] if store is None else store
        self._opened_with = self.store[-1].seq if self.store else 0
        self._found: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self.store:
            self._found[row.kind, row.task].append(row)
        self.incarnation = 1 + len(self._found["started", ""])
        self.append(Change("started", "", {"incarnation": self.incarnation}))

    def rows(self) -> Iterator[Row]:
        return iter([row for row in self.store if row.seq <= self._opened_with])

    def firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
        return {task: rows[0] for task in tasks if (rows := self._found.get((kind, task)))}

    def foreign(self) -> list[Row]:
        return []

    def _write(self, changes: list[Change]) -> None:
        for change in changes:
            if change.kind in ONCE and self._found.get((change.kind, change.task)):
                continue
            # Through JSON, so that this journal reads back what the one on disk does.
            row = Row(self.store[-1].seq + 1 if self.store else 1, self._clock.now(), change.kind, change.task, decode(change.encoded))
            self.store.append(row)
            self._found[row.kind, row.task].append(row)

    def _erase(self, kinds: Sequence[str], tasks: Sequence[str]) -> None:
        for key in [(kind, task) for kind in kinds for task in tasks]:
            self._found.pop(key, None)
        gone, about = frozenset(kinds), frozenset(tasks)
        self.store[:] = [row for row in self.store if row.kind not in gone or row.task not in about]


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


@contextmanager
def _connected(path: Path, create: bool = False) -> Iterator[sqlite3.Connection]:
    mode = "rwc" if create else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)) as db:
        db.execute("PRAGMA busy_timeout = 5000")
        db.execute("PRAGMA synchronous = FULL")
        yield db


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreFailed(path=str(path), problem=str(error)) from error


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _row(columns: Iterable[Any]) -> Row:
    seq, at, kind, task, data = columns
    return Row(seq, at, kind, task, decode(data))


class SqliteJournal(Journal):
    """The journal on disk (WAL, synchronous=FULL). Only `create=True` makes a new one: a restart must find the old."""

    has_outsiders = True

    def __init__(self, path: Path, clock: Clock, create: bool = False) -> None:
        super().__init__(clock)
        self._path = path
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

    def firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
        if not tasks:
            return {}
        with _store_errors(self._path):
            # From the last to the first: of many about one task the first stays.
            found = [_row(columns) for columns in self._db.execute(_FIND, (kind, encode(list(tasks)).decode()))]
        return {row.task: row for row in found}

    def foreign(self) -> list[Row]:
        with _store_errors(self._path):
            version = self._data_version()
            if version == self._version:
                return []
            query = f"{_SELECT} WHERE writer = 0 AND seq > ? ORDER BY seq"
            rows = [_row(columns) for columns in self._db.execute(query, (self._seen,))]
        self._version = version
        if rows:
            self._seen = rows[-1].seq
        return rows

    def close(self) -> None:
        self._opened.close()

    def _write(self, changes: list[Change]) -> None:
        at = self._clock.now()
        values = [(at, change.kind, change.task, change.encoded, self.incarnation) for change in changes]
        with self._changing():
            self._db.executemany(_INSERT, values)

    def _erase(self, kinds: Sequence[str], tasks: Sequence[str]) -> None:
        with self._changing():
            self._db.executemany(_DELETE, [(kind, task) for kind in kinds for task in tasks])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction of the journal's owner."""
        with _store_errors(self._path), _transaction(self._db):
            (latest,) = self._db.execute("SELECT max(writer) FROM journal WHERE kind = 'started'").fetchone()
            if latest != self.incarnation:
                raise StaleIncarnation(incarnation=self.incarnation, current=latest)
            yield

    def _data_version(self) -> int:
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version


def write_order(path: Path, order: Order) -> Order:
    """Put an order into the journal at `path` from outside, with every actor dead: durable on return.

    The supervisor obeys it within moments, or as the first thing when it starts again. Returns the order that stands: the
    task's first. Raises `StoreFailed` where there is no journal.
    """
    with _store_errors(path), _connected(path) as db:
        with _transaction(db):
            db.execute(_INSERT, (order.requested, "order", order.task, encode(order._asdict()), _OUTSIDER))
            columns = db.execute(f"{_SELECT} WHERE kind = 'order' AND task = ?", (order.task,)).fetchone()
        return order_in(_row(columns))
