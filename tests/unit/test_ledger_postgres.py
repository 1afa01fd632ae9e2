"""What only the ledger on PostgreSQL can show: a server that goes and comes back in the middle, its refusals, its triggers."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any

import psycopg
import pytest
from postgres_server import Server

from interlock.orchestrator.ledger import postgres, stores
from interlock.orchestrator.ledger.postgres_store import SCHEMA, LedgerDatabase
from interlock.orchestrator.ledger.stores import open_ledger, open_reader, prepare
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas import entries as e
from interlock.schemas.errors import InterlockError, LedgerInUse, NoLedger, StaleEpoch, StoreAway, StoreFailed
from interlock.schemas.places import Database

ACCEPTED = e.TaskAccepted("billing", "1.0.0", "invoice.request", "1.0.0", {"order": 7}, {"steps": 3}, "trusted", "ann")


class Ticking:
    def __init__(self) -> None:
        self._ticks = count(1_700_000_000_000_000)

    def now(self) -> int:
        return next(self._ticks)


def unexpected(failure: InterlockError) -> None:
    raise AssertionError(failure)


@pytest.fixture
def where(postgres_server: Server) -> Database:
    place = postgres_server.database()
    prepare(place)
    return place


def opened(where: Database, on_failure: Callable[[InterlockError], None] = unexpected) -> Writer:
    ledger = open_ledger(where, Ticking(), on_failure=on_failure)
    ledger.open_epoch()
    return ledger


def verified(where: Database) -> int:
    with closing(open_reader(where)) as reader:
        return reader.verify()


def sql(where: Database, statement: str) -> Any:
    with psycopg.connect(where.url, autocommit=True, options=f"-c search_path={SCHEMA}") as db:
        return db.execute(statement.encode())


def until(holds: Callable[[], bool]) -> None:
    """Wait for another thread, which announces nothing."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Losing:
    """A writing end that loses the connection at its first commit: before the transaction, or after it was committed."""

    def __init__(self, where: Database, committed: bool, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.tries = 0
        self._committed, self._meanwhile = committed, meanwhile

    def __call__(self, store: LedgerDatabase, db: Any, batch: Any) -> None:
        self.tries += 1
        if self.tries > 1:
            write(store, db, batch)
            return
        if self._committed:
            write(store, db, batch)
        self._meanwhile()
        raise psycopg.OperationalError("the line is cut")


write = LedgerDatabase._write


@pytest.mark.parametrize("committed", [False, True])
def test_a_lost_connection_costs_nothing_and_repeats_nothing(where: Database, committed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(where, committed)
    monkeypatch.setattr(LedgerDatabase, "_write", lambda *args: losing(*args))

    async def test() -> None:
        durable: list[str] = []
        ledger = opened(where)
        ledger.append("tsk_a", ACCEPTED, lambda: durable.append("accepted"))
        ledger.append("tsk_a", e.TaskEnded("success", ""), lambda: durable.append("ended"))
        await ledger.flush()
        ledger.append("tsk_b", ACCEPTED, lambda: durable.append("next"))
        await ledger.flush()
        assert durable == ["accepted", "ended", "next"]
        assert ledger.stalled is None
        await ledger.close()

    asyncio.run(test())
    assert losing.tries == (2 if committed else 3)
    assert verified(where) == 3


def test_who_was_succeeded_while_the_server_was_away_writes_nothing(where: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(where, False, lambda: sql(where, "UPDATE epoch SET epoch = epoch + 1"))
    monkeypatch.setattr(LedgerDatabase, "_write", lambda *args: losing(*args))

    async def test() -> None:
        ledger = opened(where, lambda failure: None)
        ledger.append("tsk_a", ACCEPTED)
        with pytest.raises(StaleEpoch, match="Epoch 1 has been followed by 2"):
            await ledger.flush()
        await ledger.close()

    asyncio.run(test())
    assert verified(where) == 0


def test_a_ledger_that_ends_elsewhere_is_written_no_more(where: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a failover to a server that has lost a confirmed entry."""
    stray = f"INSERT INTO {SCHEMA}.entries VALUES (1, 1, 1, '', 'epoch.started', '', '')"
    losing = Losing(where, False, lambda: sql(where, stray))
    monkeypatch.setattr(LedgerDatabase, "_write", lambda *args: losing(*args))

    async def test() -> None:
        ledger = opened(where, lambda failure: None)
        ledger.append("tsk_a", ACCEPTED)
        with pytest.raises(StoreFailed, match="ends in entry 1, which is neither"):
            await ledger.flush()
        await ledger.close()

    asyncio.run(test())


def test_a_server_that_crashes_in_the_middle_of_traffic_loses_nothing(where: Database, postgres_server: Server) -> None:
    async def test() -> None:
        ledger, acknowledged, troubles = opened(where), list[int](), set[bool]()
        restarting = asyncio.get_running_loop().run_in_executor(None, postgres_server.restart)
        number = 0
        while not restarting.done() or number < 200:
            number += 1
            ledger.append(f"tsk_{number}", ACCEPTED, lambda number=number: acknowledged.append(number))  # type: ignore[misc]
            troubles.add(ledger.stalled is not None)
            await asyncio.sleep(0.001)
        await restarting
        await ledger.flush()
        assert acknowledged == list(range(1, number + 1))
        assert ledger.reader.live_tasks() == [f"tsk_{one}" for one in acknowledged]
        assert troubles == {False, True}
        await ledger.close()
        assert verified(where) == number

    asyncio.run(test())


def test_a_writer_can_end_while_the_server_is_away(where: Database, postgres_server: Server) -> None:
    async def test() -> None:
        ledger = opened(where)
        postgres_server.stop()
        ledger.append("tsk_a", ACCEPTED)
        while ledger.stalled is None:  # noqa: ASYNC110 - the writer thread finds out in its own time
            await asyncio.sleep(0.01)
        ledger.abandon()
        await ledger.close()
        with pytest.raises(NoLedger, match="the server cannot be reached"):
            open_ledger(where, Ticking(), on_failure=unexpected)

    try:
        asyncio.run(test())
    finally:
        postgres_server.start_again()


def test_a_reader_says_that_the_server_is_away_until_it_is_back(
    where: Database, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "READ_SECONDS", 0.1)
    with closing(postgres.DatabaseReader(where)) as reader:
        postgres_server.stop()
        try:
            with pytest.raises(StoreAway, match="Nothing was accepted and nothing is lost"):
                reader.tasks()
            since, why = reader.trouble
            assert since > 0
            assert "connection" in why
            monkeypatch.setattr(postgres, "READ_SECONDS", 1000.0)
            with pytest.raises(StoreAway):  # at once: nobody waits for a server that is known to be away
                reader.tasks()
            assert reader.trouble == (since, why)
        finally:
            postgres_server.start_again()
        until(lambda: reader.trouble == (0.0, ""))
        assert reader.tasks() == []
        postgres_server.restart()
        assert reader.tasks() == []


def test_a_successor_cuts_off_a_writer_that_was_stopped_in_the_middle(where: Database) -> None:
    stuck = LedgerDatabase(where)
    stuck.take_epoch()
    assert stuck._db is not None
    stuck._db.execute("BEGIN")
    stuck._db.execute("SELECT epoch FROM epoch FOR UPDATE")
    heir = LedgerDatabase(where)
    assert heir.take_epoch().epoch == 2
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        stuck._db.execute("COMMIT")
    stuck.close()
    heir.close()


def test_entries_stay(where: Database) -> None:
    sql(where, "INSERT INTO entries VALUES (1, 1, 1, '', 'epoch.started', '', '')")
    for statement in ("DELETE FROM entries", "UPDATE entries SET at = 2", "TRUNCATE entries", "TRUNCATE entries CASCADE"):
        with pytest.raises(psycopg.errors.RaiseException, match="entries are never changed or deleted"):
            sql(where, f"SET session_replication_role = replica; {statement}")


def test_a_text_with_a_nul_is_kept_on_every_store(where: Database) -> None:
    async def test() -> None:
        ledger = opened(where)
        ledger.append("tsk_a", ACCEPTED)
        ledger.append("tsk_a", e.ItemAsked("itm_1", "question", "ann", "a\0b", 9, details={"c": "\0"}))
        ledger.append("tsk_a", e.TaskEnded("failed", "a\0b"))
        await ledger.close()

    asyncio.run(test())
    assert verified(where) == 3


def test_rows_from_before_there_were_keys_name_the_entries_that_say_what_they_said(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = postgres_server.database()
    with monkeypatch.context() as before:
        before.setattr("interlock.orchestrator.ledger.migrations.SCHEMA_VERSION", 2)
        prepare(where)
    said = ["{}", '{"item":"itm_b","note":"no \\u0000"}', '{"item":"itm_a","note":"yes"}', '{"item":"itm_a"}', "{}"]
    for seq, (kind, data) in enumerate(zip(["item.asked", *3 * ["item.decided"], "task.ended"], said, strict=True), 1):
        sql(where, f"INSERT INTO {SCHEMA}.entries VALUES ({seq}, 1, 1, 'tsk_a', '{kind}', convert_to('{data}', 'UTF8'), '')")
    sql(where, f"INSERT INTO {SCHEMA}.tasks VALUES ('tsk_a', 0, 'x', 'ended', 'failed', 'so', 1, 2)")
    sql(where, f"INSERT INTO {SCHEMA}.tasks VALUES ('tsk_b', 9, 'x', 'running', '', '', 1, NULL)")
    sql(where, f"INSERT INTO {SCHEMA}.inbox VALUES ('itm_a', 1, 'tsk_a', 'question', '', '', '', 0, '', 1, 1, 'approved', '', 'yes', 2)")
    prepare(where)
    assert sql(where, f"SELECT task, reason_seq FROM {SCHEMA}.tasks ORDER BY task").fetchall() == [("tsk_a", 5), ("tsk_b", 0)]
    assert sql(where, f"SELECT note_seq FROM {SCHEMA}.inbox").fetchall() == [(3,)]


def test_a_ledger_with_a_bus_on_it_is_not_started_twice(where: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_GONE_SECONDS", 0.2)
    first = LedgerDatabase(where)
    first.take_epoch()
    with pytest.raises(LedgerInUse, match="A bus works with the ledger at postgresql://interlock@/test_"):
        prepare(where)
    threading.Timer(0.05, first.close).start()
    prepare(where)


def test_what_cannot_be_worked_with_is_said_in_one_sentence(where: Database, postgres_server: Server) -> None:
    with pytest.raises(NoLedger, match=r"there is none in this database. `interlock up` creates one"):
        open_reader(postgres_server.database())
    with pytest.raises(NoLedger, match=r"cannot be reached \(.*does not exist\). Start it, or correct INTERLOCK_LEDGER"):
        prepare(Database(postgres_server.url("nowhere")))
    sql(where, "UPDATE alembic_version SET version_num = '0'")
    with pytest.raises(NoLedger, match=r"layout is version 0 .* Run `interlock up`"):
        open_reader(where)
    sql(where, "UPDATE alembic_version SET version_num = '99'")
    for refused in (open_reader, prepare):
        with pytest.raises(NoLedger, match=r"layout is version 99 .* Run the Interlock that wrote it, or a newer one"):
            refused(where)


@pytest.fixture
def careless(where: Database) -> Iterator[Database]:
    """On a server that does not wait for its disk."""
    for value in ("off", "on"):
        sql(where, f"ALTER SYSTEM SET fsync = {value}")
        sql(where, "SELECT pg_reload_conf()")
        if value == "off":
            yield where


def test_a_server_that_loses_what_it_confirmed_is_refused(careless: Database) -> None:
    for _ in range(100):  # the server reads its settings again in its own time
        try:
            open_reader(careless).close()
        except NoLedger as refused:
            assert "fsync=off" in str(refused)  # noqa: PT017 - until then it is not refused
            return
    raise AssertionError("a server with fsync=off was not refused")


def test_a_password_is_never_shown() -> None:
    secret = Database("postgresql://ann:pa%3Ass@db.example:5433/bus?sslmode=require&password=other&host=/run/x")
    assert str(secret) == "postgresql://ann@db.example:5433/bus?sslmode=require&host=/run/x"
    assert "pa%3Ass" not in repr(secret)
    assert str(Database("postgres:///bus")) == "postgres:///bus"
