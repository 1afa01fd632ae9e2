"""What only the ledger on SQLite can show: its file, its refusals, and that what it acknowledged survives SIGKILL."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from interlock.orchestrator.ledger.projections import PROJECTED, Key, Row, key_of, refold
from interlock.orchestrator.ledger.reader import Reader, Reads
from interlock.orchestrator.ledger.sealer import Sealed
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.schemas import entries as e
from interlock.schemas.errors import InterlockError, LedgerDamaged, LedgerExists, NoLedger, StoreFailed


class WallClock:
    def now(self) -> int:
        return time.time_ns() // 1000


def unexpected(failure: InterlockError) -> None:
    raise AssertionError(failure)


ACCEPTED = e.TaskAccepted("billing", "1.0.0", "a.x", "1.0.0", {"x": 1}, {}, "trusted", "ann")


def create(path: Path) -> SqliteLedger:
    ledger = SqliteLedger.create(path, WallClock(), on_failure=unexpected)
    ledger.open_epoch()
    return ledger


def write(path: Path, many: int) -> None:
    async def test() -> None:
        ledger = create(path)
        for number in range(many):
            ledger.append(f"tsk_{number}", ACCEPTED)
        await ledger.close()

    asyncio.run(test())


def rows_of(reader: Reads) -> dict[Key, Row]:
    assert isinstance(reader, Reader)
    return {key_of(row): row for row in reader.rows()}


def test_only_create_makes_a_file_and_only_where_none_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with pytest.raises(NoLedger, match="there is no such file"):
        SqliteLedger.open(path, WallClock(), on_failure=unexpected)
    with pytest.raises(NoLedger, match="interlock up"):
        Reader(path)
    assert list(tmp_path.iterdir()) == []
    write(path, 3)
    assert list(tmp_path.iterdir()) == [path]
    before = path.read_bytes()
    with pytest.raises(LedgerExists):
        SqliteLedger.create(path, WallClock(), on_failure=unexpected)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_create_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="cannot be written"):
        SqliteLedger.create(tmp_path / "missing" / "ledger.db", WallClock(), on_failure=unexpected)


def test_another_file_is_not_taken_for_a_ledger(tmp_path: Path) -> None:
    text, database, later = tmp_path / "text", tmp_path / "database", tmp_path / "later"
    text.write_text("not a database, but long enough to look like one " * 40)
    other = sqlite3.connect(database)
    other.execute("CREATE TABLE t (a)")
    other.close()
    write(later, 1)
    newer = sqlite3.connect(later)
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    for path, problem in ((text, "cannot be read"), (database, "something else"), (later, "layout is version 9")):
        with pytest.raises(NoLedger, match=problem) as caught:
            Reader(path)
        # The error holds the frames that it went through: what they had opened is closed all the same.
        assert str(path) not in {os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()}, caught


def test_entries_can_be_neither_changed_nor_deleted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write(path, 3)
    vandal = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="entries never change"):
        vandal.execute("UPDATE entries SET task = 'x' WHERE seq = 2")
    with pytest.raises(sqlite3.IntegrityError, match="entries are never deleted"):
        vandal.execute("DELETE FROM entries")
    vandal.close()


@pytest.mark.parametrize(
    "damage",
    ["UPDATE entries SET data = replace(data, 'billing', 'bullion') WHERE seq = 1200", "DELETE FROM entries WHERE seq = 1200"],
)
def test_damage_under_the_triggers_is_found(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.db"
    write(path, 1300)
    vandal = sqlite3.connect(path)
    vandal.executescript("DROP TRIGGER entries_keep; DROP TRIGGER entries_stay;")
    vandal.execute(damage.replace("replace(data", "CAST(replace(CAST(data AS TEXT)").replace("'bullion')", "'bullion') AS BLOB)"))
    vandal.commit()
    vandal.close()
    reader = Reader(path)
    with pytest.raises(LedgerDamaged) as caught:
        reader.verify()
    assert caught.value.seq == 1200
    reader.close()


@pytest.mark.parametrize(
    ("damage", "seq"),
    [
        ("UPDATE tasks SET outcome = 'success', state = 'ended' WHERE task = 'tsk_4'", 5),
        ("DELETE FROM tasks WHERE task = 'tsk_2'", 3),
        ("INSERT INTO contracts VALUES ('a.x', '1.0.0', 7, '{}', 'eve')", 7),
        ("DROP TRIGGER entries_stay; DELETE FROM entries WHERE seq > 8", 9),
    ],
)
def test_rows_that_differ_from_the_entries_are_damage(tmp_path: Path, damage: str, seq: int) -> None:
    path = tmp_path / "ledger.db"
    write(path, 10)
    vandal = sqlite3.connect(path)
    vandal.executescript(damage)
    vandal.close()
    reader = Reader(path)
    for _ in range(2):
        with pytest.raises(LedgerDamaged) as caught:
            reader.verify()
        assert caught.value.seq == seq
    reader.close()


def test_an_audit_beside_a_writing_bus_sees_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def test() -> None:
        ledger = create(path)
        for number in range(1500):
            ledger.append(f"tsk_{number}", ACCEPTED)
        await ledger.flush()
        reader = Reader(path)
        loop, rows = asyncio.get_running_loop(), Reader.rows

        async def go_on() -> None:
            ledger.append("tsk_0", e.TaskEnded("success", ""))
            await ledger.flush()

        def meanwhile(self: Reader) -> list[Row]:
            asyncio.run_coroutine_threadsafe(go_on(), loop).result(10)
            return rows(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Reader, "rows", meanwhile)
            assert await asyncio.to_thread(reader.verify) == 1500
        assert reader.verify() == 1501
        reader.close()
        await ledger.close()

    asyncio.run(test())


def test_a_file_with_broken_pages_is_damage_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write(path, 3000)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(os.urandom(size // 2))
    reader = Reader(path)
    with pytest.raises(LedgerDamaged, match="not intact"):
        reader.verify()
    reader.close()


def test_large_batches_arrive_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write(path, 2500)
    reader = Reader(path)
    assert reader.verify() == 2500
    assert reader.live_tasks() == [f"tsk_{number}" for number in range(2500)]
    assert rows_of(reader) == refold(reader.all_entries(limit=2500))
    reader.close()


def test_a_reader_reads_while_the_bus_writes_and_after_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def test() -> None:
        ledger = create(path)
        reader = Reader(path)
        for number in range(3):
            ledger.append(f"tsk_{number}", ACCEPTED)
            await ledger.flush()
            assert len(reader.tasks()) == number + 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._db.execute("INSERT INTO epoch VALUES (9)")
        await ledger.close()
        assert reader.verify() == 3
        reader.close()

    asyncio.run(test())
    after = Reader(path)
    assert after.verify() == 3
    after.close()


def test_a_failing_store_acknowledges_nothing_and_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def test() -> None:
        failures: list[InterlockError] = []
        told = asyncio.Event()

        def on_failure(failure: InterlockError) -> None:
            failures.append(failure)
            told.set()

        acknowledged: list[str] = []
        ledger = SqliteLedger.create(path, WallClock(), on_failure=on_failure)
        ledger.open_epoch()
        ledger.append("tsk_a", ACCEPTED, lambda: acknowledged.append("a"))
        await ledger.flush()
        full = sqlite3.connect(path)
        full.executescript(
            "CREATE TRIGGER full BEFORE INSERT ON entries WHEN NEW.task = 'tsk_c' BEGIN SELECT RAISE(ABORT, 'disk is full'); END;"
        )
        full.close()
        ledger.append("tsk_b", ACCEPTED, lambda: acknowledged.append("b"))
        ledger.append("tsk_c", ACCEPTED, lambda: acknowledged.append("c"))
        flushing = asyncio.create_task(ledger.flush())
        ledger.append("tsk_d", ACCEPTED, lambda: acknowledged.append("d"))
        await told.wait()
        with pytest.raises(StoreFailed, match="disk is full"):
            await flushing
        with pytest.raises(StoreFailed, match="disk is full"):
            ledger.append("tsk_e", ACCEPTED)
        assert [str(failure) for failure in failures] == [str(StoreFailed(path=str(path), problem="disk is full"))]
        assert "c" not in acknowledged
        assert "d" not in acknowledged
        await ledger.close()

    asyncio.run(test())
    reader = Reader(path)
    tasks = reader.live_tasks()
    assert tasks in (["tsk_a"], ["tsk_a", "tsk_b"])
    assert reader.verify() == len(tasks)
    reader.close()


def test_the_hot_path_opens_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages, timers, effects and dispatches change no row: they are not even decoded."""
    hot: list[type[e.Fact]] = [e.MessageSent, e.MessageReceived, e.TimerSet, e.TimerFired, e.DispatchAttempted]
    hot += [e.EffectIntended, e.EffectEnded, e.ModelCalled]
    assert PROJECTED.isdisjoint(fact.KIND for fact in hot)
    opened: list[str] = []
    really = e.Entry.open

    def watched(entry: e.Entry) -> e.Fact:
        opened.append(entry.kind)
        return really(entry)

    monkeypatch.setattr(e.Entry, "open", watched)

    async def test() -> None:
        ledger = create(tmp_path / "ledger.db")
        ledger.append("tsk_a", ACCEPTED)
        ledger.append("tsk_a", e.TimerSet(1, 1.0, 0))
        ledger.append("tsk_a", e.EffectEnded("eff", "dsp", "1-1", "t", True, {}, 1.0))
        await ledger.close()

    asyncio.run(test())
    assert opened == ["task.accepted"]


def test_what_is_appended_during_a_commit_goes_as_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        ledger = create(tmp_path / "ledger.db")
        batches: list[int] = []
        begun, go_on = threading.Event(), threading.Event()
        commit = ledger._store.commit

        def slow(batch: Sealed) -> None:
            batches.append(len(batch.entries))
            begun.set()
            assert go_on.wait(10)
            commit(batch)

        monkeypatch.setattr(ledger._store, "commit", slow)
        ledger.append("tsk_a", ACCEPTED)
        assert begun.wait(10)
        for number in range(100):
            ledger.append(f"tsk_{number}", ACCEPTED)
        go_on.set()
        await ledger.close()
        assert batches == [1, 100]

    asyncio.run(test())


CHILD = """
import asyncio, sys, time
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.schemas import entries as e

class WallClock:
    def now(self): return time.time_ns() // 1000

def failed(failure): raise SystemExit(str(failure))

async def main():
    ledger = SqliteLedger.create(sys.argv[1], WallClock(), on_failure=failed)
    ledger.open_epoch()
    seq = 0
    def append(task, fact):
        nonlocal seq
        seq += 1
        line = f"{seq} {task}\\n"
        ledger.append(task, fact, lambda: (sys.stdout.write(line), sys.stdout.flush()))
    number = 0
    while True:
        number += 1
        task = f"tsk_{number}"
        append(task, e.TaskAccepted("billing", "1.0.0", "a.x", "1.0.0", {"x": "y" * 500}, {}, "trusted", "ann"))
        append(task, e.ItemAsked(f"itm_{number}", "approval", "finance", "pay?", 0))
        if number % 2:
            append(task, e.TaskEnded("success", ""))
        if not number % 7:
            await ledger.flush()
        await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 200, 1500])
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "ledger.db"
    acknowledged: list[tuple[int, str]] = []
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(lines):
            seq, task = child.stdout.readline().split()
            acknowledged.append((int(seq), task))
        child.send_signal(signal.SIGKILL)
        left = child.stdout.read().split("\n")
    acknowledged += [(int(seq), task) for seq, task in (line.split() for line in left[:-1])]
    assert child.returncode == -signal.SIGKILL
    assert [seq for seq, _ in acknowledged] == list(range(1, len(acknowledged) + 1))

    reader = Reader(path)
    entries = reader.all_entries(limit=1_000_000)
    assert [(entry.seq, entry.task) for entry in entries][: len(acknowledged)] == acknowledged
    assert reader.verify() == len(entries)
    assert rows_of(reader) == refold(entries)
    reader.close()

    async def carry_on() -> None:
        heir = SqliteLedger.open(path, WallClock(), on_failure=unexpected)
        assert heir.open_epoch() == 2
        for task in heir.live_tasks():
            heir.append(task, e.TaskEnded("failed", "stalled"))
        await heir.flush()
        assert heir.live_tasks() == []
        everything = heir.reader.all_entries(limit=1_000_000)
        assert heir.reader.verify() == len(everything)
        assert rows_of(heir.reader) == refold(everything)
        await heir.close()

    asyncio.run(carry_on())
