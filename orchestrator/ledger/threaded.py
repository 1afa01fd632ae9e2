"""A ledger on a database: group commit by one writer thread.

The thread commits everything that waits as one transaction and tells the event loop once per commit: alone an entry is written at once,
under load the batches grow by themselves. What a commit guarantees stands in `sqlite_file` and `postgres_store`.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol

from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.reader import Reads
from interlock.orchestrator.ledger.writer import Opened, Stored, Writer
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError
from interlock.schemas.ports import Clock


class Committing(Protocol):
    """The writing end of a database. One thread at a time; it may move to another."""

    @property
    def trouble(self) -> str:
        """What a commit waits for that takes longer than it should; empty where all is well."""

    def take_epoch(self) -> Opened:
        """Count the epoch up and read where the ledger stands, in one transaction."""

    def commit(self, batch: Sequence[Stored]) -> None:
        """Write the batch, all or nothing, durably. Raises `StaleEpoch` or `StoreFailed`; nothing may be written after either."""

    def stop(self) -> None:
        """From any thread: a commit that waits for the database gives up."""

    def close(self) -> None: ...


class ThreadedLedger(Writer):
    """`Store` on a database; `reader` answers from it. A `keeper` hears of what is durable, and signs checkpoints."""

    def __init__(
        self,
        path: str,
        clock: Clock,
        reader: Reads,
        store: Committing,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None,
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(path, clock, reader, on_failure, on_durable)
        self.keeper = keeper
        self._store = store
        self._queue: deque[Stored] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = self._closed = False
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    @property
    def trouble(self) -> str:
        return self._store.trouble

    async def _release(self) -> None:
        if self.epoch:
            await asyncio.to_thread(self._thread.join)
            if self.keeper is not None:
                await asyncio.to_thread(self.keeper.join)
        else:
            self._store.close()

    def _open(self) -> Opened:
        opened = self._store.take_epoch()
        if self.keeper is not None:
            self.keeper.begin(opened.seq)
        self._thread.start()
        return opened

    def _write(self, stored: Stored) -> None:
        self._queue.append(stored)
        if not self._woken:
            self._woken = True
            self._wake.put(None)

    def _end(self, failure: InterlockError) -> None:
        super()._end(failure)
        self._closed = True
        self._store.stop()
        self._wake.put(None)

    def _work(self) -> None:
        """The writer thread: until the end, commit whatever waits."""
        try:
            while not self._closed:
                self._wake.get()
                self._woken = False  # first of all: what is appended from here on wakes us again
                self._commit_waiting()
        except InterlockError as failure:
            self._loop.call_soon_threadsafe(self._fail, failure)
        except BaseException as problem:
            self._loop.call_soon_threadsafe(self._fail, self._problem(repr(problem)))
            raise
        finally:
            self._store.close()
            if self.keeper is not None:
                self.keeper.end()

    def _commit_waiting(self) -> None:
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        if batch and not self._closed:
            self._store.commit(batch)
            if self.keeper is not None:
                self.keeper.committed([stored[-1] for stored in batch])
            self._loop.call_soon_threadsafe(self._settled, batch[-1][0])
