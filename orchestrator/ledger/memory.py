"""The ledger's twin in memory: the same numbers, hashes, rows and callbacks, for tests, simulations and a bus that keeps nothing.

Each entry becomes durable in a turn of the event loop of its own, so that a simulation can stop at every single one. What is durable
lives in `Disk` and survives the writer: `reopen` is a crash and a restart. Secrets are the same in every run, so that runs can be compared:
what is in the memory of one process needs no others.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import shake_256
from typing import TypeVar

from interlock.orchestrator.ledger.audit import audit
from interlock.orchestrator.ledger.chain import GENESIS
from interlock.orchestrator.ledger.cipher import NO_SECRET, KeyRow
from interlock.orchestrator.ledger.notes import Checkpoint
from interlock.orchestrator.ledger.opener import Opener
from interlock.orchestrator.ledger.projections import PROJECTED, AppRow, ContractRow, DeedRow, InboxRow, Row, Tables, TaskRow
from interlock.orchestrator.ledger.reader import Prunable
from interlock.orchestrator.ledger.sealer import Appended, Sealed, Sealer
from interlock.orchestrator.ledger.shown import ItemShown, TaskShown, items_shown, tasks_shown
from interlock.orchestrator.ledger.writer import Opened, Writer
from interlock.schemas.entries import Entry, Fact, TaskParked
from interlock.schemas.errors import InterlockError, StaleEpoch, StorePaused
from interlock.schemas.ports import Clock, Stall
from interlock.schemas.record import State

R = TypeVar("R", bound=Row)

_RETRY_SECONDS = 0.05


class Disk:
    """What is durable, and the answers that it gives (`Reads`)."""

    def __init__(self) -> None:
        self.epoch = 0
        self.full: Stall | None = None
        """While this is set nothing can be written, as on a disk without room."""
        self.log: list[Entry] = []
        self.tables = Tables()
        self.keys: dict[str, bytes] = {}
        self.contents: dict[str, dict[bytes, bytes]] = {}
        self._by_task: dict[str, list[Entry]] = {}
        self._drawn = 0
        self._pruned: set[str] = set()

    def random(self, size: int) -> bytes:
        """So many bytes that never came before."""
        self._drawn += 1
        return shake_256(b"%d" % self._drawn).digest(size)

    def write(self, batch: Sealed) -> None:
        self.keys.update(batch.keys)
        gone = (*batch.erased, *batch.pruned)
        for task in gone:
            self.contents.pop(task, None)
        self._pruned.update(batch.pruned)
        for task, name, data in batch.contents:
            self.contents.setdefault(task, {}).setdefault(name, data)
        for entry in batch.opened:
            self.log.append(entry)
            self._by_task.setdefault(entry.task, []).append(entry)
            if entry.kind in PROJECTED:
                self.tables.fold(entry)
        for task in batch.erased:
            self.keys[task] = NO_SECRET
        for task in {*gone, *(row.task for row in batch.contents if row.task in self._pruned)}:  # the same pieces may be there again
            opened = self._by_task[task] = self.opener().all(self._by_task[task])
            for entry in opened:
                self.log[entry.seq - 1] = entry

    def opener(self) -> Opener:
        """What opens entries as they are stored."""
        return Opener(self.keys.get, lambda task, name: self.contents.get(task, {}).get(name))

    def tasks(self, limit: int = 100, state: State | None = None) -> list[TaskShown]:
        found = [row for row in self._rows(TaskRow) if state is None or row.state == state.value]
        return tasks_shown(sorted(found, key=lambda row: -row.seq)[:limit], self._facts)

    def task(self, id: str) -> TaskShown | None:
        row = self.tables.known(id).task
        return tasks_shown([row], self._facts)[0] if row is not None else None

    def live_tasks(self) -> list[str]:
        return [row.task for row in sorted(self._rows(TaskRow), key=lambda row: row.seq) if not row.outcome]

    def parked(self) -> list[Entry]:
        last = [self._by_task[task][-1] for task in self.live_tasks()]
        return sorted((entry for entry in last if entry.kind == TaskParked.KIND), key=lambda entry: entry.seq)

    def inbox(self, open_only: bool = True, limit: int = 100, *, kind: str = "", task: str = "", after: int = 0) -> list[ItemShown]:
        return items_shown(self._inbox(open_only, kind, task, after)[:limit], self._facts)

    def inbox_count(self, open_only: bool = True, *, kind: str = "", after: int = 0) -> int:
        return len(self._inbox(open_only, kind, "", after))

    def _inbox(self, open_only: bool, kind: str, task: str, after: int) -> list[InboxRow]:
        found = [row for row in self._rows(InboxRow) if row.seq > after and not (open_only and row.decision)]
        return sorted((row for row in found if kind in ("", row.kind) and task in ("", row.task)), key=lambda row: row.seq)

    def item(self, id: str) -> ItemShown | None:
        row = self.tables.rows.get((InboxRow, id, ""))
        return items_shown([row], self._facts)[0] if isinstance(row, InboxRow) else None

    def entries(self, task: str, after: int = 0) -> list[Entry]:
        found = self._by_task.get(task, [])
        return found[bisect_right(found, after, key=lambda entry: entry.seq) :]

    def entries_of(self, tasks: Sequence[str]) -> dict[str, list[Entry]]:
        return {task: self.entries(task) for task in tasks if task in self._by_task}

    def all_entries(self, after: int = 0, limit: int = 1000) -> list[Entry]:
        return self.log[after : after + limit]

    def contracts(self) -> list[ContractRow]:
        return sorted(self._rows(ContractRow), key=lambda row: (row.contract, row.seq))

    def apps(self) -> list[AppRow]:
        return sorted(self._rows(AppRow), key=lambda row: row.seq)

    def deed(self, name: str) -> DeedRow | None:
        row = self.tables.rows.get((DeedRow, name, ""))
        return row if isinstance(row, DeedRow) else None

    def prunable(self, before: int) -> list[Prunable]:
        ended = [row for row in self._rows(TaskRow) if row.ended_at is not None and row.ended_at < before and self.contents.get(row.task)]
        kept = [(row.task, self.contents[row.task]) for row in sorted(ended, key=lambda row: row.seq)]
        return [Prunable(task, len(pieces), sum(map(len, pieces.values()))) for task, pieces in kept]

    def hashes(self, after: int = 0, limit: int = 1000) -> list[bytes]:
        return [entry.hash for entry in self.log[after : after + limit]]

    def verify(self, signed: Sequence[Checkpoint] = (), refold: bool = True) -> int:
        return audit(self.log, self.tables.rows.values if refold else None, signed, self.opener())

    def close(self) -> None:
        """Nothing is held."""

    def _facts(self, numbers: Sequence[int]) -> dict[int, Fact]:
        return {seq: self.log[seq - 1].open() for seq in numbers}

    def _rows(self, kind: type[R]) -> list[R]:
        return [row for row in self.tables.rows.values() if isinstance(row, kind)]


class MemoryLedger(Writer):
    """`Store` in memory, on a `Disk` of its own or on one that another writer left."""

    def __init__(
        self,
        clock: Clock,
        *,
        on_failure: Callable[[InterlockError], None],
        on_durable: Callable[[Entry], None] | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.disk = disk or Disk()
        self._queue: deque[Appended] = deque()
        super().__init__("memory", clock, self.disk, on_failure, on_durable)

    def reopen(
        self, *, on_failure: Callable[[InterlockError], None] | None = None, on_durable: Callable[[Entry], None] | None = None
    ) -> "MemoryLedger":
        """Crash and start again: this writer is abandoned, a new one has the next epoch and all that was durable."""
        self.abandon()
        heir = MemoryLedger(self._clock, on_failure=on_failure or self._on_failure, on_durable=on_durable, disk=self.disk)
        heir.open_epoch()
        return heir

    @property
    def stalled(self) -> Stall | None:
        return self.disk.full

    def _open(self) -> Opened:
        if self.disk.full is not None:
            raise StorePaused(path="memory", problem=self.disk.full.why)
        self.disk.epoch += 1
        last = self.disk.log[-1] if self.disk.log else None
        opened = Opened(self.disk.epoch, last.seq, last.hash) if last else Opened(self.disk.epoch, 0, GENESIS)
        self._seals = Sealer(opened.head, self._secrets, self.disk.random, every=True)
        return opened

    def _secrets(self, tasks: Sequence[str]) -> list[KeyRow]:
        return [KeyRow(task, self.disk.keys[task]) for task in tasks if task in self.disk.keys]

    def _write(self, entry: Appended) -> None:
        self._queue.append(entry)
        if len(self._queue) == 1:
            self._loop.call_soon(self._commit)

    def discard(self) -> None:
        self._queue.clear()

    async def _release(self) -> None:
        self._queue.clear()

    def _commit(self) -> None:
        if self._failure is not None:
            return
        if self.disk.epoch != self.epoch:
            self._fail(StaleEpoch(epoch=self.epoch, current=self.disk.epoch))
            return
        if self.disk.full is not None:
            self._loop.call_later(_RETRY_SECONDS, self._commit)
            return
        entry = self._queue.popleft()
        if self._queue:
            self._loop.call_soon(self._commit)
        sealed = self._seals.seal([entry])
        self.disk.write(sealed)
        self._settled(entry[0], sealed.opened if self._on_durable is not None else ())
