"""A ledger on a database: group commit by one writer thread.

The thread seals and commits everything that waits as one transaction and tells the event loop once per commit: alone an entry is
written at once, under load the batches grow by themselves. Where the database cannot take a batch now (the disk is full, the server is
away) the thread tries the same batch again until it can, and the ledger is `stalled` meanwhile. What a commit guarantees stands in
`sqlite_file` and `postgres_store`.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from interlock.orchestrator.ledger.cipher import KeyRow
from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.reader import Reads
from interlock.orchestrator.ledger.sealer import Appended, Sealed, Sealer
from interlock.orchestrator.ledger.writer import Opened, Writer
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError, StorePaused
from interlock.schemas.ports import Clock, Stall

SLOW_SECONDS = 5.0
"""A commit that takes longer stalls the ledger until it ends."""

_LOG = logging.getLogger("interlock.ledger")

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
_CLEAN_SECONDS = 1.0


class Committing(Protocol):
    """The writing end of a database. One thread at a time; it may move to another.

    `traces`: what was destroyed in a commit can still be found by who searches the files of the database.
    """

    traces: bool

    def take_epoch(self) -> Opened:
        """Count the epoch up and read where the ledger stands, in one transaction."""

    def secrets(self, tasks: Sequence[str]) -> list[KeyRow]:
        """The secrets of those of these tasks that have one. Raises `StoreFailed`, or `StorePaused`: ask again."""

    def commit(self, batch: Sealed) -> None:
        """Write the batch, all or nothing, durably. Raises `StaleEpoch` or `StoreFailed`, and nothing may be written after either; or
        `StorePaused`, and nothing may be written but the same batch again."""

    def clean(self) -> None:
        """Remove the traces, if nobody is in the way. Raises `StoreFailed` or `StorePaused`."""

    def close(self) -> None: ...


class _Commit(NamedTuple):
    """The commit under way: when it began (monotonic), and why it has failed so far."""

    began: float
    problem: str = ""


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
        self._queue: deque[Appended] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        self._closed = threading.Event()
        self._next_cleaning = 0.0
        self._committing: _Commit | None = None
        self._since = (0.0, 0)  # when that began, by both clocks: asked for only where it stalls
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    @property
    def stalled(self) -> Stall | None:
        commit = self._committing
        if commit is None:
            return None
        seconds = time.monotonic() - commit.began
        if commit.problem or seconds > SLOW_SECONDS:
            if self._since[0] != commit.began:
                self._since = (commit.began, self._clock.now() - int(seconds * 1e6))
            return Stall(self._since[1], commit.problem or f"its disk is slow: one commit has taken {seconds:.0f} s so far")
        return None

    @property
    def traces(self) -> bool:
        return self._store.traces

    async def _release(self) -> None:
        if self.epoch:
            await asyncio.to_thread(self._thread.join)
            if self.keeper is not None:
                await asyncio.to_thread(self.keeper.join)
        else:
            self._store.close()

    def discard(self) -> None:
        self.reader.close()
        self._store.close()

    def _open(self) -> Opened:
        opened = self._store.take_epoch()
        if self.keeper is not None:
            self.keeper.begin(opened.seq)
        self._seals = Sealer(opened.head, self._store.secrets, every=self._on_durable is not None)
        self._thread.start()
        return opened

    def _write(self, entry: Appended) -> None:
        self._queue.append(entry)
        if not self._woken:
            self._woken = True
            self._wake.put(None)

    def _end(self, failure: InterlockError) -> None:
        super()._end(failure)
        self._closed.set()
        self._wake.put(None)

    def _work(self) -> None:
        """The writer thread: until the end, commit whatever waits."""
        try:
            self._clean()
            while not self._closed.is_set():
                self._wait()
                self._woken = False  # first of all: what is appended from here on wakes us again
                self._commit_waiting()
                self._clean()
        except InterlockError as failure:
            self._loop.call_soon_threadsafe(self._fail, failure)
        except BaseException as problem:
            self._loop.call_soon_threadsafe(self._fail, self._problem(repr(problem)))
            raise
        finally:
            self._store.close()
            if self.keeper is not None:
                self.keeper.end()

    def _wait(self) -> None:
        with suppress(Empty):
            self._wake.get(timeout=_CLEAN_SECONDS if self._store.traces else None)

    def _clean(self) -> None:
        """After what it concerns was acknowledged, and then now and then: it may have to wait, and others wait for this thread."""
        if self._store.traces and not self._closed.is_set() and time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + _CLEAN_SECONDS
            with suppress(StorePaused):
                self._store.clean()

    def _commit_waiting(self) -> None:
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        sealed = self._commit(batch) if batch and not self._closed.is_set() else None
        if sealed is not None:
            if self.keeper is not None:
                self.keeper.committed([stored[-1] for stored in sealed.entries])
            if sealed.erased:
                self._next_cleaning = 0.0
            told = sealed.opened if self._on_durable is not None else ()
            self._loop.call_soon_threadsafe(self._settled, batch[-1][0], told)

    def _commit(self, batch: Sequence[Appended]) -> Sealed | None:
        """Commit the batch, again and again where the store cannot take it now, sealed once; none where the writer was ended meanwhile."""
        self._committing = commit = _Commit(time.monotonic())
        sealed: Sealed | None = None
        wait = _FIRST_WAIT
        while True:
            try:
                sealed = sealed or self._seals.seal(batch)
                self._store.commit(sealed)
            except StorePaused as pause:
                if not self._committing.problem:
                    _LOG.warning("%s", pause)
                self._committing = commit._replace(problem=pause.problem)
                if self._closed.wait(wait):
                    return None
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                if self._committing.problem:
                    _LOG.warning("the store at %s can be written again; nothing was lost", self._path)
                self._committing = None
                return sealed
