"""What was erased is gone from the tables' files of a PostgreSQL: the cover is under which the key lay, and it lies nowhere without one.

A backup under way delays that and nobody else; a crash delays it until the ledger is opened.
"""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledger_places import Ticking, accepted, cleaned, unexpected
from postgres_server import Server
from test_ledger_content import SECRET, TASK, story

from interlock.orchestrator.ledger.cipher import NO_SECRET, KeyRow
from interlock.orchestrator.ledger.covers import COVERS, cover_of, covered
from interlock.orchestrator.ledger.postgres import DatabaseReader, PostgresLedger
from interlock.orchestrator.ledger.postgres_store import SCHEMA, LedgerDatabase
from interlock.orchestrator.ledger.sealer import Sealed
from interlock.orchestrator.ledger.stores import prepare
from interlock.schemas import entries as e
from interlock.schemas.errors import LedgerDamaged, StorePaused
from interlock.schemas.places import Database

WAITS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'interlock room' AND wait_event = 'relation'"


@pytest.fixture
def where(postgres_server: Server) -> Database:
    made = postgres_server.database()
    prepare(made)
    return made


def opened(where: Database) -> PostgresLedger:
    ledger = PostgresLedger(where, Ticking(), on_failure=unexpected)
    ledger.open_epoch()
    return ledger


def in_tables(where: Database, *words: bytes, sampled: bool = True) -> list[bytes]:
    """Which of these words are in the files of the database's tables, also of the catalog, to which ANALYZE copies what it sees."""
    with psycopg.connect(where.url, autocommit=True) as db:
        if sampled:
            db.execute("SET default_statistics_target = 10000")  # all that is there
            for table in ("keys", "covers", "contents"):
                db.execute(f"ANALYZE {SCHEMA}.{table}".encode())
        db.execute("CHECKPOINT")
        ((folder,),) = db.execute("SHOW data_directory").fetchall()
        ((number,),) = db.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchall()
    files = [file.read_bytes() for file in (Path(folder) / "base" / str(number)).iterdir()]
    return [word for word in words if any(word in file for file in files)]


def sql(where: Database, statement: str, *values: Any) -> list[Any]:
    with psycopg.connect(where.url, autocommit=True, options=f"-c search_path={SCHEMA}") as db:
        found = db.execute(statement.encode(), values)
        return found.fetchall() if found.description else []


def key_of(where: Database, task: str) -> tuple[bytes, bytes]:
    """A task's secret, and the cover that it lies under."""
    with closing(DatabaseReader(where)) as reader:
        (key,) = reader.keys("task = ?", task)
    ((cover,),) = sql(where, "SELECT mask FROM covers WHERE cover = %s", cover_of(task))
    return key.secret, bytes(cover)


def verified(where: Database) -> int:
    """How many entries there are. All that was not erased opens."""
    with closing(DatabaseReader(where)) as reader:
        return reader.verify()


async def told(ledger: PostgresLedger, *tasks: str) -> None:
    for task in tasks:
        for owner, fact in story(task):
            ledger.append(owner, fact)
    await ledger.flush()


async def erased(ledger: PostgresLedger, task: str) -> None:
    ledger.append(task, e.TaskErased("ann", "asked to"))
    await ledger.flush()


def test_an_erased_key_is_in_no_table_s_file_any_more(where: Database) -> None:
    async def main() -> None:
        ledger = opened(where)
        await cleaned(ledger)
        await told(ledger, "tsk_0", "tsk_1", TASK, "tsk_3", "tsk_4")
        (key, cover), words = key_of(where, TASK), f"{TASK}_2".encode()
        assert in_tables(where, key, cover, words) == [cover, words], "a key is stored under its cover alone"
        await erased(ledger, TASK)
        await cleaned(ledger)
        assert in_tables(where, key, cover) == []
        await ledger.close()
        assert key_of(where, TASK)[0] == NO_SECRET
        with closing(DatabaseReader(where)) as reader:
            assert SECRET not in repr([entry.open() for entry in reader.entries(TASK)])
        assert verified(where) == 61

    asyncio.run(main())


def test_to_erase_a_task_the_keys_of_all_others_are_not_written_anew(where: Database) -> None:
    """There may be millions, and everybody would wait."""
    file_of = "SELECT pg_relation_filenode('keys'), pg_relation_filenode('covers')"

    async def main() -> None:
        ledger = opened(where)
        await told(ledger, TASK)
        await cleaned(ledger)
        ((keys, covers),) = sql(where, file_of)
        await erased(ledger, TASK)
        await cleaned(ledger)
        ((keys_now, covers_now),) = sql(where, file_of)
        assert keys_now == keys
        assert covers_now != covers
        await ledger.close()

    asyncio.run(main())
    assert sql(where, "SELECT count(*) FROM covers") == [(COVERS,)]


@pytest.mark.parametrize("lost", ["never", "before", "after"])
def test_who_lies_under_the_cover_of_an_erased_task_is_read_and_goes_on(
    where: Database, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the connection is lost in the middle."""
    monkeypatch.setattr("interlock.orchestrator.ledger.covers.COVERS", 2)
    write, lose = LedgerDatabase._write, [lost]

    def cut(store: LedgerDatabase, db: Any, batch: Sealed) -> None:
        now = lose.pop() if batch.erased and lose else "never"
        if now != "before":
            write(store, db, batch)
        if now != "never":
            raise psycopg.OperationalError("the line is cut")

    monkeypatch.setattr(LedgerDatabase, "_write", cut)
    tasks = [f"tsk_{number}" for number in range(6)]

    async def main() -> None:
        ledger = opened(where)
        await told(ledger, *tasks, TASK)
        for owner, fact in (*story("tsk_new"), (TASK, e.TaskErased("ann", "asked to")), *story("tsk_newer")):
            ledger.append(owner, fact)
        await ledger.flush()
        assert not lose
        await erased(ledger, "tsk_3")
        await told(ledger, "tsk_newest")
        await ledger.close()
        heir = opened(where)
        for task in (*tasks, TASK, "tsk_new", "tsk_newest"):
            heir.append(task, accepted())
        await heir.close()

    asyncio.run(main())
    assert verified(where) == 10 * 12 + 2 + 9
    with closing(DatabaseReader(where)) as reader:
        gone = [
            task for task in (*tasks, TASK, "tsk_new", "tsk_newest") if SECRET not in repr([one.open() for one in reader.entries(task)])
        ]
    assert gone == ["tsk_3", TASK]


def test_what_a_crash_after_an_erasure_left_goes_when_the_ledger_is_opened(where: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        dead = opened(where)
        await told(dead, TASK)
        await cleaned(dead)
        key, cover = key_of(where, TASK)
        monkeypatch.setattr(LedgerDatabase, "clean", lambda self: None)
        await erased(dead, TASK)
        dead.abandon()
        dead.reader.close()
        assert in_tables(where, key, cover) == [cover]
        monkeypatch.undo()
        heir = opened(where)
        await cleaned(heir)
        assert in_tables(where, key, cover) == []
        await heir.close()

    asyncio.run(main())


@pytest.mark.parametrize("read", ["keys", "entries"])
def test_a_backup_under_way_delays_the_cleaning_and_nobody_else(where: Database, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has not come to the keys yet: it still sees the old ones."""
    monkeypatch.setattr("interlock.orchestrator.ledger.threaded._CLEAN_SECONDS", 0.01)

    async def main() -> None:
        ledger = opened(where)
        await told(ledger, TASK)
        await cleaned(ledger)
        key, cover = key_of(where, TASK)
        with closing(DatabaseReader(where)) as reader, closing(reader.moment()) as backup:
            backup.all(f"SELECT * FROM {read}")
            await erased(ledger, TASK)
            ledger.append("tsk_b", accepted())
            await ledger.flush()
            await asyncio.sleep(0.1)  # it has tried meanwhile
            assert ledger.traces
            assert ledger.stalled is None
            assert SECRET in repr([entry.open() for entry in backup.entries(TASK)])
        await cleaned(ledger)
        assert in_tables(where, key, cover) == []
        await ledger.close()

    asyncio.run(main())


def test_a_transaction_of_somebody_else_delays_no_cleaning(where: Database) -> None:
    async def main() -> None:
        ledger = opened(where)
        await told(ledger, TASK)
        _, cover = key_of(where, TASK)
        with psycopg.connect(where.url) as other:
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM interlock_ledger.entries")
            await erased(ledger, TASK)
            await cleaned(ledger)
            assert in_tables(where, cover) == []
        await ledger.close()

    asyncio.run(main())


def test_the_room_of_what_was_pruned_is_free_again(where: Database) -> None:
    """At the end of a table's file it leaves the file; elsewhere the next rows overwrite it."""

    async def main() -> None:
        ledger = opened(where)
        await told(ledger, TASK)
        ((piece,),) = sql(where, "SELECT data FROM contents ORDER BY length(data) DESC LIMIT 1")
        assert in_tables(where, bytes(piece)) == [piece]
        ledger.append(TASK, e.ContentPruned("ann", 184))
        await ledger.flush()
        async with asyncio.timeout(20):
            while sql(where, "SELECT pg_relation_size('contents')") != [(0,)]:
                assert ledger.free_room()
                await asyncio.sleep(0.01)
        assert in_tables(where, bytes(piece)) == []
        await ledger.close()
        assert not ledger.room.busy

    asyncio.run(main())
    assert verified(where) == 13


@pytest.mark.parametrize("away", [False, True])
def test_nobody_waits_for_the_room(where: Database, away: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A table that somebody has locked would keep it waiting for ever, and a server may go."""

    async def main() -> None:
        ledger = opened(where)
        with psycopg.connect(where.url) as other:
            other.execute("LOCK TABLE interlock_ledger.contents")
            ledger.free_room()
            ledger.free_room()
            async with asyncio.timeout(20):
                while not sql(where, WAITS):  # noqa: ASYNC110 - a server announces nothing
                    await asyncio.sleep(0.01)
                if away:
                    sql(where, f"SELECT pg_terminate_backend(pid) FROM ({WAITS}) AS found")
                    while ledger.room.busy:  # noqa: ASYNC110 - nor does its thread
                        await asyncio.sleep(0.01)
            await ledger.close()
        assert not ledger.room.busy
        ledger.free_room()
        assert not ledger.room.busy

    asyncio.run(main())
    assert ("the server frees it later" in caplog.text) == away


def test_a_server_that_is_slow_to_cancel_keeps_no_ledger_open(where: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, tries = psycopg.Connection.cancel_safe, []

    def slow(db: psycopg.Connection[Any], *, timeout: float = 30.0) -> None:
        tries.append(timeout)
        if len(tries) == 1:
            raise psycopg.errors.CancellationTimeout("timeout expired")
        cancel(db, timeout=timeout)

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", slow)

    async def main() -> None:
        ledger = opened(where)
        with psycopg.connect(where.url) as other:
            other.execute("LOCK TABLE interlock_ledger.contents")
            ledger.free_room()
            async with asyncio.timeout(20):
                while not sql(where, WAITS):  # noqa: ASYNC110 - a server announces nothing
                    await asyncio.sleep(0.01)
            await ledger.close()
        assert len(tries) > 1
        assert not ledger.room.busy
        assert not ledger._thread.is_alive(), "its writer has ended"

    asyncio.run(main())


def test_keys_from_before_there_were_covers_are_put_under_them(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    where = postgres_server.database()
    with monkeypatch.context() as before:
        before.setattr("interlock.orchestrator.ledger.migrations.SCHEMA_VERSION", 3)
        prepare(where)
    secrets = [KeyRow(f"tsk_{number:04}", number.to_bytes(2) * 32) for number in range(1500)]
    sql(
        where,
        "INSERT INTO keys SELECT * FROM unnest(%b::text[], %b::bytea[])",
        [key.task for key in secrets],
        [key.secret for key in secrets],
    )
    bare = secrets[700].secret
    assert in_tables(where, bare, sampled=False) == [bare]
    prepare(where)
    assert in_tables(where, bare) == []
    with closing(DatabaseReader(where)) as reader:
        assert reader.keys("true ORDER BY task") == secrets
        assert secrets[0].secret == NO_SECRET


def test_what_a_server_has_sampled_of_old_covers_says_nothing(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    where = postgres_server.database()
    with monkeypatch.context() as before:
        before.setattr("interlock.orchestrator.ledger.migrations.SCHEMA_VERSION", 5)
        prepare(where)
    covers = {cover: bytes(mask) for cover, mask in sql(where, "SELECT * FROM covers")}
    secrets = [KeyRow("tsk_a", b"a" * 64), KeyRow("tsk_b", NO_SECRET), KeyRow("tsk_c", b"c" * 64)]
    for row in covered(secrets, covers):
        sql(where, "INSERT INTO keys VALUES (%s, %b, %s)", *row)
    old = [row.secret for row in covered(secrets[::2], covers)]
    sql(where, "ANALYZE covers")
    prepare(where)
    assert sql(where, "SELECT cover FROM covers WHERE mask = ANY(%b::bytea[])", list(covers.values())) == []
    assert in_tables(where, *old) == []
    with closing(DatabaseReader(where)) as reader:
        assert reader.keys("true ORDER BY task") == secrets


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE covers SET mask = ''",
        "DELETE FROM covers",
        "UPDATE keys SET cover = mod(cover + 1, 4096)",
        "UPDATE keys SET secret = secret || 'x'::bytea",
        "UPDATE keys SET secret = decode(repeat('00', 64), 'hex')",
    ],
)
def test_keys_and_covers_are_proved_by_the_fold(where: Database, tamper: str) -> None:
    async def main() -> None:
        ledger = opened(where)
        await told(ledger, TASK)
        await ledger.close()

    asyncio.run(main())
    sql(where, tamper)
    with closing(DatabaseReader(where)) as reader:
        assert reader.verify(refold=False) == 12, "the chain is of what is stored"
        with pytest.raises(LedgerDamaged, match="its content") as caught:
            reader.verify()
    assert caught.value.seq == 1


def test_what_a_lost_connection_has_not_done_is_done_on_another(where: Database) -> None:
    store = LedgerDatabase(where)
    store.take_epoch()
    sql(where, "INSERT INTO keys VALUES ('tsk_a', %b, 0)", NO_SECRET)

    def lose() -> None:
        sql(where, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'interlock ledger%%'")

    lose()
    with pytest.raises(StorePaused):
        store.secrets(["tsk_a"])
    assert store.secrets(["tsk_a", "tsk_b"]) == [KeyRow("tsk_a", NO_SECRET)]
    lose()
    with pytest.raises(StorePaused):
        store.clean()
    assert store.traces
    store.clean()
    assert not store.traces
    store.close()
