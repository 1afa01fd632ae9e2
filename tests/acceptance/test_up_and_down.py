"""`interlock up`, and all that a person does with a bus from the command line, as a person does it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest

from interlock.loading import load_app
from interlock.testing.scripted_model import ScriptedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "invoicing"
SECRET = "sk-never-seen-by-a-replica"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("up")
    database = folder / "orders.db"
    app = load_app(f"{EXAMPLE / 'app.py'}:app")
    import_module(app.workflows["invoice_generation"].definition.function.__module__).make_database(database)
    # What looks like a setting of Interlock is passed on to the workers, the shell's other variables are not.
    (folder / "app.py").write_text(
        (EXAMPLE / "app.py").read_text().replace('os.environ.get("INVOICING_DB", "orders.db")', repr(str(database)))
    )
    with ScriptedModel.start(EXAMPLE / "playbook.json") as model:
        settings = {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": SECRET, "INTERLOCK_MODEL": "scripted-1"}

        def run(*words: str) -> "subprocess.CompletedProcess[str]":
            environment = {**os.environ, **settings, "INTERLOCK_HOME": str(folder / "home")}
            call = [str(Path(sys.executable).with_name("interlock")), *words]
            return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200)

        try:
            yield run
        finally:
            run("down")


def drafts(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "orders.db")) as db:
        ((count,),) = db.execute("SELECT count(*) FROM invoices").fetchall()
    assert isinstance(count, int)
    return count


def test_a_bus_comes_works_goes_and_comes_back_with_its_tasks(command: Run) -> None:
    started = command("up", "app.py:app")
    assert (started.returncode, started.stderr) == (0, "")

    submitted = command("submit", "invoice_generation", '{"order_id": "7294"}', "--id", "first", "--wait", "--json")
    assert submitted.returncode == 0, submitted.stderr
    again = command("up", "app.py:app")
    assert again.returncode == 1
    assert "interlock down" in again.stderr

    record = json.loads(command("show", "first", "--json").stdout)
    assert (record["outcome"], record["steps"], record["error"]) == ("success", 6, None)
    assert command("kill", "first").returncode == 1
    assert command("scale", "pricing", "2").returncode == 0

    assert command("down").returncode == 0
    assert "ledger intact" in command("audit", "verify").stdout
    assert command("tasks").returncode == 1

    assert command("up", "app.py:app").returncode == 0
    (task,) = json.loads(command("tasks", "--json").stdout)
    assert (task["task"], task["outcome"]) == ("tsk_first", "success")
    second = command("submit", "invoice_generation", '{"order_id": "7294"}', "--id", "second", "--wait", "--json")
    assert second.returncode == 0, second.stderr
    assert json.loads(command("status", "--json").stdout)["epoch"] == 2


def test_no_worker_knows_the_key(command: Run) -> None:
    environments = [file for file in Path("/proc").glob("[0-9]*/environ") if _mentions(file.parent / "cmdline", b"ray::PeerActor")]
    assert environments
    assert not [file for file in environments if _mentions(file, SECRET.encode())]


def _mentions(file: Path, words: bytes) -> bool:
    try:
        return words in file.read_bytes()
    except OSError:
        return False
