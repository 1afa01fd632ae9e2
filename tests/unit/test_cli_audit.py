"""The audit's commands on a file, as typed: no bus runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner, Result

from interlock.cli import connection, main
from interlock.clock import SystemClock
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.schemas.entries import EpochStarted
from interlock.schemas.errors import NotRunning


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture(autouse=True)
def _no_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(address: str | None, name: str) -> NoReturn:
        raise NotRunning(address=address or "127.0.0.1")

    monkeypatch.setattr(connection, "connect", refuse)
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERLOCK_DEBUG", raising=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with three entries, whose bus is gone."""
    import asyncio

    async def write(path: Path) -> None:
        store = SqliteLedger.create(path, SystemClock(), on_failure=lambda error: None)
        store.open_epoch()
        for number in range(3):
            store.append("", EpochStarted(store.epoch, f"version {number}"))
        await store.close()

    (tmp_path / "home").mkdir()
    asyncio.run(write(tmp_path / "home" / "ledger.db"))
    return tmp_path / "home" / "ledger.db"


def test_an_intact_ledger(ledger: Path, tmp_path: Path) -> None:
    done = run("audit", "verify")
    unsigned = "none of them signed: that the end was cut off or all was rewritten would not show"
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"ledger intact: 3 entries, {unsigned}\n", "")
    assert run("audit", "verify", "--refold").stdout == f"ledger intact: 3 entries, {unsigned}, shown as they tell\n"
    other = ledger.rename(tmp_path / "other.db")
    said = json.loads(run("audit", "verify", "--ledger", str(other), "--json").stdout)
    assert said == {"intact": True, "ledger": str(other), "entries": 3, "signed": 0, "checkpoints": 0, "refolded": False}


def test_a_damaged_ledger_names_the_first_bad_entry(ledger: Path) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(ledger)) as db, db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("UPDATE entries SET data = CAST(replace(data, 'version 1', 'version 9') AS BLOB) WHERE seq = 2")
    done = run("audit", "verify", "--json")
    problem = "its hash does not fit its content and the entry before it"
    assert json.loads(done.stdout) == {"intact": False, "ledger": str(ledger), "entry": 2, "problem": problem}
    sentence = f"The ledger is not intact: entry 2: {problem}. Stop the bus and keep the file; restore the last good backup.\n"
    assert (done.exit_code, done.stderr) == (1, sentence)


@pytest.fixture
def signed(ledger: Path) -> Path:
    """The same, with a checkpoint of two entries."""
    from interlock.orchestrator.ledger.checkpoints import Signer
    from interlock.orchestrator.ledger.reader import Reader

    signer = Signer(ledger.parent, lambda: Reader(ledger))
    signer.open(2)
    signer.sign()
    return ledger


def test_a_signed_ledger(signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, key = signed.parent / "checkpoints.log", (signed.parent / "checkpoint.pub").read_text().strip()
    assert run("audit", "verify").stdout == "ledger intact: 3 entries, the first 2 signed in 1 checkpoint\n"
    copy = tmp_path / "copy.log"
    monkeypatch.setenv("INTERLOCK_CHECKPOINTS", str(copy))
    done = run("audit", "verify")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The checkpoints at {copy} cannot be read: ")
    copy.write_text(history.read_text())
    history.unlink()
    said = json.loads(run("audit", "verify", "--key", key, "--json").stdout)
    assert (said["signed"], said["checkpoints"]) == (2, 1)
    monkeypatch.delenv("INTERLOCK_CHECKPOINTS")
    assert "the first 2 signed" in run("audit", "verify", "--checkpoints", str(copy)).stdout
    copy.write_text(copy.read_text().replace("\n2\n", "\n3\n"))
    done = run("audit", "verify", "--checkpoints", str(copy), "--json")
    assert (done.exit_code, json.loads(done.stdout)["entry"]) == (1, 1)
    assert "its signature does not fit its text" in done.stderr


@pytest.mark.parametrize("text", ["", "no note", "somebody.else\n5\nAAAA\n\n\u2014 somebody.else AAAA\n\n"])
def test_a_copy_that_vouches_for_nothing_is_not_passed_over(signed: Path, tmp_path: Path, text: str) -> None:
    copy = tmp_path / "copy.log"
    copy.write_text(text)
    done = run("audit", "verify", "--checkpoints", str(copy))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The checkpoints at {copy} cannot be read: there is none of this ledger in it. Nothing was verified;")


def test_an_export_and_a_proof(signed: Path, tmp_path: Path) -> None:

    bundle, key = tmp_path / "bundle.zip", (signed.parent / "checkpoint.pub").read_text().strip()
    done = run("audit", "export", str(bundle))
    assert done.stdout == f"{bundle}: 3 entries. `python -I {bundle}` checks them, on any machine with Python and cryptography.\n"
    checked = subprocess.run([sys.executable, "-I", bundle], capture_output=True, text=True, check=True, timeout=60)
    assert checked.stdout == f"intact: 3 entries, the first 2 signed (checkpoints: 1) by {key}\n"
    again = run("audit", "export", str(bundle))
    assert (again.exit_code, again.stderr) == (
        2,
        f"Invalid value for 'FILE': {bundle} exists already; give another name. `interlock audit export --help` says how.\n",
    )
    other = tmp_path / "other.zip"
    assert json.loads(run("audit", "export", str(other), "--json").stdout) == {"bundle": str(other), "entries": 3, "key": key}
    assert f"there is no folder {tmp_path / 'none'}; make it" in run("audit", "export", str(tmp_path / "none" / "bundle.zip")).stderr
    assert run("audit", "prove", "2", "--since", "1").stdout.splitlines() == [
        "entry 2 is in the checkpoint of 2 entries: 1 hash proves it",
        "that checkpoint continues the one of 1 entries: 1 hash proves it",
    ]
    assert json.loads(run("audit", "prove", "1", "--json").stdout)["entry"]["seq"] == 1
    done = run("audit", "prove", "3")
    assert (done.exit_code, done.stdout, done.stderr.startswith("Entry 3 cannot be proved: 2 entries are signed.")) == (1, "", True)


def test_no_ledger(tmp_path: Path) -> None:
    done = run("audit", "verify")
    path = tmp_path / "home" / "ledger.db"
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"No ledger can be opened at {path}: there is no such file. `interlock up` creates one; or give the path of another.\n"
    )


# --- on a bus --------------------------------------------------------------------------------------------------------------------


def test_a_bus_with_a_folder_signs_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from interlock import App, LocalBus

    monkeypatch.setenv("INTERLOCK_CHECKPOINTS", str(tmp_path / "none" / "copy.log"))
    with LocalBus(App("empty"), folder=tmp_path / "home") as bus:
        monkeypatch.setattr(connection, "connect", lambda address, name: nullcontext(bus))
        said = json.loads(run("status", "--json").stdout)["checkpoints"]
        assert set(said) == {"entries", "unsigned", "key", "problems"}
        assert run("status").stdout.splitlines()[1].startswith("The ledger is signed up to entry ")
    assert run("audit", "verify", "--checkpoints", str(tmp_path / "home" / "checkpoints.log")).exit_code == 0
    copy = tmp_path / "copy.log"
    monkeypatch.setenv("INTERLOCK_CHECKPOINTS", str(copy))
    with LocalBus(App("empty"), folder=tmp_path / "home"):
        pass
    done = run("audit", "verify", "--refold")
    assert (done.exit_code, "signed in" in done.stdout, "shown as they tell" in done.stdout) == (0, True, True)
    assert copy.read_text()


def test_status_says_what_keeps_a_checkpoint_from_being_written() -> None:
    from interlock.cli.cluster import _checkpoints

    assert _checkpoints(None) == []
    found = {"entries": 12, "unsigned": 3, "key": "", "problems": {"/far/copy.log": "No space left on device"}}
    assert _checkpoints(found) == [
        "The ledger is signed up to entry 12; 3 entries came after.",
        "No checkpoint can be written to /far/copy.log: No space left on device.",
    ]
