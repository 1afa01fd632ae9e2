"""The supervisor's journal: durable, shared commits, one order per task, one owner."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path

import pytest

from interlock.actors.supervisor import journals, sqlite_journal
from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import Change, Journal, MemoryJournal, Order, order_in
from interlock.actors.supervisor.spool import SPOOL
from interlock.actors.supervisor.sqlite_journal import SqliteJournal, write_order
from interlock.schemas.errors import Refused, StaleIncarnation, StoreFailed, StorePaused
from interlock.schemas.ports import Clock, Reservation
from interlock.testing.virtual_time import VirtualClock, run


class FixedClock:
    def now(self) -> int:
        return 42


class Opener:
    """Opens journals, all of which are closed after the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, path: Path, clock: Clock | None = None, create: bool = False) -> SqliteJournal:
        return self._stack.enter_context(closing(SqliteJournal(path, clock or FixedClock(), create)))


@pytest.fixture
def opened() -> Iterator[Opener]:
    with ExitStack() as stack:
        yield Opener(stack)


def change(task: str, n: int) -> Change:
    return Change("note", task, {"n": n, "usd": Decimal("0.1")})


def order(task: str, by: str = "ann") -> Order:
    return Order(task, "kill", by, "enough", 7)


def open_files() -> set[str]:
    return {os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()}


def notes(journal: Journal) -> list[int]:
    return [row.data["n"] for row in journal.rows() if row.kind == "note"]


def test_what_was_committed_is_found_again(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "supervisor.db"
    first = opened(path, create=True)
    first.append(change("tsk_a", 1), change("tsk_b", 2))
    # A copy of the files at this moment is what a crash leaves.
    for name in ("supervisor.db", "supervisor.db-wal"):
        (tmp_path / f"copy-{name}").write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "copy-supervisor.db-wal").rename(tmp_path / "copy-supervisor.db-wal")
    second = opened(tmp_path / "copy-supervisor.db")
    assert notes(second) == [1, 2]
    assert (first.incarnation, second.incarnation) == (1, 2)
    found = second.find("note", "tsk_b")
    assert found is not None
    assert (found.at, found.data) == (42, {"n": 2, "usd": "0.1"})


def test_a_restart_never_makes_a_new_journal(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        SqliteJournal(tmp_path / "missing.db", FixedClock())
    with pytest.raises(StoreFailed):
        write_order(tmp_path / "missing.db", order("tsk_a"))
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    text, empty = tmp_path / "text", tmp_path / "empty"
    text.write_text("not a database, but long enough to look like one " * 40)
    empty.touch()
    for path, problem in ((text, "not a database"), (empty, "no such table")):
        for using in (lambda path: SqliteJournal(path, FixedClock()), lambda path: write_order(path, order("tsk_a"))):
            with pytest.raises(StoreFailed, match=problem) as caught:
                using(path)
            # The error holds the frames that it went through: what they had opened is closed all the same.
            assert str(path) not in open_files(), caught


def test_an_earlier_incarnation_is_refused(tmp_path: Path, opened: Opener) -> None:
    old = opened(tmp_path / "s.db", create=True)
    new = opened(tmp_path / "s.db")
    with pytest.raises(StaleIncarnation):
        old.append(change("tsk_a", 1))
    with pytest.raises(StaleIncarnation):
        old.append()
    new.append(change("tsk_a", 2))
    assert notes(opened(tmp_path / "s.db")) == [2]


def test_an_earlier_incarnation_answers_nothing_from_memory(tmp_path: Path, opened: Opener) -> None:
    """Its task may be fenced by now: it may not even say again what it once has granted."""

    async def main() -> None:
        clock, asked = VirtualClock(), [Reservation("eff_1#1", "tsk_a", {"tokens": 10}, {})]
        old = SupervisorBudgets(opened(tmp_path / "s.db", clock, create=True), clock, lambda task, why: None)
        await old.open("tsk_a", {"tokens": 50}, clock.now())
        assert [grant.error for grant in await old.reserve(asked)] == [None]
        assert [grant.error for grant in await old.reserve(asked)] == [None]
        opened(tmp_path / "s.db", clock).append(order("tsk_a").change())
        for question in (old.reserve(asked), old.limited("tsk_a"), old.used("tsk_a"), old.called_at("tsk_a", "eff_1#1")):
            with pytest.raises(StaleIncarnation):
                await question

    run(main())


def test_orders_come_in_from_outside(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "s.db"
    SqliteJournal(path, FixedClock(), create=True).close()
    written = write_order(path, order("tsk_a"))
    journal = opened(path)
    assert [order_in(row) for row in journal.rows() if row.kind == "order"] == [written]
    assert journal.foreign() == []
    assert write_order(path, order("tsk_a", by="bob")) == written
    assert journal.foreign() == []
    other = write_order(path, order("tsk_b"))
    journal.append(change("tsk_c", 1))
    assert [order_in(row) for row in journal.foreign()] == [other]
    assert journal.foreign() == []
    journal.append(order("tsk_b", by="cyd").change())
    found = journal.find("order", "tsk_b")
    assert found is not None
    assert order_in(found) == other


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_of_many_tasks_the_first_row_of_each_is_found(tmp_path: Path, opened: Opener, kind: str) -> None:
    journal = MemoryJournal(FixedClock()) if kind == "memory" else opened(tmp_path / "s.db", create=True)
    quoted = """tsk_'"\\ü"""
    journal.append(change("tsk_a", 1), change(quoted, 2), change("tsk_a", 3), order("tsk_b").change(), change("tsk_c", 4))
    found = journal.firsts("note", ["tsk_a", quoted, "tsk_b", "tsk_none"])
    assert {task: row.data["n"] for task, row in found.items()} == {"tsk_a": 1, quoted: 2}
    assert journal.firsts("note", []) == {}


def test_what_is_due_together_is_one_commit() -> None:
    async def main() -> tuple[int, list[int]]:
        commits = 0

        class Counting(MemoryJournal):
            def _write(self, changes: list[Change]) -> None:
                nonlocal commits
                commits += 1
                super()._write(changes)

        journal = Counting(VirtualClock())
        commits = 0
        await asyncio.gather(*(journal.durable(change("tsk_a", n)) for n in range(5)))
        return commits, [row.data["n"] for row in journal.store[1:]]

    assert run(main()) == (1, [0, 1, 2, 3, 4])


def test_an_order_does_not_overtake_what_waits() -> None:
    async def main() -> list[str]:
        journal = MemoryJournal(VirtualClock())
        waiting = asyncio.ensure_future(journal.durable(change("tsk_a", 1)))
        await asyncio.sleep(0)
        journal.append(order("tsk_a").change())
        await waiting
        return [row.kind for row in journal.store]

    assert run(main()) == ["started", "note", "order"]


def test_a_full_disk_ends_this_incarnation_and_the_next_one_begins_when_there_is_room(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "s.db"
    journal = opened(path, create=True)
    journal.append(change("tsk_a", 1))
    fill(journal)
    with pytest.raises(StorePaused, match=r"disk is full.*Nothing is lost"):
        for n in range(100):
            journal.append(Change("note", "tsk_b", {"n": n, "text": "x" * 20_000}))
    fill(journal, pages=1_000_000)
    with pytest.raises(StorePaused, match="disk is full"):  # memory is ahead of it
        journal.append(change("tsk_a", 2))
    journal.close()
    heir = opened(path)
    assert heir.incarnation == 2
    assert [row.data["n"] for row in heir.rows() if row.task == "tsk_a"] == [1]


def fill(journal: SqliteJournal, pages: int = 1) -> None:
    journal._db.execute(f"PRAGMA max_page_count = {pages}")


def test_somebody_who_writes_all_the_time_is_waited_for(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "s.db"
    opened(path, create=True).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite_journal, "BUSY_MILLISECONDS", 1)
            with pytest.raises(StorePaused, match="locked"):
                opened(path)
            kept = journals.write_order(path, order("tsk_a"), tmp_path)
            assert kept.path == str(tmp_path / SPOOL / kept.order.id)
            assert journals.write_order(path, order("tsk_a", by="bob"), tmp_path).path == kept.path
    journal = opened(path)
    assert [order_in(row) for row in journal.foreign()] == [kept.order]
    assert journal.foreign() == list((tmp_path / SPOOL).iterdir()) == []
    assert journals.write_order(path, order("tsk_a", by="bob"), tmp_path) == (kept.order, str(path))


def test_one_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_journal, "_SCHEMA", "PRAGMA max_page_count = 1; " + sqlite_journal._SCHEMA)
    with pytest.raises(StoreFailed, match="disk is full"):
        journals.prepare(tmp_path / "s.db", FixedClock())
    assert list(tmp_path.iterdir()) == []


class Broken(MemoryJournal):
    broken = False

    def _write(self, changes: list[Change]) -> None:
        if self.broken:
            raise StoreFailed(path="memory", problem="broken")
        super()._write(changes)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("value", [object(), "\udcff", 10**30])
def test_what_cannot_be_encoded_is_refused_alone(tmp_path: Path, opened: Opener, kind: str, value: object) -> None:
    async def main() -> None:
        journal = MemoryJournal(VirtualClock()) if kind == "memory" else opened(tmp_path / "s.db", VirtualClock(), create=True)
        waiting = asyncio.ensure_future(journal.durable(change("tsk_a", 1)))
        with pytest.raises(Refused, match="nothing was changed"):
            journal.append(Change("note", "tsk_a", {"n": value}))
        with pytest.raises(Refused):
            await journal.durable(Change("note", "tsk_a", {"n": value}))
        await waiting
        journal.append(change("tsk_a", 2))
        assert journal.find("note", "tsk_a") is not None

    run(main())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_after_a_failed_commit_nothing_is_acknowledged(tmp_path: Path, opened: Opener, kind: str) -> None:
    async def main() -> None:
        journal: Journal
        if kind == "memory":
            journal = broken = Broken(VirtualClock())
            broken.broken = True
        else:
            journal = opened(tmp_path / "s.db", VirtualClock(), create=True)
            with closing(sqlite3.connect(tmp_path / "s.db")) as other:
                other.execute("DROP TABLE journal")
        bad = Change("note", "tsk_a", {"n": 1})
        with pytest.raises(StoreFailed):
            await journal.durable(bad)
        with pytest.raises(StoreFailed):
            await journal.durable()
        with pytest.raises(StoreFailed):
            journal.append()

    run(main())
