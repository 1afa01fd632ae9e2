"""`interlock up`, and all that a person does with a bus from the command line, as a person does it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from interlock.loading import load_app
from interlock.testing.scripted_model import ScriptedModel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "invoicing"
SECRET = "sk-never-seen-by-a-replica"

ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from interlock.cli import main

ends = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as complained:
        try:
            main(words)
        except SystemExit as end:
            ends.append((end.code, said.getvalue(), complained.getvalue()))
print(json.dumps(ends))
"""


class End(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    said: str
    complained: str


class Shell:
    """A person's shell in a folder of his: each command is a process, or several share one where that makes no difference."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._folder, self._environment = folder, {**os.environ, **settings, "INTERLOCK_HOME": str(folder / "home")}

    def __call__(self, *words: str) -> End:
        return self._run(str(Path(sys.executable).with_name("interlock")), *words)

    def all(self, *commands: Sequence[str]) -> list[End]:
        done = self._run(sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands))
        assert (done.code, done.complained) == (0, "")
        ends = [End(*end) for end in json.loads(done.said)]
        assert len(ends) == len(commands)
        return ends

    def _run(self, *call: str) -> End:
        done = subprocess.run(call, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False, timeout=200)
        return End(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
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

        shell = Shell(folder, settings)
        try:
            yield shell
        finally:
            shell("down")


def drafts(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "orders.db")) as db:
        ((count,),) = db.execute("SELECT count(*) FROM invoices").fetchall()
    assert isinstance(count, int)
    return count


def test_a_bus_comes_works_goes_and_comes_back_with_its_tasks(shell: Shell) -> None:
    assert shell("up", "app.py:app")[::2] == (0, "")

    submitted = shell("submit", "invoice_generation", '{"order_id": "7294"}', "--id", "first", "--wait", "--json")
    assert submitted.code == 0, submitted.complained
    again, shown, killed, scaled = shell.all(
        ("up", "app.py:app"), ("show", "first", "--json"), ("kill", "first"), ("scale", "pricing", "2")
    )
    assert again.code == 1
    assert "interlock down" in again.complained
    record = json.loads(shown.said)
    assert (record["outcome"], record["steps"], record["error"]) == ("success", 6, None)
    assert (killed.code, scaled.code) == (1, 0)

    assert shell("down").code == 0
    verified, listed = shell.all(("audit", "verify"), ("tasks",))
    assert "ledger intact" in verified.said
    assert listed.code == 1

    assert shell("up", "app.py:app").code == 0
    listed, second, status = shell.all(
        ("tasks", "--json"),
        ("submit", "invoice_generation", '{"order_id": "7294"}', "--id", "second", "--wait", "--json"),
        ("status", "--json"),
    )
    (task,) = json.loads(listed.said)
    assert (task["task"], task["outcome"]) == ("tsk_first", "success")
    assert second.code == 0, second.complained
    assert json.loads(status.said)["epoch"] == 2


def test_no_worker_knows_the_key(shell: Shell) -> None:
    environments = [file for file in Path("/proc").glob("[0-9]*/environ") if _mentions(file.parent / "cmdline", b"ray::PeerActor")]
    assert environments
    assert not [file for file in environments if _mentions(file, SECRET.encode())]


def _mentions(file: Path, words: bytes) -> bool:
    try:
        return words in file.read_bytes()
    except OSError:
        return False
