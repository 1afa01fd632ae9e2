"""Erasing and pruning at the command line, on a bus whose ledger is a file: what is shown afterwards, and that all proofs hold."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from interlock import AgentContext, App, LocalBus, Message, WorkflowContext
from interlock.cli import connection, main

WORD = "abracadabra"


class Order(Message, contract="order.request", version="1.0.0"):
    note: str


class Done(Message, contract="order.done", version="1.0.0"):
    said: str


def make_app() -> App:
    app = App("shop")

    @app.agent("clerk", version="1.0.0")
    async def clerk(request: Order, ctx: AgentContext) -> Done:
        return Done(said=request.note)

    @app.workflow("echo", version="1.0.0")
    async def echo(request: Order, ctx: WorkflowContext) -> Done:
        return await ctx.ask(request, returns=Done)

    @app.workflow("asking", version="1.0.0")
    async def asking(request: Order, ctx: WorkflowContext) -> Done:
        return Done(said=(await ctx.ask_human(request.note)).note)

    return app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = tmp_path / "home"
    monkeypatch.setenv("INTERLOCK_HOME", str(home))
    with LocalBus(make_app(), folder=home) as bus:
        monkeypatch.setattr(connection, "connect", lambda address, name: nullcontext(bus))
        yield home


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def done(*words: str) -> str:
    result = run(*words)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def test_an_erased_task_is_shown_exported_and_proved_in_plain_words(folder: Path, tmp_path: Path) -> None:
    done("submit", "echo", json.dumps({"note": WORD}), "--id", "one", "--wait")
    done("submit", "echo", '{"note": "another word"}', "--id", "two", "--wait")
    assert WORD in done("show", "tsk_one")
    said = done("erase", "tsk_one", "--why", "asked to")
    assert said.startswith("tsk_one: what it said was erased at ")
    assert said.endswith("Backups from before still have it.\n")
    shown = done("show", "tsk_one")
    assert WORD not in shown
    assert "result (order.done 1.0.0): erased" in shown
    assert "erased what the task said: asked to" in shown
    assert "asked clerk" in shown
    assert json.loads(done("erase", "tsk_one", "--json"))["why"] == "asked to"
    assert json.loads(done("show", "tsk_one", "--json"))["outcome"] == "success"
    assert "shown as they tell" in done("audit", "verify", "--refold")
    again = run("submit", "echo", json.dumps({"note": WORD}), "--id", "one")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith("What tsk_one said was erased for good.")
    for name, words in (("whole.zip", ()), ("sealed.zip", ("--sealed",))):
        done("audit", "export", str(tmp_path / name), *words)
        checked = subprocess.run([sys.executable, "-I", str(tmp_path / name)], capture_output=True, text=True, check=False, timeout=60)
        assert (checked.returncode, checked.stdout[:7]) == (0, "intact:"), checked.stderr
    with zipfile.ZipFile(tmp_path / "sealed.zip") as bundle:
        assert "content.jsonl" not in bundle.namelist()
    with zipfile.ZipFile(tmp_path / "whole.zip") as bundle:
        content = [json.loads(line) for line in bundle.read("content.jsonl").splitlines()]
    assert {one.get("gone") for one in content if one["task"] == "tsk_one"} == {"erased"}
    (accepted,) = (one for one in content if one["task"] == "tsk_two" and one["kind"] == "task.accepted")
    assert accepted["content"] == {"request": {"note": "another word"}}
    assert not [path for path in folder.iterdir() if WORD.encode() in path.read_bytes()]


def test_a_live_task_is_killed_and_its_receipt_printed(folder: Path) -> None:
    done("submit", "asking", json.dumps({"note": WORD}), "--id", "one")
    said = done("erase", "tsk_one")
    assert said.index("tsk_one stopped") < said.index("what it said was erased")
    assert "killed" in done("tasks")
    assert WORD not in done("show", "tsk_one") + done("tasks")
    assert "shown as they tell" in done("audit", "verify", "--refold")


def test_a_backup_goes_on_where_the_erased_ledger_stood(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done("submit", "echo", json.dumps({"note": WORD}), "--id", "one", "--wait")
    done("ledger", "backup", str(tmp_path / "before.db"))
    done("erase", "tsk_one")
    done("ledger", "backup", str(tmp_path / "after.db"))
    for name, told in (("before", WORD), ("after", "erased")):
        monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / name))
        done("ledger", "restore", str(tmp_path / f"{name}.db"))
        with LocalBus(make_app(), folder=tmp_path / name) as bus:
            monkeypatch.setattr(connection, "connect", lambda address, name, bus=bus: nullcontext(bus))
            assert told in done("show", "tsk_one")


def test_prune_says_what_it_does(folder: Path) -> None:
    assert done("ledger", "prune").startswith("Nothing is kept of model calls of tasks that ended before ")
    counts = {"days": 30, "pruned": False, "tasks": 0, "pieces": 0, "bytes": 0}
    found = json.loads(done("ledger", "prune", "--days", "30", "--dry-run", "--json"))
    assert found.items() >= counts.items()
    short = run("ledger", "prune", "--days", "7")
    assert (short.exit_code, short.stdout) == (2, "")
    assert "for 30 days at least, and 7 were asked for" in short.stderr
    assert json.loads(done("ledger", "stats", "--json"))["kept"] == {"pieces": 0, "bytes": 0}


def test_prune_says_what_is_left_in_the_database_s_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"days": 184, "ended_before": "2026-01-01", "pruned": True, "tasks": 2, "pieces": 7, "bytes": 900}
    monkeypatch.setattr(LocalBus, "prune", lambda self, **how: {**counts, "traces": True, "reused": True})
    assert done("ledger", "prune").splitlines() == [
        "Pruned: what model calls of 2 tasks said (7 pieces, 900 bytes); these tasks ended before 2026-01-01.",
        "A reader of the ledger keeps traces of it in the database's files for now. They go when it has read.",
        "The database overwrites it in its files as it uses the room again.",
    ]


def test_what_is_not_there_cannot_be_erased(folder: Path) -> None:
    result = run("erase", "tsk_none")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("No task tsk_none is known to this bus.")
