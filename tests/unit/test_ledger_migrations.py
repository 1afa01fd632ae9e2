"""The ledger's layout: one history of steps, run where a bus is started, refused everywhere else."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledger_places import Ticking, asked, ended, unexpected

from interlock.orchestrator.ledger.migrations import _SCRIPTS, migrate_file
from interlock.orchestrator.ledger.reader import SCHEMA_VERSION, Reader, check_layout
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.orchestrator.ledger.sqlite_file import make_file
from interlock.schemas import entries as e
from interlock.schemas.errors import NoLedger, StoreFailed

BEFORE_MIGRATIONS = Path(__file__).parent / "ledger_before_migrations.sql"


def layout(path: Path) -> set[str]:
    """Every statement of the layout, however it is spaced and quoted."""
    with closing(sqlite3.connect(path)) as db:
        return {
            " ".join(sql.replace('"', "").split())
            for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        }


def test_the_newest_step_is_the_version_of_the_code() -> None:
    assert _SCRIPTS.get_heads() == [str(SCHEMA_VERSION)]
    assert [step.revision for step in _SCRIPTS.walk_revisions()] == [str(number) for number in range(SCHEMA_VERSION, 0, -1)]


def test_a_file_from_before_migrations_is_taken_over_as_it_is(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as db:
        db.executescript(BEFORE_MIGRATIONS.read_text())
    before = layout(old)
    migrate_file(old)
    migrate_file(old)
    reader = Reader(old)
    assert (reader.verify(), [row.task for row in reader.tasks()]) == (2, ["tsk_a"])
    reader.close()
    changed = {statement for statement in before if statement.startswith(("CREATE TABLE tasks ", "CREATE TABLE inbox "))}
    assert before - layout(old) == changed, "what was said is no longer in rows"
    make_file(tmp_path / "new.db")
    with closing(sqlite3.connect(old)) as db, closing(sqlite3.connect(tmp_path / "new.db")) as fresh:
        for table in ("entries", "tasks", "inbox", "contracts", "apps", "epoch", "alembic_version"):
            columns = [one.execute(f"SELECT name, type, \"notnull\" FROM pragma_table_info('{table}')").fetchall() for one in (db, fresh)]
            assert [(name, kind) for name, kind, _ in columns[0]] == [(name, kind) for name, kind, _ in columns[1]]


def test_a_task_from_before_there_were_keys_goes_on_and_keeps_its_old_entries(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(BEFORE_MIGRATIONS.read_text())
    migrate_file(path)

    async def go_on() -> None:
        ledger = SqliteLedger.open(path, Ticking(), on_failure=unexpected)
        ledger.open_epoch()
        ledger.append("tsk_a", asked("itm_1"))
        ledger.append("tsk_a", ended("failed", "a reason"))
        ledger.append("tsk_a", e.TaskErased("ann", "asked to"))
        await ledger.close()

    asyncio.run(go_on())
    with closing(Reader(path)) as reader:
        assert reader.verify() == 5
        first, question, end, _ = (entry.open() for entry in reader.entries("tsk_a"))
        assert isinstance(first, e.TaskAccepted)
        assert isinstance(question, e.ItemAsked)
        assert isinstance(end, e.TaskEnded)
        assert (first.request, question.text, end.reason) == ({"order": 7}, e.ERASED, e.ERASED)


def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "half.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE inbox (other TEXT)")
    before = layout(path)
    with pytest.raises(StoreFailed, match="inbox already exists"):
        migrate_file(path)
    assert layout(path) == before


def test_another_file_is_not_made_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("not a database, but long enough to look like one " * 40)
    with pytest.raises(StoreFailed, match="not a database") as caught:
        migrate_file(path)
    # The error holds the frames that it went through: what they had opened is closed all the same.
    assert str(path) not in {os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()}, caught


@pytest.mark.parametrize(("version", "remedy"), [(SCHEMA_VERSION + 1, "or a newer one"), (SCHEMA_VERSION - 1, "Run `interlock up`")])
def test_another_layout_is_refused_with_the_way_out(version: int, remedy: str) -> None:
    with pytest.raises(NoLedger, match=f"its layout is version {version} .* {remedy}"):
        check_layout(version, "ledger.db")


def test_entries_stay(tmp_path: Path) -> None:
    make_file(tmp_path / "ledger.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute("INSERT INTO entries VALUES (1, 1, 1, '', 'epoch.started', x'00', x'00')")
        again = "INTO entries VALUES (1, 1, 1, 'tsk_a', 'epoch.started', x'00', x'00')"
        for statement in ("DELETE FROM entries", "UPDATE entries SET at = 2", f"INSERT OR REPLACE {again}", f"REPLACE {again}"):
            with pytest.raises(sqlite3.IntegrityError, match=r"entries (never change|are never deleted)"):
                db.execute(statement)
        assert db.execute("SELECT task FROM entries").fetchall() == [("",)]


def test_pieces_of_content_stay_as_they_are(tmp_path: Path) -> None:
    make_file(tmp_path / "ledger.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute("INSERT INTO contents VALUES ('tsk_a', x'00', x'01')")
        for again in (
            "INSERT OR REPLACE INTO contents VALUES ('tsk_a', x'00', x'02')",
            "REPLACE INTO contents VALUES ('tsk_a', x'00', x'02')",
        ):
            db.execute(again)
            assert db.execute("SELECT * FROM contents").fetchall() == [("tsk_a", b"\0", b"\1")]


def test_a_page_of_what_waits_is_found_without_looking_at_all_of_it(tmp_path: Path) -> None:
    make_file(tmp_path / "ledger.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        asked_for: list[str] = []
        reader = Reader(tmp_path / "ledger.db")
        reader._db.set_trace_callback(asked_for.append)
        reader.inbox(limit=20, kind="dead", after=7)
        reader.inbox_count(after=7)
        reader.close()
        plans = [db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in asked_for]
    assert [[step[-1] for step in plan] for plan in plans] == [["SEARCH inbox USING INDEX inbox_waiting (seq>?)"]] * 2
