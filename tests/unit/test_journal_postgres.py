"""The supervisor's journal on PostgreSQL: durable, one owner, orders from outside, a server that goes and comes back."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kill_stage import TASK, Host, Life, Stage, how
from postgres_server import Server

from interlock.actors.supervisor import postgres_journal, spool
from interlock.actors.supervisor.journal import Change, Journal, Order, order_in
from interlock.actors.supervisor.journals import open_journal, prepare, write_order
from interlock.actors.supervisor.postgres_journal import PostgresJournal
from interlock.schemas.errors import StaleIncarnation, StorePaused
from interlock.schemas.places import Database
from interlock.testing.virtual_time import run


class FixedClock:
    def now(self) -> int:
        return 42


@pytest.fixture
def where(postgres_server: Server) -> Database:
    place = postgres_server.database()
    prepare(place, FixedClock())
    return place


@pytest.fixture
def journal_of(where: Database, tmp_path: Path) -> Callable[[], Journal]:
    return lambda: open_journal(where, FixedClock(), tmp_path)


def change(task: str, n: int) -> Change:
    return Change("note", task, {"n": n, "usd": Decimal("0.1")})


def order(task: str, by: str = "ann") -> Order:
    return Order(task, "kill", by, "enough", 7)


def notes(journal: Journal) -> list[int]:
    return [row.data["n"] for row in journal.rows() if row.kind == "note"]


def test_what_was_committed_is_found_again(journal_of: Callable[[], Journal], where: Database) -> None:
    first = journal_of()
    first.append(change("tsk_a", 1), change("tsk_b", 2), change("tsk_b", 3))
    first.append(order("tsk_a").change(), order("tsk_a", "bob").change())
    prepare(where, FixedClock())
    first.append()
    second = journal_of()
    with pytest.raises(StaleIncarnation):
        first.append()
    assert notes(second) == [1, 2, 3]
    assert (first.incarnation, second.incarnation) == (1, 2)
    found = second.find("note", "tsk_b")
    assert found is not None
    assert (found.at, found.data) == (42, {"n": 2, "usd": "0.1"})
    assert [order_in(row).by for row in second.rows() if row.kind == "order"] == ["ann"]
    with pytest.raises(StaleIncarnation):
        first.append(change("tsk_a", 4))
    second.forget(["note"], ["tsk_b"])
    first.close()
    second.close()
    third = journal_of()
    assert notes(third) == [1]
    third.close()


def test_orders_come_in_from_outside(journal_of: Callable[[], Journal], where: Database, tmp_path: Path) -> None:
    written = write_order(where, order("tsk_a"), tmp_path)
    journal = journal_of()
    assert [order_in(row) for row in journal.foreign()] == [written.order]
    assert journal.foreign() == []
    assert write_order(where, order("tsk_a", by="bob"), tmp_path).order == written.order
    assert [order_in(row) for row in journal.foreign()] == [written.order]
    other = write_order(where, order("tsk_b"), tmp_path)
    assert write_order(where, order("tsk_b", by="bob"), tmp_path).order == other.order
    assert [order_in(row) for row in journal.foreign()] == [other.order]
    journal.append(order("tsk_b", by="cyd").change())
    found = journal.find("order", "tsk_b")
    assert found is not None
    assert order_in(found) == other.order
    journal.close()


def test_an_order_is_kept_while_the_database_is_away(
    journal_of: Callable[[], Journal], where: Database, tmp_path: Path, postgres_server: Server
) -> None:
    journal_of().close()
    postgres_server.stop()
    try:
        written = write_order(where, order("tsk_a"), tmp_path)
    finally:
        postgres_server.start_again()
    assert [str(file) for file in (tmp_path / spool.SPOOL).iterdir()] == [written.path]
    journal = journal_of()
    assert [order_in(row) for row in journal.foreign()] == [written.order]
    assert list((tmp_path / spool.SPOOL).iterdir()) == []
    assert journal.foreign() == []
    journal.close()


def test_an_order_from_outside_is_obeyed(where: Database, tmp_path: Path) -> None:
    stage = Stage(a=Host("hangs"))

    async def main() -> None:
        write_order(where, Order(TASK, "kill", "ann", "nobody lives", stage.clock.now()), tmp_path)
        journal = open_journal(where, stage.clock, tmp_path)
        async with Life(stage, journal) as supervisor:
            await asyncio.sleep(0.3)
            assert how(await supervisor.ladder.receipt(TASK)) == {"a": "killed"}
        journal.close()

    run(main())


def test_a_supervisor_that_was_stopped_in_the_middle_holds_nobody_up(journal_of: Callable[[], Journal], where: Database) -> None:
    stuck = journal_of()
    assert isinstance(stuck, PostgresJournal)
    stuck._db.execute("BEGIN")
    stuck._db.execute("UPDATE owner SET written = written + 1")
    write_order(where, order("tsk_a"), Path("/nowhere"))
    heir = journal_of()
    assert heir.incarnation == 2
    heir.close()
    stuck.close()


def test_a_server_that_crashes_between_two_changes_is_waited_for(journal_of: Callable[[], Journal], postgres_server: Server) -> None:
    journal = journal_of()
    journal.append(change("tsk_a", 1))
    postgres_server.restart()
    journal.append(change("tsk_a", 2))
    postgres_server.restart()
    assert journal.find("note", "tsk_a") is not None
    journal.close()
    again = journal_of()
    assert notes(again) == [1, 2]
    again.close()


def test_a_server_that_stays_away_ends_this_incarnation(
    journal_of: Callable[[], Journal], postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_journal, "AWAY_SECONDS", 0.2)
    journal = journal_of()
    postgres_server.stop()
    try:
        with pytest.raises(StorePaused):
            journal.append(change("tsk_a", 1))
        with pytest.raises(StorePaused):
            journal.append(change("tsk_a", 2))
        with pytest.raises(StorePaused):
            journal_of()
    finally:
        postgres_server.start_again()
    journal.close()
    again = journal_of()
    assert notes(again) == []
    again.close()


@pytest.mark.parametrize("losses", [["before"], ["after"], ["after", "after"], ["before", "after"], ["after", "before", "after"]])
def test_a_lost_answer_makes_no_change_twice_and_loses_none(
    journal_of: Callable[[], Journal], losses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost before or after the commit, also of the transaction that finds out."""
    journal = journal_of()
    assert isinstance(journal, PostgresJournal)
    journal.append(change("tsk_a", 1))
    transaction, left = psycopg.Connection.transaction, list(losses)

    class Cut:
        def __init__(self, db: Any) -> None:
            self._db, self._when = db, left.pop(0) if left else ""

        def __enter__(self) -> None:
            if self._when == "before":
                raise psycopg.OperationalError("the line is cut")
            self._real = transaction(self._db)
            self._real.__enter__()

        def __exit__(self, *failure: Any) -> Any:
            done = self._real.__exit__(*failure)
            if self._when == "after":
                self._db.close()
                raise psycopg.OperationalError("the line is cut")
            return done

    monkeypatch.setattr(psycopg.Connection, "transaction", lambda db: Cut(db))
    for n in range(2, 5):
        journal.append(change("tsk_a", n))
    journal.close()
    monkeypatch.undo()
    again = journal_of()
    assert notes(again) == [1, 2, 3, 4]
    again.close()
