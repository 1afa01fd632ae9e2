"""Every ledger that was kept of an earlier version is brought up to date, verified, folded and worked on by the code of today."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from keep_ledger import keep, load, on_bus
from postgres_server import Server

from interlock import backup
from interlock.orchestrator.ledger.folds import run_record
from interlock.orchestrator.ledger.postgres_store import SCHEMA
from interlock.orchestrator.ledger.reader import SCHEMA_VERSION, Reader
from interlock.orchestrator.ledger.stores import open_reader, prepare
from interlock.orchestrator.state import fold
from interlock.schemas.errors import Fenced
from interlock.schemas.places import LEDGER_FILE, Database, Place

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEPT = sorted(path for path in FIXTURES.iterdir() if path.is_dir() and path.name.startswith("ledger-"))


def holds(now: Any, then: Any, where: str = "") -> None:
    """All that was said then is said now; what a later version knows besides is its own."""
    if isinstance(then, dict) and isinstance(now, dict):
        assert then.keys() <= now.keys(), where
        for key, value in then.items():
            holds(now[key], value, f"{where}/{key}")
    elif isinstance(then, list) and isinstance(now, list):
        assert len(then) == len(now), where
        for number, pair in enumerate(zip(now, then, strict=True)):
            holds(*pair, f"{where}/{number}")
    else:
        assert now == then, where


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_it_says_what_it_said(kept: Path, tmp_path: Path) -> None:
    expected = load(kept, tmp_path)
    prepare(tmp_path / LEDGER_FILE)
    says(tmp_path / LEDGER_FILE, expected)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_it_says_so_in_a_database(kept: Path, tmp_path: Path, postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of today's layout is restored from a backup; another was always there, and is brought up to date."""
    expected, where = load(kept, tmp_path), postgres_server.database()
    with closing(sqlite3.connect(tmp_path / LEDGER_FILE)) as file:
        ((layout,),) = file.execute("PRAGMA user_version").fetchall()
        if layout == SCHEMA_VERSION:
            backup.save(tmp_path / LEDGER_FILE, tmp_path, tmp_path / "backup")
            (tmp_path / "home").mkdir()
            backup.load(tmp_path / "backup", where, tmp_path / "home")
        else:
            assert layout < 4, "its keys would lie under covers"
            with monkeypatch.context() as before:
                before.setattr("interlock.orchestrator.ledger.migrations.SCHEMA_VERSION", layout)
                prepare(where)
            copy_rows(file, where)
            prepare(where)
    says(where, expected)


def copy_rows(file: sqlite3.Connection, where: Database) -> None:
    with psycopg.connect(where.url, options=f"-c search_path={SCHEMA}") as db:
        db.execute("DELETE FROM epoch")
        for (table,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'").fetchall():
            rows = file.execute(f"SELECT * FROM {table}")
            names = ", ".join(f'"{column[0]}"' for column in rows.description)
            insert = f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(rows.description))})"
            db.cursor().executemany(insert.encode(), rows.fetchall())


def says(place: Place, expected: dict[str, Any]) -> None:
    with closing(open_reader(place)) as reader:
        assert reader.verify() == expected["entries"]
        holds([row._asdict() for row in reader.tasks()], expected["tasks"])
        holds([row._asdict() for row in reader.inbox(open_only=False)], expected["inbox"])
        holds([run_record(reader.entries(row.task)).model_dump(mode="json") for row in reader.tasks()], expected["records"])
        for row in reader.tasks():
            assert (fold(row.task, reader.entries(row.task)).outcome or "") == row.outcome


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_its_tasks_go_on(kept: Path, tmp_path: Path) -> None:
    load(kept, tmp_path)

    async def main() -> None:
        async with await on_bus(tmp_path) as bus:
            for item in await bus.inbox.list():
                await bus.inbox.approve(item["item"], "now", by="boss")
            listening = bus.task("tsk_listening")
            await listening.send_json("kept.more", {"text": "at last"})
            async with asyncio.timeout(60):
                results = [await bus.task(f"tsk_{name}").result() for name in ("open", "asked")]
                assert [result["text"] for result in results] == ["open is paid", "now"]
                assert (await listening.result())["text"] == "at last"
            # What was done, decided and ordered before there was this version still counts.
            again = await bus.submit_json("order", {"order": "paid", "how": "pay"}, id="again")
            while not (asked := await bus.inbox.list()):  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0.01)
            await bus.inbox.approve(asked[0]["item"], by="boss")
            await again.result()
            ends = [entry.open() for entry in await again.entries() if entry.kind == "effect.ended"]
            assert ends[0].same_as  # type: ignore[attr-defined]
            assert (await bus.task("tsk_killed").kill("again", by="bob"))["by"] == "ann"
            with pytest.raises(Fenced):
                await bus._backend._assembly.supervisor.budgets.open("tsk_killed", {}, 0)  # type: ignore[attr-defined]
            assert await bus.verify() > 60

    asyncio.run(main())


def test_one_of_today_can_be_kept(tmp_path: Path) -> None:
    keep(tmp_path / "kept")
    folder = tmp_path / "bus"
    folder.mkdir()
    expected = load(tmp_path / "kept", folder)
    with closing(Reader(folder / LEDGER_FILE)) as reader:
        assert reader.verify() == expected["entries"]
        assert {row.state for row in reader.tasks()} == {"running", "waiting", "ended"}
        outcomes = {row.outcome for row in reader.tasks()}
        assert outcomes == {"", "success", "failed", "rejected", "killed"}
