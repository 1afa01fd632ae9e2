"""The documents speak of what is there: every path, command and call that they cite exists, and the README's examples run."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

import interlock
from interlock import AgentContext, App, Bus, LocalBus, Task, ToolContext, WorkflowContext
from interlock.schemas.entries import KINDS
from interlock.testing.scripted_model import ScriptedModel

PACKAGE = Path(interlock.__file__).parent
TREE = Path(__file__).resolve().parents[2]
DOCUMENTS = [TREE / "README.md", TREE / "ARCHITECTURE.md", *sorted((TREE / "docs").glob("*.md"))]

PATHS = re.compile(r"`((?:schemas|tools|orchestrator|actors|interlock|tests|examples|benchmarks|docs)/[\w./]*)`")
CALLS = re.compile(r"`((?:Bus|bus|task|ctx)\.(?!json)\w+)")
CITED = {"order_id": "{{/order_id}}"}
COMMANDS = re.compile(r"`(?:\.venv/bin/)?interlock ([a-z]+(?: [a-z]+)?)")


def _home(path: str) -> Path:
    """Where a path of the tree is: rooms are subpackages, in the checkout and once installed alike."""
    room = path.split("/")[0]
    if room == "interlock":
        return PACKAGE.parent / path
    return (PACKAGE if room in ("schemas", "tools", "orchestrator", "actors") else TREE) / path


def _said(document: Path) -> str:
    """What the document says: an HTML comment is not said."""
    return re.sub(r"<!--.*?-->", "", document.read_text(), flags=re.DOTALL)


def _cited(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        yield from ((document.name, match) for match in pattern.findall(_said(document)))


def test_every_path_exists() -> None:
    cited = list(_cited(PATHS))
    assert len(cited) > 30
    assert [(document, path) for document, path in cited if not _home(path).exists()] == []


@pytest.fixture
def cli() -> click.Group:
    from interlock.cli import main

    return main


def _is_command(group: click.Command | None, words: list[str]) -> bool:
    for word in words:
        if not isinstance(group, click.Group):
            break
        group = group.commands.get(word)
    return group is not None


def test_every_command_exists(cli: click.Group) -> None:
    assert [(document, words) for document, words in _cited(COMMANDS) if not _is_command(cli, words.split())] == []


def test_every_command_is_in_the_readme(cli: click.Group) -> None:
    said = {words.split()[0] for document, words in _cited(COMMANDS) if document == "README.md"}
    assert said == set(cli.commands)


@pytest.fixture
def examples() -> list[str]:
    """The README's Python: the app, its agent as a model, an app that undoes, a driver's script, the same on an event loop, a migration."""
    found: list[str] = re.findall(r"```python\n(.*?)```", _said(TREE / "README.md"), flags=re.DOTALL)
    assert len(found) == 6
    return found


@pytest.fixture
def billing(examples: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The README's app as the file that it says, where the README's scripts find it."""
    file = tmp_path / "billing.py"
    file.write_text(examples[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "INTERLOCK_MODEL"):
        monkeypatch.delenv(name, raising=False)
    yield file
    sys.modules.pop("billing", None)


def _run(source: str, name: str) -> None:
    exec(compile(source, "README.md", "exec"), {"__name__": name})


def test_the_app_runs_as_a_file_of_its_own(billing: Path) -> None:
    done = subprocess.run([sys.executable, billing.name], cwd=billing.parent, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"`{done.stdout.strip()}`" in (TREE / "README.md").read_text()


@pytest.mark.usefixtures("billing")
def test_its_agent_can_be_a_model(examples: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    as_code = re.search(r"@app\.agent\(.*?\n\n\n", examples[0], flags=re.DOTALL)
    assert as_code is not None
    rules = [
        {"agent": "Create the draft", "tool_results": 0, "answer": {"tool_calls": [{"name": "create_invoice", "arguments": CITED}]}},
        {"agent": "Create the draft", "tool_results": 1, "answer": {"json": {**CITED, "number": "INV-7294"}}},
    ]
    with ScriptedModel.start({"rules": rules}) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("INTERLOCK_MODEL", "scripted-1")
        monkeypatch.setenv("INTERLOCK_PRICES", "prices.json")
        Path("prices.json").write_text('{"scripted-1": {"input": "1", "output": "1"}}')
        _run(examples[0].replace(as_code[0], f"{examples[1]}\n\n"), "__main__")
        assert model.count == 2
    assert capsys.readouterr().out == "order_id='7294' number='INV-7294'\n"


@pytest.mark.usefixtures("billing")
def test_the_script_runs(examples: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a bus in this process instead of the one that it connects to."""
    monkeypatch.setattr(Bus, "connect", lambda: LocalBus(import_module("billing").app))
    _run(examples[3], "readme")
    said = capsys.readouterr().out
    assert "task.accepted" in said
    assert said.endswith("order_id='7295' number='INV-7295' 0\n")


@pytest.mark.usefixtures("billing")
def test_the_script_on_an_event_loop_runs(examples: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _run(examples[4], "readme")
    assert capsys.readouterr().out.count("INV-729") == 2


def test_what_is_undone_is_what_it_says(examples: list[str], tmp_path: Path) -> None:
    """As a file: what hints name is looked up there."""
    file = tmp_path / "travel.py"
    file.write_text(examples[2])
    done = subprocess.run([sys.executable, file.name], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.splitlines(), done.returncode) == (["failed", "success ['book rome', 'cancel rome']"], 0), done.stderr
    readme = (TREE / "README.md").read_text()
    assert all(f"`{line}`" in readme for line in done.stdout.splitlines())


@pytest.mark.usefixtures("billing")
def test_a_migration_leads_over_a_major(examples: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    app = examples[0].replace("AgentContext) -> Invoice:", "AgentContext) -> Invoice2:")
    app = app.replace("return Invoice(", "return Invoice2(").replace("number=await", "invoice=await")
    app = app.replace("\n@app.tool(", f"\n{examples[5]}\n\n@app.tool(")
    _run(app, "__main__")
    assert capsys.readouterr().out == "order_id='7294' number='INV-7294'\n"


def test_every_call_exists() -> None:
    cited = [call for _, call in _cited(CALLS) if call not in KINDS]
    assert len(cited) > 15
    with LocalBus(App("empty")) as bus:
        owners: dict[str, list[object]] = {
            "Bus": [Bus],
            "bus": [bus],
            "task": [Task],
            "ctx": [AgentContext, ToolContext, WorkflowContext],
        }
        missing = [call for call in cited if not any(hasattr(owner, call.split(".")[1]) for owner in owners[call.split(".")[0]])]
    assert missing == []


def test_every_file_of_a_bus_is_in_the_readme() -> None:
    """Imports Ray, starts none."""
    config, head, store = (import_module(f"interlock.cluster.{name}") for name in ("config", "head", "store"))
    signer, spool = (import_module(f"interlock.{name}") for name in ("orchestrator.ledger.checkpoints", "actors.supervisor.spool"))
    files = [signer.HISTORY_FILE, signer.KEY_FILE, signer.PUBLIC_FILE, signer.TREE_FILE, f"{spool.SPOOL}/"]
    files += [config.LEDGER_FILE, config.JOURNAL_FILE, config.SECRETS_FILE, config.BUS_FILE, head.LOG_FILE, head.PID_FILE, store.CODE_FILE]
    readme = (TREE / "README.md").read_text()
    assert [file for file in files if f"`{file}`" not in readme] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
