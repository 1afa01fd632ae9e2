"""The look at workflows: what would differ in a replay is found by file and line, and nothing else is."""

import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from interlock import App, lint
from interlock.cli import main
from interlock.delivery import app as delivery
from interlock.loading import load_app

HEAD = """
import asyncio, os, pathlib, random, subprocess, threading, time, uuid
import datetime as dt
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from time import monotonic as ticks
from pydantic import Field
from interlock import App, AgentContext, Message, WorkflowContext
app = App("looked_at")
class Go(Message, contract="lint.go", version="1.0.0"):
    text: str = ""
"""


def app_of(folder: Path, code: str, head: str = HEAD) -> App:
    file = folder / "looked_at.py"
    file.write_text(head + textwrap.dedent(code))
    return load_app(f"{file}:app")


def flow(line: str, before: str = "") -> str:
    """A workflow with this line in it."""
    head = '@app.workflow("flow", version="1.0.0")\nasync def flow(request: Go, ctx: WorkflowContext) -> Go:\n    '
    return f"{textwrap.dedent(before)}\n{head}{line}\n    return request\n"


FOUND = {
    "time.time()": ("ctx.now()", "time.time()"),
    "ticks()": ("ctx.now()", "time.monotonic()"),
    "time.sleep(1)": ("ctx.sleep(", "time.sleep()"),
    "datetime.now()": ("ctx.now()", "datetime.datetime.now()"),
    "dt.datetime.now(dt.UTC)": ("ctx.now()", "datetime.datetime.now()"),
    "dt.date.today().isoformat()": ("ctx.now()", "datetime.date.today()"),
    "random.choice([1])": ("ctx.random()", "random.choice()"),
    "random.Random().random()": ("ctx.random()", "random.Random()"),
    "list(map(random.randrange, [1]))": ("ctx.random()", "random.randrange"),
    "uuid.uuid4().hex": ("ctx.uuid()", "uuid.uuid4()"),
    "os.urandom(4)": ("ctx.random()", "os.urandom()"),
    "import secrets; secrets.token_hex()": ("ctx.random()", "secrets.token_hex()"),
    "open('x')": ("ctx.ask(", "open()"),
    "input()": ("ctx.ask_human(", "input()"),
    "Path('x').read_text()": ("ctx.ask(", "pathlib.Path.read_text()"),
    "pathlib.Path('x').with_suffix('.y').exists()": ("ctx.ask(", "pathlib.Path.with_suffix.exists()"),
    "urllib.request.urlopen('x')": ("ctx.ask(", "urllib.request.urlopen()"),
    "subprocess.run(['x'])": ("ctx.ask(", "subprocess.run()"),
    "threading.Thread(target=print).start()": ("ctx.ask(", "threading.Thread()"),
    "ThreadPoolExecutor()": ("ctx.ask(", "concurrent.futures.ThreadPoolExecutor()"),
    "await asyncio.to_thread(print)": ("ctx.ask(", "asyncio.to_thread()"),
    "[f'{time.time()}' for _ in range(2)]": ("ctx.now()", "time.time()"),
}


@pytest.mark.parametrize("line", FOUND)
def test_what_differs_in_a_replay_is_found_with_its_line_and_what_to_use(line: str, tmp_path: Path) -> None:
    found = lint.findings(app_of(tmp_path, flow(line)))
    instead, what = FOUND[line]
    assert [one.what for one in found if one.what == what] == [what]
    assert instead in found[0].instead
    assert (Path(found[0].file).read_text().splitlines())[found[0].line - 1].strip() == line


USED = {
    "a function": ("def helper():\n    return time.time()", "helper()"),
    "a function of a function": ("def inner():\n    time.time()\nasync def outer():\n    inner()", "await asyncio.gather(outer())"),
    "one that is handed on": ("def helper(one):\n    return time.time()", "list(map(helper, [1]))"),
    "a class": ("class Helper:\n    def run(self):\n        self.at = time.time()", "Helper().run()"),
    "a default": ("def helper(at=time.time()):\n    return at", "helper()"),
    "a message's default": (
        'class Note(Message, contract="lint.note", version="1.0.0"):\n    at: float = Field(default_factory=time.time)',
        "Note()",
    ),
    "an import of its own": ("def helper():\n    import time as clock\n    return clock.time()", "helper()"),
}


@pytest.mark.parametrize("name", USED)
def test_what_a_workflow_uses_of_its_module_is_looked_at_too(name: str, tmp_path: Path) -> None:
    before, line = USED[name]
    (found,) = lint.findings(app_of(tmp_path, flow(line, before)))
    assert found.what.removesuffix("()") == "time.time"
    assert found.workflow == "flow"


CLEAN = [
    "ctx.now(); ctx.random().choice([1]); ctx.uuid(); await ctx.sleep(1); await asyncio.sleep(1)",
    "random = ctx.random(); random.choice([1])",
    "random.Random(7).choice([1])",
    "when: datetime = ctx.now(); time: float = 1.0; time.hex()",
    "datetime.fromisoformat('2026-01-01'); dt.timedelta(days=1); uuid.uuid5(uuid.NAMESPACE_OID, 'x'); uuid.UUID(int=1)",
    "Path('x').with_suffix('.y').name; os.path.join('a', 'b'); urllib.parse.quote('x')",
    "isinstance(request, subprocess.CompletedProcess); isinstance(1, random.Random)",
    "async with asyncio.timeout(3), asyncio.TaskGroup() as group: group.create_task(asyncio.sleep(1))",
    "text = 'time.time()'  # time.time()",
    "await ctx.ask(request, returns=Go)",
]


@pytest.mark.parametrize("line", CLEAN)
def test_nothing_is_found_in_what_is_replayed(line: str, tmp_path: Path) -> None:
    assert lint.findings(app_of(tmp_path, flow(line))) == []


def test_what_an_agent_or_nobody_uses_may_do_as_it_likes(tmp_path: Path) -> None:
    before = """
    def unused():
        time.time()

    @app.tool(effect="read")
    async def clock() -> float:
        \"\"\"The time.\"\"\"
        return time.time()

    @app.agent("teller", version="1.0.0", tools=[clock])
    async def teller(request: Go, ctx: AgentContext) -> Go:
        return Go(text=str(time.time()))
    """
    assert lint.findings(app_of(tmp_path, flow("teller, clock", before))) == []


def test_our_own_workflow_has_nothing_to_hide() -> None:
    assert lint.findings(delivery) == []


def test_code_without_a_source_is_not_looked_at() -> None:
    names: dict[str, object] = {}
    exec(compile(HEAD + flow("time.time()"), "<typed in>", "exec"), names)
    app = names["app"]
    assert isinstance(app, App)
    assert lint.findings(app) == []


def test_a_warning_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = app_of(tmp_path, flow("time.time()"))
    lint.warn(app)
    lint.warn(app)
    said = capsys.readouterr().err.splitlines()
    (line,) = [number for number, text in enumerate((tmp_path / "looked_at.py").read_text().splitlines(), 1) if "time.time()" in text]
    assert said == [
        f"warning: {tmp_path}/looked_at.py:{line}: workflow flow may come to time.time(), which a replay does not answer the same way; "
        "use `ctx.now()` instead"
    ]


def test_check_shows_what_is_found(tmp_path: Path) -> None:
    app_of(tmp_path, flow("time.time()"))
    target = f"{tmp_path / 'looked_at.py'}:app"
    said = CliRunner().invoke(main, ["check", target])
    assert (said.exit_code, "use `ctx.now()` instead" in said.stdout) == (1, True)
    assert '"what": "time.time()"' in CliRunner().invoke(main, ["check", target, "--json"]).stdout
    (tmp_path / "clean").mkdir()
    app_of(tmp_path / "clean", flow("pass"))
    said = CliRunner().invoke(main, ["check", f"{tmp_path / 'clean' / 'looked_at.py'}:app"])
    assert (said.exit_code, said.stdout) == (0, "App looked_at: nothing to say about its 0 agents and 1 workflow.\n")
