"""A backup of one ledger restores into any other, verified, with the journal; never over anything."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from postgres_server import Server

from interlock.actors.supervisor import journals
from interlock.actors.supervisor.journal import Change, Order
from interlock.actors.supervisor.spool import SPOOL, put
from interlock.backup import load, save
from interlock.cli import main
from interlock.clock import SystemClock
from interlock.orchestrator.ledger.stores import open_ledger, open_reader, prepare
from interlock.schemas import entries as e
from interlock.schemas.errors import LedgerDamaged, LedgerExists, LedgerInUse, NoLedger, StoreFailed
from interlock.schemas.places import JOURNAL_FILE, LEDGER_FILE, Database, Place

ACCEPTED = e.TaskAccepted("billing", "1.0.0", "invoice.request", "1.0.0", {"order": 7}, {"steps": 3}, "trusted", "ann")
KINDS = ["sqlite", "postgres"]

Made = Callable[[str, str], tuple[Place, Path]]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """Where a ledger may be: its place and its bus's folder."""

    def made(kind: str, name: str) -> tuple[Place, Path]:
        home = tmp_path / name
        home.mkdir()
        if kind == "sqlite":
            return home / LEDGER_FILE, home
        server: Server = request.getfixturevalue("postgres_server")
        return server.database(), home

    return made


def journal_of(place: Place, home: Path) -> Place:
    return place if isinstance(place, Database) else home / JOURNAL_FILE


def fill(place: Place, home: Path, tasks: int = 1200) -> None:
    async def write() -> None:
        ledger = open_ledger(place, SystemClock(), on_failure=lambda failure: None)
        ledger.open_epoch()
        for number in range(tasks):
            ledger.append(f"tsk_{number}", ACCEPTED)
        ledger.append("tsk_0", e.ItemAsked("itm_1", "question", "ann", "ok?", 9, details={"a": [1]}))
        ledger.append("tsk_1", e.TaskEnded("success", ""))
        ledger.append("", e.AppDeployed("billing", "1", {}, "ann"))
        await ledger.close()

    prepare(place)
    asyncio.run(write())
    journals.prepare(journal_of(place, home), SystemClock())
    journal = journals.open_journal(journal_of(place, home), SystemClock(), home)
    journal.append(Change("note", "tsk_0", {"n": 1}), Order("tsk_2", "kill", "ann", "enough", 7).change())
    journal.close()


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_a_backup_of_one_restores_into_the_other(place: Made, source: str, target: str, tmp_path: Path) -> None:
    old, old_home = place(source, "old")
    fill(old, old_home)
    file = tmp_path / "backup"
    saved = save(old, old_home, file)
    assert saved["entries"] == 1203
    assert sorted(one.name for one in tmp_path.iterdir()) == ["backup", "old"]
    with pytest.raises(LedgerExists):
        save(old, old_home, file)
    new, new_home = place(target, "new")
    loaded = load(file, new, new_home)
    assert (loaded["entries"], loaded["head"], loaded["journal"]) == (1203, saved["head"], saved["journal"])
    with closing(open_reader(old)) as one, closing(open_reader(new)) as other:
        assert list(one.walk()) == list(other.walk())
        assert sorted(one.rows(), key=repr) == sorted(other.rows(), key=repr)
    with pytest.raises(LedgerExists):
        load(file, new, new_home)

    async def go_on() -> None:
        ledger = open_ledger(new, SystemClock(), on_failure=lambda failure: None)
        assert ledger.open_epoch() == 2
        ledger.append("tsk_0", e.TaskEnded("success", ""))
        await ledger.close()

    asyncio.run(go_on())
    with closing(open_reader(new)) as reader:
        assert reader.verify() == 1204
    journal = journals.open_journal(journal_of(new, new_home), SystemClock(), new_home)
    order, note = journal.find("order", "tsk_2"), journal.find("note", "tsk_0")
    assert order is not None
    assert note is not None
    assert (order.data["by"], note.data) == ("ann", {"n": 1})
    assert journal.incarnation > 1
    journal.append(Change("note", "tsk_0", {"n": 2}))
    journal.close()


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_a_kill_that_waits_in_a_file_is_in_the_backup(place: Made, source: str, target: str, tmp_path: Path) -> None:
    """It was confirmed while the journal could not be written, and no supervisor has taken it over since."""
    old, old_home = place(source, "old")
    fill(old, old_home, tasks=3)
    for task, by in (("tsk_0", "bob"), ("tsk_2", "bob")):  # of the second one the journal has an order already
        put(old_home / SPOOL, Order.made(task, "kill", by, "enough", 8))
    file = tmp_path / "backup"
    saved = save(old, old_home, file)
    new, new_home = place(target, "new")
    assert load(file, new, new_home)["journal"] == saved["journal"]
    with closing(journals.open_journal(journal_of(new, new_home), SystemClock(), new_home)) as journal:
        orders = {row.task: (row.at, row.data["by"]) for row in journal.rows() if row.kind == "order"}
        assert orders["tsk_0"] == (8, "bob")
        assert orders["tsk_2"][1] == "ann"
        assert journal.foreign() == []
    assert len(list((old_home / SPOOL).iterdir())) == 2, "the bus that goes on has them yet"


def test_what_must_not_be_restored(place: Made, tmp_path: Path) -> None:
    old, home = place("sqlite", "old")
    fill(old, home, tasks=3)
    file = tmp_path / "backup"
    save(old, home, file)
    new, new_home = place("sqlite", "new")
    (new_home / "bus.json").write_text("{}")
    with pytest.raises(LedgerInUse):
        load(file, new, new_home)
    (new_home / "bus.json").unlink()
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DROP TRIGGER entries_keep")
        db.execute("UPDATE entries SET at = 1 WHERE seq = 2")
    with pytest.raises(LedgerDamaged, match="entry 2"):
        load(file, new, new_home)
    with pytest.raises(NoLedger):
        load(tmp_path / "nothing", new, new_home)
    assert list(new_home.iterdir()) == []


def test_where_another_journal_is_nothing_is_restored(place: Made, tmp_path: Path) -> None:
    old, home = place("sqlite", "old")
    fill(old, home, tasks=3)
    save(old, home, tmp_path / "backup")
    new, new_home = place("sqlite", "new")
    journals.prepare(journal_of(new, new_home), SystemClock())
    with pytest.raises(StoreFailed, match="there is a journal already"):
        load(tmp_path / "backup", new, new_home)
    with closing(open_reader(new)) as reader:
        assert reader.all_entries() == [], "a ledger without its journal would have every budget anew"


@pytest.mark.parametrize("target", ["sqlite", "postgres"])
def test_a_restore_that_was_cut_short_is_begun_again(place: Made, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever that was: a ledger is never there without its journal."""
    old, home = place("sqlite", "old")
    fill(old, home, tasks=3)
    save(old, home, tmp_path / "backup")
    new, new_home = place(target, "new")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for name in ("_into_file", "_into_database"):
            patch.setattr(f"interlock.orchestrator.ledger.backup.{name}", crash)
        with pytest.raises(KeyboardInterrupt):
            load(tmp_path / "backup", new, new_home)
    with monkeypatch.context() as patch:
        for name in ("_into_file", "_into_database"):
            patch.setattr(f"interlock.actors.supervisor.journal_copy.{name}", crash)
        told = load(tmp_path / "backup", new, new_home)
    assert told["entries"] > 0
    assert told["journal"] == save(new, new_home, tmp_path / "again")["journal"] > 0


def test_a_damaged_ledger_is_not_backed_up(place: Made, tmp_path: Path) -> None:
    old, home = place("sqlite", "old")
    fill(old, home, tasks=3)
    with closing(sqlite3.connect(str(old))) as db, db:
        db.execute("UPDATE tasks SET outcome = 'other'")
    with pytest.raises(LedgerDamaged):
        save(old, home, tmp_path / "backup")
    assert [one.name for one in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands(place: Made, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, home = place(kind, "home")
    monkeypatch.setenv("INTERLOCK_HOME", str(home))
    if isinstance(where, Database):
        monkeypatch.setenv("INTERLOCK_LEDGER", where.url)

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, words)

    fill(where, home, tasks=3)
    said = run("ledger", "stats").stdout
    assert said.startswith(f"{where}: 6 entries, ")
    assert "Tasks: 1 running, 1 success, 1 waiting." in said
    stats = json.loads(run("ledger", "stats", "--json").stdout)
    assert (stats["entries"], stats["epoch"], stats["kinds"]["task.accepted"]["entries"], stats["tasks"]) == (
        6,
        1,
        3,
        {"running": 1, "success": 1, "waiting": 1},
    )
    assert stats["bytes"] > 10_000
    assert run("ledger", "backup", str(tmp_path / "b")).stdout.startswith(f"{tmp_path / 'b'}: 6 entries, intact")
    assert run("ledger", "restore", str(tmp_path / "b")).exit_code == 1
    monkeypatch.delenv("INTERLOCK_LEDGER", raising=False)
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "other"))
    restored = run("ledger", "restore", str(tmp_path / "b"))
    assert restored.stdout == f"{tmp_path / 'other' / LEDGER_FILE}: 6 entries restored, intact. `interlock up` goes on with its tasks.\n"
