"""The supervisor's own memory: a journal that never waits for the ledger. Nothing in it changes; what is over may be forgotten.

A change counts once it is here: a reservation is granted, a kill is valid. One commit is one transaction, synced to disk;
everything that became due in the same moment shares it. A journal has one owner, the supervisor's latest incarnation: an
earlier one that still lives is refused, also where it would only say what it knows. Others may add orders only, so a kill needs no
living actor. Where a commit fails its incarnation is over, for its memory is ahead of the journal; where a read fails too, for what it
was read for is not done. With `StorePaused` the next one goes on as soon as it can open the journal.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import Refused
from interlock.schemas.ids import derived
from interlock.schemas.ports import Clock, Stall
from interlock.schemas.stops import RESUME, STOP, Selection, StopOrder
from interlock.schemas.words import clean

ONCE = ("order", "receipt")
"""Kinds of which a task has one for ever: the first stands."""

SLOW_SECONDS = 1.0
"""A journal that keeps its supervisor waiting for longer is slow: meanwhile nobody else is answered either."""
SLOW_FOR = 60.0
"""And for so many seconds after that it counts as slow."""


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
    """Stop a task. `what`: `kill` or `budget`; `requested` in microseconds since the epoch. A task has one order for ever; `stop` names
    the stop that gave it, if one did; `undo`: what the task did shall be undone.

    Of a stop (`what` is `stop` or `resume`) `task` is its own id; `scope` and `name` are the selection."""

    task: str
    what: str
    by: str
    why: str
    requested: int
    scope: str = ""
    name: str = ""
    stop: str = ""
    undo: bool = True

    @property
    def id(self) -> str:
        return derived("ord", self.task)

    @property
    def as_stop(self) -> StopOrder | None:
        """The stop or resume that this is; none where it is against a task."""
        if self.what not in (STOP, RESUME):
            return None
        return StopOrder(self.id, self.what, self.scope, self.name, self.by, self.why, self.requested, self.undo)

    @classmethod
    def made(cls, task: str, what: str, by: str, why: str, requested: int, undo: bool = True) -> "Order":
        """An order in words that can be kept, whatever somebody typed."""
        return cls(task, what, clean(by), clean(why), requested, undo=undo)

    @classmethod
    def of_selection(cls, id: str, what: str, selection: Selection, by: str, why: str, requested: int, undo: bool = True) -> "Order":
        """A stop or a resume, under an id that its client has made."""
        return cls.made(id, what, by, why, requested, undo)._replace(scope=selection.scope, name=clean(selection.name))

    def change(self) -> Change:
        return Change("order", self.task, self._asdict())


def order_in(row: Row) -> Order:
    return Order(**row.data)


def can_be_kept(task: object) -> bool:
    """Whether a journal can take it as a name: what it cannot would fail with all that is committed together."""
    return isinstance(task, str) and clean(task) == task and "\0" not in task


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
        self._slow: tuple[float, Stall] | None = None  # until when (monotonic)
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

    @property
    def slow(self) -> Stall | None:
        """Since when it has kept its supervisor waiting again and again, and for how long the last time; none where it does not."""
        return self._slow[1] if self._slow is not None and time.monotonic() < self._slow[0] else None

    async def failure(self) -> None:
        """Returns never: raises what a commit or a read failed with, once one has."""
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
        kept = [task for task in tasks if can_be_kept(task)]
        if not kept:
            return {}
        with self._failing():
            return self._firsts(kind, kept)

    def foreign(self) -> list[Row]:
        """Orders that another process has written since the last call (or since the opening)."""
        raise NotImplementedError

    def forget(self, kinds: Sequence[str], tasks: Sequence[str], instead: Sequence[Change] = ()) -> None:
        """Drop all rows of these kinds about these tasks, and put these changes in the place of earlier ones of their kind and name: at
        once or not at all. Commit before what is staged about them."""
        self._check()
        with self._failing():
            self._erase(kinds, tasks, [change.sealed() for change in instead])

    def close(self) -> None:
        """Give the store back; what is staged and was not waited for is dropped."""

    def _firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
        raise NotImplementedError

    def _erase(self, kinds: Sequence[str], tasks: Sequence[str], instead: Sequence[Change]) -> None:
        raise NotImplementedError

    def _write(self, changes: list[Change]) -> None:
        raise NotImplementedError

    def _confirm(self) -> None:
        """Raises `StaleIncarnation` where a later incarnation owns this journal: what the memory of this one says may be long past. What is
        in the memory of one process has no other owner."""

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
        with self._failing():
            if changes:
                self._write(changes)
            else:
                self._confirm()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self._failure = error
            self._failed.set()
            raise
        finally:
            if (seconds := time.monotonic() - began) > SLOW_SECONDS:
                self._note_slow(seconds)

    def _note_slow(self, seconds: float) -> None:
        since = known.since if (known := self.slow) is not None else self._clock.now() - int(seconds * 1e6)
        problem = f"its disk is slow: it kept the supervisor waiting for {seconds:.1f} s"
        self._slow = time.monotonic() + SLOW_FOR, Stall(since, problem)


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

    def _firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
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

    def _erase(self, kinds: Sequence[str], tasks: Sequence[str], instead: Sequence[Change]) -> None:
        gone = {(kind, task) for kind in kinds for task in tasks} | {(change.kind, change.task) for change in instead}
        for key in gone:
            self._found.pop(key, None)
        self.store[:] = [row for row in self.store if (row.kind, row.task) not in gone]
        self._write(list(instead))
