"""The ledger in a PostgreSQL database: the store, and the reader that answers from it beside a running bus."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from queue import Empty, SimpleQueue
from typing import Any, Self

import psycopg

from interlock.orchestrator.ledger.cipher import KeyRow
from interlock.orchestrator.ledger.covers import CoveredRow, uncovered
from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.postgres_store import SCHEMA, LedgerDatabase, open_database
from interlock.orchestrator.ledger.reader import SqlReader
from interlock.orchestrator.ledger.room import Room
from interlock.orchestrator.ledger.threaded import ThreadedLedger
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError, NoLedger, StoreAway
from interlock.schemas.places import Database
from interlock.schemas.ports import Clock, Stall
from interlock.tools import postgres

READ_SECONDS = 3.0
"""How long a reader waits for a server that has just gone: as long as a quick restart takes. Everything else of its actor waits with it."""

_READER = "interlock reader"
_WAIT, _LOOK_SECONDS = 0.1, 0.25

_KEYS = "SELECT task, secret, cover, mask FROM keys JOIN covers USING (cover)"


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
        with ExitStack() as opened:
            self._reads = opened.enter_context(closing(DatabaseReader(where)))
            super().__init__(str(where), clock, self._reads, LedgerDatabase(where), on_failure, on_durable, keeper)
            self.room = Room(where, SCHEMA)
            opened.pop_all()

    def free_room(self) -> bool:
        self.room.free()
        return True

    async def _release(self) -> None:
        try:
            await asyncio.to_thread(self.room.close)
        finally:
            await super()._release()

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
        self._back: SimpleQueue[postgres.Connection] = SimpleQueue()
        self._closed = threading.Event()

    @property
    def trouble(self) -> tuple[float, str]:
        """Since when (monotonic) and why queries have found no server; empty where it is back."""
        if self._away[1]:
            with suppress(StoreAway):
                self.all("SELECT 1")
        return self._away

    def moment(self) -> Self:
        own = type(self)(self._where)
        own._db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        own._db.execute("LOCK TABLE covers IN ACCESS SHARE MODE")  # where it is written anew, they are there no more for who began before
        own._in_moment = True
        return own

    def all(self, sql: str, *values: Any) -> list[Any]:
        """While the server is known to be away this fails at once: a thread looks whether it is back."""
        deadline = time.monotonic() + READ_SECONDS
        query = sql.replace("?", "%s").encode()
        while True:
            self._come_back()
            try:
                return self._db.execute(query, values, binary=True).fetchall()
            except postgres.LOST as problem:
                if self._in_moment or time.monotonic() > deadline:
                    self._go_away(postgres.sentence(problem))
                    raise StoreAway(path=str(self._where), problem=postgres.sentence(problem)) from problem
            self._reopen()

    def _go_away(self, problem: str) -> None:
        self._away = (time.monotonic(), problem)
        if not self._in_moment:
            threading.Thread(target=self._look_for_it, name="ledger reader", daemon=True).start()

    def _come_back(self) -> None:
        """Go on with the connection that was found meanwhile. Raises `StoreAway` where none was."""
        if not self._away[1]:
            return
        try:
            self._db = self._back.get_nowait()
        except Empty:
            raise StoreAway(path=str(self._where), problem=self._away[1]) from None
        self._away = (0.0, "")

    def _look_for_it(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            with suppress(NoLedger, psycopg.Error):  # it is not yet itself again
                found = open_database(self._where, _READER)
                self._back.put(found)
                if self._closed.is_set():
                    found.close()
                return

    def size(self) -> int:
        query = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = ?::regnamespace AND relkind = 'r'"
        ((size,),) = self.all(query, SCHEMA)
        return int(size)

    def keys(self, which: str, *values: Any) -> list[KeyRow]:
        return _uncovered(self.all(f"{_KEYS} WHERE {which}", *values))

    def pages(self, table: str, size: int) -> Iterator[tuple[Sequence[str], Sequence[Any]]]:
        """All rows of a table, as a file has them, with their columns' names, so many at a time; of a `moment` only."""
        with self._db.cursor("pages") as cursor:
            cursor.execute((_KEYS if table == "keys" else f"SELECT * FROM {table}").encode(), binary=True)
            while rows := cursor.fetchmany(size):
                if table == "keys":
                    yield KeyRow._fields, _uncovered(rows)
                else:
                    yield [column.name for column in cursor.description or ()], rows

    def close(self) -> None:
        self._closed.set()
        self._db.close()
        while not self._back.empty():
            self._back.get().close()

    def _reopen(self) -> None:
        self._db.close()
        try:
            self._db = open_database(self._where, _READER)
        except NoLedger:  # the server starts again: the next query says whether it has
            time.sleep(_WAIT)


def _uncovered(rows: Sequence[Any]) -> list[KeyRow]:
    """The secrets of rows that end in the cover's own bytes."""
    return uncovered((CoveredRow(*row[:3]) for row in rows), {cover: mask for *_, cover, mask in rows})
