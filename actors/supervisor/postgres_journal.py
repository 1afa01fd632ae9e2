"""The supervisor's journal in a PostgreSQL: in a schema of its own, so that nothing that the ledger locks can hold it up.

One row says who the owner is and how many transactions it has written: each transaction counts it up, so an earlier incarnation is refused,
and after a lost connection the count says whether the last transaction was committed. Orders from outside have a table of their own, which
nobody locks for long; where the database is away they are files in the bus's folder. The owner takes both over.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from interlock.actors.supervisor import spool
from interlock.actors.supervisor.journal import ONCE, Change, Journal, Order, Row
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import NoLedger, StaleIncarnation, StoreFailed, StorePaused
from interlock.schemas.places import Database
from interlock.schemas.ports import Clock
from interlock.tools import postgres

SCHEMA = "interlock_supervisor"
OWNER = "interlock supervisor"
"""The name of the owner's connection, and what it begins with once the incarnation is in it."""
AWAY_SECONDS = 2.0
"""How long a change waits for a server that has gone: as long as a quick restart takes, for nothing else is done meanwhile. Then this
incarnation is over."""

_OUTSIDER = "interlock order"
_WAIT = 0.05

_LAYOUT = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS owner (incarnation bigint NOT NULL, written bigint NOT NULL);
INSERT INTO owner SELECT 0, 0 WHERE NOT EXISTS (SELECT FROM owner);
CREATE TABLE IF NOT EXISTS journal (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, kind text COLLATE "C" NOT NULL, task text COLLATE "C" NOT NULL,
    data bytea NOT NULL, writer bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS journal_of_task ON journal (kind, task) WHERE task <> '';
CREATE UNIQUE INDEX IF NOT EXISTS journal_once ON journal (kind, task) WHERE kind IN {ONCE};
CREATE TABLE IF NOT EXISTS orders (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, task text COLLATE "C" NOT NULL UNIQUE, data bytea NOT NULL
);
"""
_INSERT = b"INSERT INTO journal (at, kind, task, data, writer) VALUES (%b, %b, %b, %b, %b) ON CONFLICT DO NOTHING"
_SELECT = "SELECT seq, at, kind, task, data FROM journal"
_FIRSTS = f"{_SELECT} WHERE kind = %s AND task = ANY(%s) AND task <> '' ORDER BY seq DESC"
_TAKE = "WITH taken AS (DELETE FROM orders RETURNING n, at, task, data) SELECT at, task, data FROM taken ORDER BY n"
_STANDS = "SELECT data FROM journal WHERE kind = 'order' AND task = %s UNION ALL SELECT data FROM orders WHERE task = %s LIMIT 1"

R = TypeVar("R")


def make_journal(where: Database) -> None:
    """The journal's tables, where they are not there yet. Raises `StoreFailed`, or `StorePaused` where the server is away."""
    with _store_errors(where), closing(postgres.connect(where, "interlock start", SCHEMA)) as db, db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
        db.execute(_LAYOUT.encode(), prepare=False)  # several statements at once


class PostgresJournal(Journal):
    """The journal in a database. `folder`: of orders that were written while the database was away."""

    has_outsiders = True

    def __init__(self, where: Database, clock: Clock, folder: Path) -> None:
        super().__init__(clock)
        self._where, self._spool = where, folder
        with _store_errors(where), ExitStack() as opened:
            self._db = opened.enter_context(closing(postgres.connect(where, OWNER, SCHEMA)))
            postgres.end_sessions(self._db, f"{OWNER}%")
            with self._db.transaction():
                ((self.incarnation, self._written),) = self._db.execute(
                    "UPDATE owner SET incarnation = incarnation + 1 RETURNING incarnation, written"
                ).fetchall()
                data = encode({"incarnation": self.incarnation})
                self._db.execute(_INSERT, (clock.now(), "started", "", data, self.incarnation))
                ((self._opened_with,),) = self._db.execute("SELECT max(seq) FROM journal").fetchall()
            self._name = f"{OWNER} {self.incarnation}"
            self._db.execute("SELECT set_config('application_name', %s, false)", (self._name,))
            opened.pop_all()

    def rows(self) -> Iterator[Row]:
        query = f"{_SELECT} WHERE seq <= %s ORDER BY seq"
        return iter([_row(columns) for columns in self._read(query, self._opened_with)])

    def _firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
        # From the last to the first: of many about one task the first stays.
        found = [_row(columns) for columns in self._read(_FIRSTS, kind, list(tasks))]
        return {row.task: row for row in found}

    def foreign(self) -> list[Row]:
        spooled = spool.waiting(self._spool)
        if not spooled and not self._read("SELECT FROM orders LIMIT 1"):
            return []
        taken: list[tuple[int, str, bytes]] = []

        def take(db: postgres.Connection) -> None:
            taken[:] = [(order.requested, order.task, encode(order._asdict())) for order in spooled.values()]
            taken.extend(db.execute(_TAKE).fetchall())
            db.cursor().executemany(_INSERT, [(at, "order", task, data, 0) for at, task, data in taken])

        self._check()
        with self._failing():
            self._change(take)
        for file in spooled:
            file.unlink()
        rows = self.firsts("order", [task for _, task, _ in taken]).values()
        return sorted((row for row in rows if row.seq > self._opened_with), key=lambda row: row.seq)

    def close(self) -> None:
        self._db.close()

    def _write(self, changes: list[Change]) -> None:
        values = self._rows_of(changes)
        self._change(lambda db: db.cursor().executemany(_INSERT, values))

    def _confirm(self) -> None:
        ((current,),) = self._read("SELECT incarnation FROM owner")
        self._check_owner(current)

    def _check_owner(self, current: int) -> None:
        if current != self.incarnation:
            raise StaleIncarnation(incarnation=self.incarnation, current=current)

    def _erase(self, kinds: Sequence[str], tasks: Sequence[str], instead: Sequence[Change]) -> None:
        query = "DELETE FROM journal WHERE kind = ANY(%s) AND task = ANY(%s) AND task <> ''"
        values = self._rows_of(instead)

        def erase(db: postgres.Connection) -> None:
            db.execute(query, (list(kinds), list(tasks)))
            if values:
                db.execute(query, ([change.kind for change in instead], [change.task for change in instead]))
                db.cursor().executemany(_INSERT, values)

        self._change(erase)

    def _rows_of(self, changes: Sequence[Change]) -> list[tuple[int, str, str, bytes, int]]:
        at = self._clock.now()
        return [(at, change.kind, change.task, change.encoded, self.incarnation) for change in changes]

    def _read(self, query: str, *values: Any) -> list[Any]:
        return self._insist(lambda: self._db.execute(query.encode(), values, binary=True).fetchall())

    def _change(self, work: Callable[[postgres.Connection], object]) -> None:
        """One transaction of the journal's owner; where the connection is lost in it, it is made once all the same."""

        expected = self._written + 1

        def change() -> None:
            with self._db.pipeline(), self._db.transaction():
                counted = self._db.execute("UPDATE owner SET written = written + 1 RETURNING incarnation, written")
                ((incarnation, written),) = counted.fetchall()
                self._check_owner(incarnation)
                if written == expected:  # else it was committed before its answer was lost: only the count goes on
                    work(self._db)
            self._written = written

        self._insist(change)

    def _insist(self, work: Callable[[], R]) -> R:
        """Do it, on another connection where this one is lost. Raises `StorePaused` where the server stays away."""
        deadline = time.monotonic() + AWAY_SECONDS
        with _store_errors(self._where):
            while True:
                try:
                    return work()
                except postgres.LOST:
                    if time.monotonic() > deadline:
                        raise
                self._reconnect(deadline)

    def _reconnect(self, deadline: float) -> None:
        while True:
            self._db.close()
            try:
                self._db = postgres.connect(self._where, self._name, SCHEMA)
                postgres.end_sessions(self._db, self._name)  # what is lost may hold the lock of its transaction
            except postgres.LOST:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_WAIT)
            else:
                return


def write_order(where: Database, order: Order) -> Order:
    """Put an order into the database, where the supervisor finds it: durable on return. Returns the order that stands: the task's first.
    Raises `StorePaused` where the server is away."""
    try:
        with _store_errors(where), closing(postgres.connect(where, _OUTSIDER, SCHEMA)) as db, db.transaction():
            insert = "INSERT INTO orders (at, task, data) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
            db.execute(insert, (order.requested, order.task, encode(order._asdict())))
            ((data,),) = db.execute(_STANDS, (order.task, order.task), binary=True).fetchall()
            return Order(**decode(data))
    except NoLedger as problem:
        raise StoreFailed(path=str(where), problem=problem.problem) from problem


_COLUMNS = "seq, at, kind, task, data, writer"


def read_all(where: Database) -> list[Any]:
    """Every row, for a backup; orders that nobody has taken over yet among them. None where no journal was made."""
    waiting = "SELECT (SELECT coalesce(max(seq), 0) FROM journal) + n, at, 'order', task, data, 0 FROM orders"
    query = f"SELECT {_COLUMNS} FROM journal UNION ALL {waiting} ORDER BY 1"
    with _store_errors(where), closing(postgres.connect(where, _OUTSIDER, SCHEMA)) as db:
        try:
            return db.execute(query.encode(), binary=True).fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def write_all(where: Database, rows: Sequence[Sequence[Any]]) -> None:
    """Put a backup's rows into a journal that has none. Raises `StoreFailed` where it has."""
    with _store_errors(where), closing(postgres.connect(where, _OUTSIDER, SCHEMA)) as db, db.transaction():
        db.execute("SELECT FROM owner FOR UPDATE")
        if db.execute("SELECT FROM journal LIMIT 1").fetchall():
            raise StoreFailed(path=str(where), problem="there is a journal already, of another ledger: name another database")
        insert = f"INSERT INTO journal ({_COLUMNS}) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, %s)"
        db.cursor().executemany(insert.encode(), rows)
        db.execute("SELECT setval(pg_get_serial_sequence('journal', 'seq'), (SELECT coalesce(max(seq), 1) FROM journal))")
        db.execute("UPDATE owner SET incarnation = (SELECT coalesce(max(writer), 0) FROM journal)")


def _row(columns: Sequence[Any]) -> Row:
    seq, at, kind, task, data = columns
    return Row(seq, at, kind, task, decode(data))


@contextmanager
def _store_errors(where: Database) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as problem:
        kind = StorePaused if isinstance(problem, postgres.LOST) else StoreFailed
        raise kind(path=str(where), problem=postgres.sentence(problem)) from problem
