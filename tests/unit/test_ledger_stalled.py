"""A disk without room, one that fails for a while, one that is slow: the writer waits with the same batch and loses nothing."""

import asyncio
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from interlock.orchestrator.ledger import threaded
from interlock.orchestrator.ledger.projections import key_of, refold
from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.sealer import Sealed
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.orchestrator.ledger.sqlite_file import LedgerFile
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas import entries as e
from interlock.schemas.errors import InterlockError, StaleEpoch, StoreFailed, StorePaused
from interlock.schemas.ports import Stall


class WallClock:
    def now(self) -> int:
        return time.time_ns() // 1000


def unexpected(failure: InterlockError) -> None:
    raise AssertionError(failure)


def accepted(size: int = 1) -> e.TaskAccepted:
    """It takes so many bytes: of what it says nothing repeats itself."""
    said = Random(size).randbytes(size).hex()
    return e.TaskAccepted("billing", "1.0.0", "a.x", "1.0.0", {"x": said}, {}, "trusted", "ann")


def made(path: Path, on_failure: Callable[[InterlockError], None] = unexpected) -> SqliteLedger:
    ledger = SqliteLedger.create(path, WallClock(), on_failure=on_failure)
    ledger.open_epoch()
    return ledger


def file_of(ledger: SqliteLedger) -> LedgerFile:
    store = ledger._store
    assert isinstance(store, LedgerFile)
    return store


async def stall_of(ledger: Writer) -> Stall:
    async with asyncio.timeout(10):
        while ledger.stalled is None:  # noqa: ASYNC110 - the writer thread finds out in its own time
            await asyncio.sleep(0.005)
    return ledger.stalled


def fill(ledger: SqliteLedger, pages: int = 1) -> None:
    """SQLite takes no page more than the file has: what it says then is what it says of a full disk."""
    file_of(ledger)._db.execute(f"PRAGMA max_page_count = {pages}")


@contextmanager
def few_pages(ledger: SqliteLedger, path: Path) -> Iterator[None]:
    fill(ledger)
    yield
    fill(ledger, 1_000_000)


@contextmanager
def no_more_bytes(ledger: SqliteLedger, path: Path) -> Iterator[None]:
    """The system lets no file of this process grow: a write fails as it does on a disk that does not work."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = Path(f"{path}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def somebody_writes(ledger: SqliteLedger, path: Path) -> Iterator[None]:
    file_of(ledger)._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.parametrize(
    ("fault", "why"),
    [(few_pages, "database or disk is full"), (no_more_bytes, "disk I/O error"), (somebody_writes, "database is locked")],
)
def test_what_passes_costs_time_and_nothing_else(tmp_path: Path, fault: Any, why: str) -> None:
    path = tmp_path / "ledger.db"
    durable: list[int] = []

    def append(ledger: Writer, number: int) -> None:
        ledger.append(f"tsk_{number}", accepted(20_000), lambda: durable.append(number))

    async def main() -> None:
        ledger = made(path)
        append(ledger, 0)
        await ledger.flush()
        assert ledger.stalled is None
        with fault(ledger, path):
            before = ledger._clock.now() - 1000  # two clocks, read one after the other
            for number in range(1, 6):
                append(ledger, number)
            stalled = await stall_of(ledger)
            assert stalled.why == why
            assert before <= stalled.since <= ledger._clock.now()
            ledger.append("tsk_1", e.TaskEnded("success", ""), lambda: durable.append(100))
            await asyncio.sleep(0.2)
            assert ledger.stalled == stalled  # since the same moment, however often it was tried
            assert durable == [0]
        async with asyncio.timeout(10):
            await ledger.flush()
        assert ledger.stalled is None
        append(ledger, 6)
        await ledger.close()

    asyncio.run(main())
    assert durable == [0, 1, 2, 3, 4, 5, 100, 6]
    reader = Reader(path)
    entries = reader.all_entries()
    assert [entry.seq for entry in entries] == list(range(1, 9))
    assert reader.verify() == 8
    assert {key_of(row): row for row in reader.rows()} == refold(entries)
    reader.close()


def test_a_newer_epoch_ends_a_writer_that_waits(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> None:
        failed: list[InterlockError] = []
        ledger = made(path, failed.append)
        fill(ledger)
        ledger.append("tsk_a", accepted(20_000))
        await stall_of(ledger)
        heir = SqliteLedger.open(path, WallClock(), on_failure=unexpected)
        assert heir.open_epoch() == 2
        with pytest.raises(StaleEpoch):
            await ledger.flush()
        assert [type(failure) for failure in failed] == [StaleEpoch]
        await ledger.close()
        heir.append("tsk_b", accepted())
        await heir.close()

    asyncio.run(main())
    reader = Reader(path)
    assert reader.live_tasks() == ["tsk_b"]
    reader.close()


def test_no_epoch_begins_before_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> None:
        await made(path).close()
        ledger = SqliteLedger.open(path, WallClock(), on_failure=unexpected)
        with somebody_writes(ledger, path), pytest.raises(StorePaused, match="database is locked"):
            ledger.open_epoch()
        assert ledger.open_epoch() == 2
        await ledger.close()

    asyncio.run(main())


def test_who_closes_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.orchestrator.ledger.writer.CLOSE_SECONDS", 0.1)
    path = tmp_path / "ledger.db"

    async def main() -> None:
        ledger = made(path)
        fill(ledger)
        ledger.append("tsk_a", accepted(20_000), lambda: unexpected(StoreFailed(path="", problem="acknowledged")))
        await stall_of(ledger)
        with pytest.raises(StoreFailed, match="database or disk is full"):
            await ledger.close()
        assert not ledger._thread.is_alive()

    asyncio.run(main())
    reader = Reader(path)
    assert reader.live_tasks() == []
    reader.close()


def test_a_slow_commit_stalls_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded, "SLOW_SECONDS", 0.05)

    async def main() -> None:
        ledger = made(tmp_path / "ledger.db")
        go_on, commit = threading.Event(), ledger._store.commit

        def slow(batch: Sealed) -> None:
            assert go_on.wait(10)
            commit(batch)

        monkeypatch.setattr(ledger._store, "commit", slow)
        ledger.append("tsk_a", accepted())
        assert (await stall_of(ledger)).why == "its disk is slow: one commit has taken 0 s so far"
        go_on.set()
        await ledger.flush()
        assert ledger.stalled is None
        await ledger.close()

    asyncio.run(main())


def test_what_does_not_pass_ends_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> None:
        failed: list[InterlockError] = []
        ledger = made(path, failed.append)
        spoiler = sqlite3.connect(path)
        spoiler.execute("DROP TABLE entries")
        spoiler.close()
        ledger.append("tsk_a", accepted())
        with pytest.raises(StoreFailed, match="no such table"):
            await ledger.flush()
        assert [type(failure) for failure in failed] == [StoreFailed]
        await ledger.close()

    asyncio.run(main())
