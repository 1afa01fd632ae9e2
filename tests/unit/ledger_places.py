"""Where ledgers are kept, for the tests that hold of all of them, and facts to write there."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest

from interlock.orchestrator.ledger.memory import Disk, MemoryLedger
from interlock.orchestrator.ledger.reader import Reader, Reads
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.orchestrator.ledger.stores import open_ledger, open_reader, prepare
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas import entries as e
from interlock.schemas.canonical import Fragment
from interlock.schemas.errors import InterlockError
from interlock.schemas.places import Database


class Ticking:
    """A clock that never says the same time twice."""

    def __init__(self) -> None:
        self._ticks = count(1_700_000_000_000_000)

    def now(self) -> int:
        return next(self._ticks)


def unexpected(failure: InterlockError) -> None:
    raise AssertionError(failure)


async def cleaned(ledger: Writer) -> None:
    """Wait until the writer's thread has removed what was destroyed, in its own time."""
    async with asyncio.timeout(20):
        while ledger.traces:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)


class Place(Protocol):
    """Where a ledger is kept, however often it is opened."""

    def open(
        self, on_failure: Callable[[InterlockError], None] = unexpected, on_durable: Callable[[e.Entry], None] | None = None
    ) -> Writer: ...

    def reader(self) -> Reads: ...


class InMemory:
    def __init__(self) -> None:
        self.disk, self._clock = Disk(), Ticking()

    def open(
        self, on_failure: Callable[[InterlockError], None] = unexpected, on_durable: Callable[[e.Entry], None] | None = None
    ) -> Writer:
        return MemoryLedger(self._clock, on_failure=on_failure, on_durable=on_durable, disk=self.disk)

    def reader(self) -> Reads:
        return self.disk


class OnSqlite:
    def __init__(self, folder: Path) -> None:
        self._path, self._clock = folder / "ledger.db", Ticking()

    def open(
        self, on_failure: Callable[[InterlockError], None] = unexpected, on_durable: Callable[[e.Entry], None] | None = None
    ) -> Writer:
        make = SqliteLedger.open if self._path.exists() else SqliteLedger.create
        return make(self._path, self._clock, on_failure=on_failure, on_durable=on_durable)

    def reader(self) -> Reads:
        return Reader(self._path)


class OnPostgres:
    def __init__(self, where: Database) -> None:
        self._where, self._clock = where, Ticking()
        prepare(where)

    def open(
        self, on_failure: Callable[[InterlockError], None] = unexpected, on_durable: Callable[[e.Entry], None] | None = None
    ) -> Writer:
        return open_ledger(self._where, self._clock, on_failure=on_failure, on_durable=on_durable)

    def reader(self) -> Reads:
        return open_reader(self._where)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "postgres":
        return OnPostgres(request.getfixturevalue("postgres_server").database())
    return InMemory() if request.param == "memory" else OnSqlite(tmp_path)


def accepted(type: str = "billing") -> e.TaskAccepted:
    return e.TaskAccepted(type, "1.0.0", "invoice.request", "1.0.0", Fragment(b'{"order":7}'), {"steps": 3}, "trusted", "ann")


def timer(n: int = 1) -> e.TimerSet:
    return e.TimerSet(n, 1.5, 0)


def asked(item: str, n: int = 0, dispatch: str = "") -> e.ItemAsked:
    return e.ItemAsked(item, "approval", "finance", "pay?", 99, n=n, dispatch=dispatch, details={"b": 1, "a": [2]})


def decided(item: str, decision: str = "approved") -> e.ItemDecided:
    return e.ItemDecided(item, decision, "bob", "fine")


def ended(outcome: str = "success", reason: str = "") -> e.TaskEnded:
    return e.TaskEnded(outcome, reason)


def on_loop(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def written(place: Place, *facts: tuple[str, e.Fact]) -> Reads:
    """The ledger that holds these facts, for reading."""

    async def write() -> None:
        ledger = place.open()
        ledger.open_epoch()
        for task, fact in facts:
            ledger.append(task, fact)
        await ledger.close()

    on_loop(write())
    return place.reader()
