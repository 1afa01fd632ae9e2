"""The ledger in a PostgreSQL database: the store, and the reader that answers from it beside a running bus."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

import psycopg

from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.postgres_store import SCHEMA, LedgerDatabase, open_database
from interlock.orchestrator.ledger.reader import SqlReader
from interlock.orchestrator.ledger.threaded import ThreadedLedger
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError, NoLedger, StoreAway
from interlock.schemas.places import Database
from interlock.schemas.ports import Clock, Stall
from interlock.tools import postgres

READ_SECONDS = 3.0
"""How long a reader waits for a server that has gone: as long as a quick restart takes. Everything else of its actor waits with it."""

_READER = "interlock reader"
_WAIT = 0.1


class PostgresLedger(ThreadedLedger):
    """`Store` in a database; `reader` answers from it. Raises `NoLedger` where none is. It writes after `open_epoch`."""

    def __init__(
        self,
        where: Database,
        clock: Clock,
        *,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self._reads = DatabaseReader(where)
        super().__init__(str(where), clock, self._reads, LedgerDatabase(where), on_failure, on_durable, keeper)

    def health(self) -> Stall | None:
        since, why = self._reads.trouble
        return self.stalled or (Stall(self._clock.now() - int((time.monotonic() - since) * 1e6), why) if why else None)


class DatabaseReader(SqlReader):
    """`Reads` on a database. Raises `NoLedger` where no ledger is in it, `StoreAway` where the server stays away."""

    unreadable = psycopg.InternalError

    def __init__(self, where: Database) -> None:
        self._away = (0.0, "")
        self._where = where
        self._db = open_database(where, _READER)
        self._in_moment = False

    @property
    def trouble(self) -> tuple[float, str]:
        """Since when (monotonic) and why queries have found no server; empty where one has answered since, which is tried."""
        if self._away[1]:
            with suppress(StoreAway):
                self.all("SELECT 1")
        return self._away

    def moment(self) -> Self:
        own = type(self)(self._where)
        own._db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        own._in_moment = True
        return own

    def all(self, sql: str, *values: Any) -> list[Any]:
        deadline = time.monotonic() + READ_SECONDS
        query = sql.replace("?", "%s").encode()
        while True:
            try:
                found = self._db.execute(query, values, binary=True).fetchall()
            except postgres.LOST as problem:
                if self._in_moment or time.monotonic() > deadline:
                    since, away = self._away
                    self._away = (since if away else time.monotonic(), postgres.sentence(problem))
                    raise StoreAway(path=str(self._where), problem=postgres.sentence(problem)) from problem
            else:
                self._away = (0.0, "")
                return found
            self._reopen()

    def size(self) -> int:
        query = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = ?::regnamespace AND relkind = 'r'"
        ((size,),) = self.all(query, SCHEMA)
        return int(size)

    def pages(self, table: str, size: int) -> Iterator[tuple[list[str], list[Any]]]:
        """All rows of a table with their columns' names, so many at a time; of a `moment` only."""
        with self._db.cursor("pages") as cursor:
            cursor.execute(f"SELECT * FROM {table}".encode(), binary=True)
            while rows := cursor.fetchmany(size):
                yield [column.name for column in cursor.description or ()], rows

    def close(self) -> None:
        self._db.close()

    def _reopen(self) -> None:
        self._db.close()
        try:
            self._db = open_database(self._where, _READER)
        except NoLedger:  # the server starts again: the next query says whether it has
            time.sleep(_WAIT)
