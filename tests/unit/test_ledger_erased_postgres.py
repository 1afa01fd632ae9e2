"""What was erased is gone from the tables' files of a PostgreSQL; a backup under way delays that and nobody else."""

import asyncio
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from ledger_places import Ticking, accepted, cleaned, unexpected
from postgres_server import Server
from test_ledger_content import SECRET, TASK, story

from interlock.orchestrator.ledger.cipher import KeyRow
from interlock.orchestrator.ledger.postgres import DatabaseReader, PostgresLedger
from interlock.orchestrator.ledger.postgres_store import LedgerDatabase
from interlock.orchestrator.ledger.stores import prepare
from interlock.schemas import entries as e
from interlock.schemas.errors import StorePaused
from interlock.schemas.places import Database


@pytest.fixture
def where(postgres_server: Server) -> Database:
    made = postgres_server.database()
    prepare(made)
    return made


def opened(where: Database) -> PostgresLedger:
    ledger = PostgresLedger(where, Ticking(), on_failure=unexpected)
    ledger.open_epoch()
    return ledger


def in_tables(where: Database, *words: bytes) -> list[bytes]:
    """Which of these words are in the files of the database's tables."""
    with psycopg.connect(where.url, autocommit=True) as db:
        db.execute("CHECKPOINT")
        ((folder,),) = db.execute("SHOW data_directory").fetchall()
        ((number,),) = db.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchall()
    files = [file.read_bytes() for file in (Path(folder) / "base" / str(number)).iterdir()]
    return [word for word in words if any(word in file for file in files)]


def secret_of(where: Database, task: str) -> bytes:
    with closing(DatabaseReader(where)) as reader:
        ((secret,),) = reader.all("SELECT secret FROM keys WHERE task = ?", task)
    return bytes(secret)


def test_an_erased_key_is_in_no_table_s_file_any_more(where: Database) -> None:
    async def main() -> None:
        ledger = opened(where)
        for number in range(5):
            for task, fact in story(TASK if number == 2 else f"tsk_{number}"):
                ledger.append(task, fact)
            await ledger.flush()
        key, words = secret_of(where, TASK), f"{TASK}_2".encode()
        assert in_tables(where, key, words) == [key, words]
        ledger.append(TASK, e.TaskErased("ann", "asked to"))
        await ledger.flush()
        await cleaned(ledger)
        assert in_tables(where, key) == []
        await ledger.close()
        with closing(DatabaseReader(where)) as reader:
            assert SECRET not in repr([entry.open() for entry in reader.entries(TASK)])
            assert reader.verify() == 61

    asyncio.run(main())


@pytest.mark.parametrize("read", ["keys", "entries"])
def test_a_backup_under_way_delays_the_cleaning_and_nobody_else(where: Database, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has not come to the keys yet: it would still see the old ones."""
    monkeypatch.setattr("interlock.orchestrator.ledger.threaded._CLEAN_SECONDS", 0.01)

    async def main() -> None:
        ledger = opened(where)
        for task, fact in story(TASK):
            ledger.append(task, fact)
        await ledger.flush()
        key = secret_of(where, TASK)
        with closing(DatabaseReader(where)) as reader, closing(reader.moment()) as backup:
            backup.all(f"SELECT * FROM {read}")
            ledger.append(TASK, e.TaskErased("ann", "asked to"))
            await ledger.flush()
            ledger.append("tsk_b", accepted())
            await ledger.flush()
            await asyncio.sleep(0.1)  # it has tried meanwhile
            assert ledger.traces
            assert ledger.stalled is None
        await cleaned(ledger)
        assert in_tables(where, key) == []
        await ledger.close()

    asyncio.run(main())


def test_what_a_lost_connection_has_not_done_is_done_on_another(where: Database) -> None:
    store = LedgerDatabase(where)
    store.take_epoch()
    with closing(psycopg.connect(where.url, autocommit=True)) as db:
        db.execute("INSERT INTO interlock_ledger.keys VALUES ('tsk_a', %b)", (bytes(64),))

        def lose() -> None:
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'interlock ledger%'")

        lose()
        with pytest.raises(StorePaused):
            store.secrets(["tsk_a"])
        assert store.secrets(["tsk_a", "tsk_b"]) == [KeyRow("tsk_a", bytes(64))]
        lose()
        store.traces = True
        with pytest.raises(StorePaused):
            store.clean()
        assert store.traces
        store.clean()
        assert not store.traces
    store.close()
