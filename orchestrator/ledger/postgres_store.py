"""The ledger's place in a PostgreSQL, and the one way to write it: a whole batch in one transaction.

A commit writes entries and rows together and is on the server's disk when it returns. It locks the epoch and checks it, so an orchestrator
that was succeeded can write nothing. Where the connection is lost or the server cannot work, the next commit is on a new connection; before
anything else is written there the last entry says whether the transaction that was under way had been committed. Where that cannot be
told, or a newer epoch has begun, nothing is written any more.

Secrets lie under covers here (`covers`). The table of these is written anew after a secret was destroyed, and once when an epoch begins:
who wrote before may have died in between.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, LiteralString, get_type_hints

import psycopg

from interlock.orchestrator.ledger.chain import GENESIS
from interlock.orchestrator.ledger.cipher import ContentRow, KeyRow
from interlock.orchestrator.ledger.covers import CoveredRow, covered, new_covers, renewed, uncovered
from interlock.orchestrator.ledger.projections import InboxRow, Row, TaskRow
from interlock.orchestrator.ledger.reader import check_layout
from interlock.orchestrator.ledger.rows import (
    CONTENTS,
    DELETE_CONTENTS,
    KEYS,
    LAST_ENTRY,
    TABLES,
    Held,
    projected,
)
from interlock.orchestrator.ledger.sealer import Sealed, Stored
from interlock.orchestrator.ledger.writer import Opened
from interlock.schemas.errors import LedgerUnreachable, NoLedger, StaleEpoch, StoreFailed, StorePaused
from interlock.schemas.places import Database
from interlock.tools import postgres

SCHEMA = "interlock_ledger"
_TASKS = "SELECT * FROM tasks WHERE task = ANY(%s)"
_ITEMS = "SELECT * FROM inbox WHERE task = ANY(%s) AND decision = ''"
_COVERS = "SELECT cover, mask FROM covers"
_KEYS = "SELECT task, secret, cover FROM keys WHERE "
_RENEW_KEYS = "UPDATE keys SET secret = now.secret FROM unnest(%b::text[], %b::bytea[]) AS now (task, secret) WHERE keys.task = now.task"
_RENEW_COVER = "UPDATE covers SET mask = %b WHERE cover = %s"
# The one way to have only what is there now in a table's file, in one statement: whoever began before finds the table empty, so those who
# read more than once hold it (`DatabaseReader.moment`), and this waits for them.
_WRITE_COVERS_ANEW = "ALTER TABLE covers ALTER mask TYPE bytea USING mask || ''::bytea"
_CLEAN_WAIT = "SET LOCAL lock_timeout = '20ms'"
WRITER = "interlock ledger"
"""The name of the writing connection, and what it begins with once its epoch is in it."""

_ARRAYS: dict[Any, str] = {int: "bigint[]", int | None: "bigint[]", str: "text[]", bytes: "bytea[]"}
_KINDS: list[type[Any]] = [Stored, *TABLES, KeyRow, CoveredRow, ContentRow]
_TYPES = {kind: tuple(_ARRAYS[hint] for hint in get_type_hints(kind).values()) for kind in _KINDS}


def unreachable(where: Database, problem: BaseException) -> LedgerUnreachable:
    return LedgerUnreachable(path=str(where), problem=postgres.sentence(problem))


def open_database(where: Database, name: str) -> postgres.Connection:
    """A connection to the ledger in a database. Raises `NoLedger` where there is none, or none of this layout; `LedgerUnreachable` where
    the server cannot say."""
    try:
        db = postgres.connect(where, name, SCHEMA)
    except postgres.LOST as problem:
        raise unreachable(where, problem) from problem
    try:
        ((version,),) = db.execute("SELECT version_num FROM alembic_version").fetchall()
        check_layout(int(version), str(where))
    except psycopg.errors.UndefinedTable:
        db.close()
        raise NoLedger(path=str(where), problem="there is none in this database", remedy="`interlock up` creates one.") from None
    except postgres.LOST as problem:
        db.close()
        raise unreachable(where, problem) from problem
    except BaseException:
        db.close()
        raise
    return db


class LedgerDatabase:
    """The writing connection. One thread at a time; it may move to another."""

    def __init__(self, where: Database) -> None:
        self._where = where
        self._db: postgres.Connection | None = open_database(where, WRITER)
        self._epoch = 0
        self.traces = True
        self._covers: dict[int, bytes] = {}
        self._new_covers: dict[int, bytes] = {}
        """Those of the batch that is under way, as it was last tried."""
        self._rows = Held()
        self._changed: list[Row] | None = None
        """What the batch that is under way changes: folded once, however often it is tried."""
        self._last = (0, GENESIS)

    def take_epoch(self) -> Opened:
        """Count the epoch up and read where the ledger stands, in one transaction. Whoever wrote before is cut off, if need be in the
        middle of a transaction whose locks would keep everybody waiting. Raises `StoreFailed`, or `StorePaused`: try again."""
        assert self._db is not None, "an epoch is taken once, at the beginning"
        try:
            postgres.end_sessions(self._db, f"{WRITER}%")
            with self._db.transaction():
                ((self._epoch,),) = self._db.execute("UPDATE epoch SET epoch = epoch + 1 RETURNING epoch").fetchall()
                found = self._db.execute(LAST_ENTRY, binary=True).fetchall()
                self._covers = covers_of(self._db)
            self._db.execute("SELECT set_config('application_name', %s, false)", (self._name,))
        except postgres.LOST as problem:
            raise StorePaused(path=str(self._where), problem=postgres.sentence(problem)) from problem
        except psycopg.Error as problem:
            raise self._failed(problem) from problem
        if found:
            ((seq, head),) = found
            self._last = (seq, head)
        return Opened(self._epoch, *self._last)

    def secrets(self, tasks: Sequence[str]) -> list[KeyRow]:
        """The secrets of those of these tasks that have one. Raises `StoreFailed` or `StorePaused`. Nothing is under way: where the
        connection is lost another one will do."""
        with self._errors():
            db = self._connected()
            return uncovered(_keys(db, "task = ANY(%s)", list(tasks)), self._covers)

    def commit(self, batch: Sealed) -> None:
        """Write the batch, all or nothing. Raises `StaleEpoch` or `StoreFailed`, and nothing may be written after either; or `StorePaused`,
        and nothing may be written but the same batch again."""
        written = False
        with self._errors():
            if self._db is None:
                self._db = postgres.connect(self._where, self._name, SCHEMA)
                written = self._was_committed(self._db, batch)
            if not written:
                self._write(self._db, batch)
        self._last = (batch.entries[-1][0], batch.entries[-1][6])
        self._changed = None
        self._covers.update(self._new_covers)
        self.traces = self.traces or bool(batch.erased)

    def clean(self) -> None:
        """Write the covers anew, if nobody reads them right now."""
        with self._errors(), suppress(psycopg.errors.LockNotAvailable):
            db = self._connected()
            with db.transaction():
                db.execute(_CLEAN_WAIT)
                db.execute(_WRITE_COVERS_ANEW)
            self.traces = False

    def _connected(self) -> postgres.Connection:
        """A connection where nothing is under way that a lost one may have left open."""
        if self._db is None:
            self._db = postgres.connect(self._where, self._name, SCHEMA)
        return self._db

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except postgres.LOST as problem:
            self.close()
            self._db = None
            raise StorePaused(path=str(self._where), problem=postgres.sentence(problem)) from problem
        except psycopg.Error as problem:
            raise self._failed(problem) from problem

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _write(self, db: postgres.Connection, batch: Sealed) -> None:
        """One transaction, in two round trips: what has to be known, and all that is written with its commit."""
        entries = projected(batch) if self._changed is None else []
        unknown = self._rows.unknown(entries)
        with db.pipeline(), db.transaction():
            current = db.execute("SELECT epoch FROM epoch FOR UPDATE")
            found = [db.execute(query, (unknown,)) for query in (_TASKS, _ITEMS) if unknown]
            self._check_epoch(current.fetchall())
            if found:
                tasks, items = (cursor.fetchall() for cursor in found)
                self._rows.hold([TaskRow(*row) for row in tasks], [InboxRow(*row) for row in items])
            if self._changed is None:
                self._changed = self._rows.fold(entries)
            _insert(db, "entries", Stored, batch.entries)
            _insert(db, KEYS[0], CoveredRow, covered(batch.keys, self._covers))
            self._new_covers = self._destroy_keys(db, batch.erased) if batch.erased else {}
            for task in (*batch.erased, *batch.pruned):
                db.execute(_sql(DELETE_CONTENTS), (task,))
            _insert(db, CONTENTS[0], ContentRow, batch.contents, CONTENTS[1])
            _put(db, self._changed)

    def _destroy_keys(self, db: postgres.Connection, erased: Sequence[str]) -> dict[int, bytes]:
        """The covers that theirs lie under are destroyed. The new ones, which the other secrets there get."""
        new = new_covers(erased)
        keys = renewed(_keys(db, "cover = ANY(%s)", list(new)), self._covers, new, erased)
        db.execute(_RENEW_KEYS, [[key.task for key in keys], [key.secret for key in keys]])
        for number, mask in new.items():
            db.execute(_RENEW_COVER, (mask, number))
        return new

    def _check_epoch(self, found: list[Any]) -> None:
        ((epoch,),) = found
        if epoch != self._epoch:
            raise StaleEpoch(epoch=self._epoch, current=epoch)

    def _was_committed(self, db: postgres.Connection, batch: Sealed) -> bool:
        """Whether the batch is there. Our lost transaction is over when this looks: its connection is ended, and it held the lock."""
        postgres.end_sessions(db, self._name)
        with db.transaction():
            self._check_epoch(db.execute("SELECT epoch FROM epoch FOR UPDATE").fetchall())
            ((seq, head),) = db.execute(LAST_ENTRY, binary=True).fetchall() or [(0, GENESIS)]
        if (seq, head) not in (self._last, (batch.entries[-1][0], batch.entries[-1][6])):
            problem = f"it ends in entry {seq}, which is neither the last one that was confirmed nor the last one that was sent"
            raise StoreFailed(path=str(self._where), problem=problem)
        return (seq, head) != self._last

    @property
    def _name(self) -> str:
        return f"{WRITER} {self._epoch}"

    def _failed(self, problem: BaseException) -> StoreFailed:
        return StoreFailed(path=str(self._where), problem=postgres.sentence(problem))


def covers_of(db: postgres.Connection) -> dict[int, bytes]:
    """The covers that secrets lie under now."""
    return {cover: mask for cover, mask in db.execute(_COVERS, binary=True)}


def _keys(db: postgres.Connection, which: LiteralString, value: Any) -> list[CoveredRow]:
    return [CoveredRow(*row) for row in db.execute(_KEYS + which, (value,), binary=True)]


def _sql(text: str) -> bytes:
    return text.replace("?", "%s").encode()


def _put(db: postgres.Connection, rows: Sequence[Row]) -> None:
    for kind, (table, then) in TABLES.items():
        _insert(db, table, kind, [row for row in rows if type(row) is kind], then)


def _insert(db: postgres.Connection, table: str, kind: type[Any], rows: Sequence[tuple[Any, ...]], then: str = "") -> None:
    if rows:
        db.execute(_insert_of(table, _TYPES[kind], then), [list(column) for column in zip(*rows, strict=True)])


@lru_cache(maxsize=16)
def _insert_of(table: str, types: tuple[str, ...], then: str) -> bytes:
    """One statement for any number of rows: a column is one array."""
    arrays = ", ".join(f"%b::{one}" for one in types)
    return f"INSERT INTO {table} SELECT * FROM unnest({arrays}){then}".encode()
