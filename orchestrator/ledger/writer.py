"""The writer's half on the event loop: numbers and callbacks; where entries become durable is the store's own.

`append` gives an entry its number and time at once and returns; it is sealed and chained where it is written. `then` callbacks run on the
loop, in order of appending, after the entry is durable and never inside `append`. Once the store has failed, or a newer epoch was opened,
nothing pending is ever acknowledged, every call is refused and `on_failure` is told once.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Self

from interlock.orchestrator.ledger.chain import GENESIS
from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.projections import DeedRow
from interlock.orchestrator.ledger.reader import Reads
from interlock.orchestrator.ledger.sealer import Appended
from interlock.schemas.entries import Entry, Fact
from interlock.schemas.errors import InterlockError, StoreFailed
from interlock.schemas.fact import Parts
from interlock.schemas.ports import Clock, Stall

CLOSE_SECONDS = 10.0
"""How long a writer that is closed waits for a store that is stalled."""


class Opened(NamedTuple):
    """What a store says at a new epoch: its number, the last entry's number and hash."""

    epoch: int
    seq: int = 0
    head: bytes = GENESIS


class Writer(ABC):
    """The one writer of a ledger, for one epoch. Use it from the loop that ran `open_epoch`.

    `on_durable` is called for each entry that has become durable, before its `then`. `keeper`: who signs checkpoints, where somebody does.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        reader: Reads,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None,
    ) -> None:
        self.epoch = 0
        self.reader = reader
        self.keeper: Keeper | None = None
        self._path = path
        self._clock = clock
        self._on_failure = on_failure
        self._on_durable = on_durable
        self._seq = self._durable = 0
        self._failure: InterlockError | None = self._problem("it has not been opened for an epoch")
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._flushing: set[asyncio.Future[None]] = set()
        self._told: deque[Entry] = deque()

    def open_epoch(self) -> int:
        """Take epoch + 1, durably; whoever wrote before can write no more. Raises `StoreFailed`, or `StorePaused`: then try again."""
        self._loop = asyncio.get_running_loop()
        opened = self._open()
        self.epoch, self._seq = opened.epoch, opened.seq
        self._durable, self._failure = opened.seq, None
        return opened.epoch

    def opened(self) -> Self:
        """This writer, with its epoch; where it cannot take one it lets go of the store and raises."""
        try:
            self.open_epoch()
        except BaseException:
            self.discard()
            raise
        return self

    def append(self, task: str, fact: Fact, then: Callable[[], None] | None = None) -> int:
        """Put one entry at the end and return its time; `then` runs once it is durable. What the fact holds may not change any more."""
        if self._failure is not None:
            raise self._again(self._failure)
        parts = fact.split() if task else Parts(fact.encode())
        seq, at = self._seq + 1, self._clock.now()
        self._seq = seq
        if self._on_durable is not None:
            self._waiting.append((seq, self._tell))
        if then is not None:
            self._waiting.append((seq, then))
        self._write((seq, self.epoch, at, task, fact.KIND, *parts))
        return at

    @property
    def pending(self) -> bool:
        """Whether something was appended that is not durable yet."""
        return self._durable < self._seq

    @property
    def stalled(self) -> Stall | None:
        """What keeps what was appended from becoming durable now, though it will; none where all is well."""
        return None

    @property
    def traces(self) -> bool:
        """Whether what was erased can still be found in the store's files by who searches them; it passes by itself."""
        return False

    def free_room(self) -> bool:
        """See to it that the room of what was pruned is soon used again. Whether what was pruned lies there until it is: where it does not,
        it is overwritten as soon as there are no `traces`."""
        return False

    def health(self) -> Stall | None:
        """The same for who asks now and then: what readers have met counts too, and is looked at again."""
        return self.stalled

    def barrier(self, then: Callable[[], None]) -> None:
        """Run `then` once all that was appended so far is durable: in the loop's next turn if it is already."""
        if self._failure is not None:
            raise self._again(self._failure)
        self._waiting.append((self._seq, then))
        if self._durable >= self._seq:
            self._loop.call_soon(self._deliver)

    async def flush(self) -> None:
        """Return once all that was appended so far is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.barrier(partial(_resolve, done))
        self._flushing.add(done)
        try:
            await done
        finally:
            self._flushing.discard(done)

    async def close(self) -> None:
        """Make durable what waits and let go; everything is refused from here on. Raises `StoreFailed` where it stays stalled: what is
        not durable then was never acknowledged."""
        try:
            if self._failure is None:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self.flush()
        except TimeoutError:
            stalled = self.stalled
            raise self._problem(stalled.why if stalled is not None else f"it took more than {CLOSE_SECONDS:g} s") from None
        finally:
            self.reader.close()  # before the store: SQLite's last connection moves the log into the file, and a reader cannot
            self._end(self._problem("it was closed"))
            await self._release()

    def abandon(self) -> None:
        """Drop what is pending and go silent, as a crash would: no callback of this writer runs any more."""
        self._end(self._problem("its writer was abandoned"))

    def entries(self, task: str) -> list[Entry]:
        """A task's durable entries in order (`""`: those of the bus itself)."""
        return self.reader.entries(task)

    def live_tasks(self) -> list[str]:
        """Tasks without an outcome, in order of acceptance."""
        return self.reader.live_tasks()

    def parked(self) -> list[Entry]:
        """The last entries of those live tasks that are parked: each says so."""
        return self.reader.parked()

    def entries_of(self, tasks: Sequence[str]) -> dict[str, list[Entry]]:
        """The durable entries of many tasks at once, each task's in order."""
        return self.reader.entries_of(tasks)

    def item_task(self, item: str) -> str:
        """The task of something that was durably asked of a human; empty where there is no such item."""
        row = self.reader.item(item)
        return row.task if row is not None else ""

    def deed(self, name: str) -> DeedRow | None:
        """What is durably known of a deed."""
        return self.reader.deed(name)

    def entry(self, seq: int) -> Entry:
        """The durable entry with this number."""
        return self.reader.all_entries(seq - 1, 1)[0]

    @abstractmethod
    def discard(self) -> None:
        """Let go of what the store holds, where no epoch could be opened."""

    @abstractmethod
    def _open(self) -> Opened:
        """Take the next epoch in the store."""

    @abstractmethod
    def _write(self, entry: Appended) -> None:
        """See to it that the entry is sealed and becomes durable; then call `_settled`, or `_fail`, on the loop."""

    @abstractmethod
    async def _release(self) -> None:
        """Let go of what the store holds."""

    def _settled(self, seq: int, entries: Sequence[Entry] = ()) -> None:
        """All entries up to `seq` are durable; `entries` are the new ones, where somebody wants to hear of each."""
        self._durable = seq
        self._told.extend(entries)
        self._deliver()

    def _tell(self) -> None:
        assert self._on_durable is not None
        self._on_durable(self._told.popleft())

    def _deliver(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._durable:
            _, then = self._waiting.popleft()
            try:
                then()
            except BaseException:  # it goes to the loop's own handler, and keeps no other callback from running
                self._loop.call_soon(self._deliver)
                raise

    def _fail(self, failure: InterlockError) -> None:
        if self._failure is None:
            self._end(failure)
            self._on_failure(failure)

    def _end(self, failure: InterlockError) -> None:
        self._failure = failure
        self._waiting.clear()
        for done in self._flushing:
            if not done.done():
                done.set_exception(self._again(failure))

    def _problem(self, problem: str) -> StoreFailed:
        return StoreFailed(path=self._path, problem=problem)

    @staticmethod
    def _again(failure: InterlockError) -> InterlockError:
        """A fresh copy to raise: one exception raised in many places gathers all their tracebacks."""
        return type(failure)(**failure.facts)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
