"""The ledger on SQLite: group commit by one writer thread.

The thread commits everything that waits as one transaction and tells the event loop once per commit: alone an entry is written at once,
under load the batches grow by themselves. What a commit guarantees stands in `sqlite_file`.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.sqlite_file import LedgerFile, make_file
from interlock.orchestrator.ledger.writer import Opened, Stored, Writer
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError
from interlock.schemas.ports import Clock


class SqliteLedger(Writer):
    """`Store` on one SQLite file; `reader` answers from it."""

    @classmethod
    def create(
        cls,
        path: Path | str,
        clock: Clock,
        *,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None = None,
    ) -> "SqliteLedger":
        """Make a new ledger and open it; `LedgerExists` where one is."""
        make_file(Path(path))
        return cls.open(path, clock, on_failure=on_failure, on_durable=on_durable)

    @classmethod
    def open(
        cls,
        path: Path | str,
        clock: Clock,
        *,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None = None,
    ) -> "SqliteLedger":
        """Open a ledger that is there; `NoLedger` where none is. It writes after `open_epoch`."""
        return cls(Path(path), clock, on_failure, on_durable)

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None,
    ) -> None:
        super().__init__(str(path), clock, Reader(path), on_failure, on_durable)
        self._file = LedgerFile(path)
        self._queue: deque[Stored] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = self._closed = False
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    async def _release(self) -> None:
        if self.epoch:
            await asyncio.to_thread(self._thread.join)
        else:
            self._file.close()

    def _open(self) -> Opened:
        opened = self._file.take_epoch()
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
            self._file.close()

    def _commit_waiting(self) -> None:
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        if batch and not self._closed:
            self._file.commit(batch)
            self._loop.call_soon_threadsafe(self._settled, batch[-1][0])
