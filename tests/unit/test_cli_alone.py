"""The command line by itself: bad usage, no bus, an interrupt, a fault of our own, no terminal, a quick start."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
from click.testing import CliRunner, Result

from interlock.cli import connection, main, output
from interlock.cli.inputs import Limits
from interlock.schemas.errors import BadDeclaration, NotRunning, UnknownItem
from interlock.schemas.record import State

METERS = "Use input_tokens, output_tokens, tokens, steps, messages, seconds, working_seconds, usd or writes/SYSTEM"


def run(*words: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=stdin)


@pytest.fixture(autouse=True)
def _no_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(address: str | None, name: str) -> NoReturn:
        raise NotRunning(address=address or "127.0.0.1")

    monkeypatch.setattr(connection, "connect", refuse)
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERLOCK_DEBUG", raising=False)


def connecting(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    monkeypatch.setattr(connection, "connect", lambda address, name: act())


# --- bad usage -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["frobnicate"], "No such command 'frobnicate'. `interlock --help` says how."),
        (["submit", "echo"], "Missing argument 'JSON'. `interlock submit --help` says how."),
        (["show"], "Missing argument 'TASK'. `interlock show --help` says how."),
        (["tasks", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range 1<=x<=10000. `interlock tasks --help` says how."),
        (
            ["tasks", "--state", "lost"],
            "Invalid value for '--state': 'lost' is not one of 'running', 'waiting', 'diverged', 'ended'. "
            "`interlock tasks --help` says how.",
        ),
        (["scale", "clerk", "-1"], "No such option '-1'. `interlock scale --help` says how."),
        (["scale", "clerk", "many"], "Invalid value for 'N|auto': 'many' is not a valid integer range. `interlock scale --help` says how."),
        (["audit", "burn"], "No such command 'burn'. `interlock audit --help` says how."),
        (
            ["submit", "echo", "@none.json"],
            "Invalid value for 'JSON': none.json cannot be read: No such file or directory. `interlock submit --help` says how.",
        ),
        (
            ["submit", "echo", "{}", "--budget", "gold=1"],
            f"budget gold=1: gold is no meter. {METERS}, as in tokens=5000,usd=0.10.",
        ),
        (
            ["submit", "echo", "{}", "--budget", "tokens=1.5"],
            "budget tokens=1.5: that is not a whole number of zero or more. Write limits as in tokens=5000,usd=0.10.",
        ),
        (
            ["submit", "echo", "{}", "--budget", "usd=nan"],
            "budget usd=nan: that is not a number of zero or more. Write limits as in tokens=5000,usd=0.10.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_one_sentence(words: list[str], sentence: str) -> None:
    done = run(*words)
    assert (done.stderr, done.exit_code, done.stdout) == (f"{sentence}\n", 2, "")


@pytest.mark.parametrize(("text", "stdin"), [("{oops", None), ("-", "{oops"), ("-", b"\xff"), ("-", "")])
def test_what_is_not_json_is_never_sent(text: str, stdin: str | bytes | None) -> None:
    done = run("submit", "echo", text, stdin=stdin)
    source = "the standard input" if text == "-" else "it"
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"Invalid value for 'JSON': {source} is not JSON: ")
    assert 'Give an object such as \'{"order_id": "7294"}\', @FILE, or - for the standard input' in done.stderr


@pytest.mark.parametrize("amount", ["", "-1", "1e3", "²", "inf", "+1", "1_0"])
def test_an_amount_is_plain_digits(amount: str) -> None:
    with pytest.raises(BadDeclaration):
        Limits().convert(f"tokens={amount}", None, None)


def test_limits() -> None:
    assert Limits().convert("tokens=5, usd=0.10,seconds=1.5,writes/db=0", None, None) == {
        "tokens": "5",
        "usd": "0.10",
        "seconds": "1.5",
        "writes/db": "0",
    }


def test_the_states_are_all_states() -> None:
    states = next(option for option in main.commands["tasks"].params if option.name == "state").type
    assert isinstance(states, click.Choice)
    assert set(states.choices) == {state.value for state in State}


# --- no bus, an interrupt, a fault -----------------------------------------------------------------------------------------------


ON_A_BUS = [
    ["submit", "echo", "{}"],
    ["tasks"],
    ["show", "x"],
    ["kill", "x"],
    ["inbox"],
    ["approve", "x"],
    ["deny", "x"],
    ["dead", "list"],
    ["dead", "show", "x"],
    ["dead", "retry", "x"],
    ["dead", "drop", "x"],
    ["status"],
    ["scale", "a", "1"],
]


@pytest.mark.parametrize("words", ON_A_BUS, ids=" ".join)
def test_no_bus_is_running(words: list[str]) -> None:
    done = run(*words, "--address", "10.0.0.5:6379")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "No bus is running at 10.0.0.5:6379. Start one with `interlock up`, or give --address.\n"


def test_an_interrupt_leaves_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    connecting(monkeypatch, interrupt)
    done = run("tasks")
    assert (done.exit_code, done.output.strip()) == (130, "")


def test_ctrl_c_in_a_real_process() -> None:
    # What a shell starts in the background ignores Ctrl-C, and so does all that it starts in turn: these tests, for one.
    code = "import os, signal\nfrom interlock.cli import connection, main\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "connection.connect = lambda *_: os.kill(os.getpid(), signal.SIGINT) or signal.pause()\nmain(['tasks'])\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (130, "", "")


@pytest.mark.parametrize("home_exists", [True, False])
def test_a_fault_of_our_own_names_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home_exists: bool) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / "home" if home_exists else tmp_path
    folder.mkdir(exist_ok=True)
    connecting(monkeypatch, lambda: dict[str, int]()["gone\x1b"])
    done = run("tasks")
    log = folder / "interlock-cli.log"
    assert (done.exit_code, done.stdout) == (70, "")
    assert done.stderr == f"Interlock itself broke: KeyError: 'gone\\x1b'. The traceback is in {log}; please report it.\n"
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_traceback_is_printed_only_on_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connecting(monkeypatch, lambda: 1 // 0)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "nowhere"))
    done = run("tasks")
    assert done.stderr.count("\n") == 1
    assert "No log could be written" in done.stderr
    monkeypatch.setenv("INTERLOCK_DEBUG", "1")
    done = run("tasks")
    assert (done.exit_code, "Traceback (most recent call last)" in done.stderr) == (70, True)


def test_a_reader_that_goes_away_is_no_fault() -> None:
    command = f"{sys.executable} -c 'from interlock.cli import main; main()' --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")


# --- what is printed -------------------------------------------------------------------------------------------------------------


class Terminal:
    """A standard output that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return True


def test_a_table_on_a_terminal_has_no_markup_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.table(("task", "reason"), [("tsk_1", "[red]no[/red] :warning: \x1b[2J"), ("tsk_2", "[/unbalanced]")])
    plain = re.sub(r"\x1b\[[\d;]*m", "", terminal.text)
    assert plain != terminal.text, "the head is bold"
    assert [line.rstrip() for line in plain.splitlines()] == [
        "task   reason",
        "tsk_1  [red]no[/red] :warning: \\u001b[2J",
        "tsk_2  [/unbalanced]",
    ]


def test_a_table_elsewhere_is_a_line_per_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.table(("a", "b"), [("1", "long " * 30 + "end"), ("22", "two\nlines")])
    assert capsys.readouterr().out.splitlines() == ["a   b", "1   " + "long " * 30 + "end", "22  two lines"]


@pytest.mark.parametrize("words", [[], ["audit"]])
def test_every_command_explains_itself(words: list[str]) -> None:
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert isinstance(command, click.Group)
    for name, one in command.commands.items():
        done = run(*words, name, "--help")
        assert done.exit_code == 0
        assert one.help, name
        assert one.get_short_help_str(100).endswith("."), f"{name}: its first sentence is too long for the list"
        for option in one.params:
            assert isinstance(option, click.Argument) or getattr(option, "help", None), f"{name} {option.name}"


def test_the_start_is_quick() -> None:
    """Help and version load nothing that takes long."""
    heavy = ["ray", "openai", "pydantic", "rich", "sqlite3", "asyncio", "interlock.orchestrator", "interlock.actors", "interlock.app"]
    code = f"""
import sys
from interlock.cli import main
for word in ("--help", "--version"):
    try: main([word])
    except SystemExit as end: assert end.code == 0, end
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "interlock 0.1.0"


# --- up and down -----------------------------------------------------------------------------------------------------------------


class Launch:
    """In the place of `interlock.launch`."""

    def __init__(self) -> None:
        self.called: list[Any] = []

    def up(self, target: str | None, *, address: str | None, name: str, home: Path) -> dict[str, Any]:
        self.called.append((target, address, name, home))
        return {"address": address or "127.0.0.1:6379", "name": name, "home": str(home), "app": "billing", "agents": ["clerk", "boss"]}

    def down(self, *, name: str, home: Path) -> dict[str, Any]:
        self.called.append((name, home))
        return {"stopped": ["clerk-1", "ray"]}


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    import interlock

    fake = Launch()
    monkeypatch.setitem(sys.modules, "interlock.launch", fake)
    monkeypatch.setattr(interlock, "launch", fake, raising=False)
    return fake


def test_up_and_down(launch: Launch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run("up", "shop:app", "--name", "shop")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [f"Bus shop runs at 127.0.0.1:6379; its ledger is in {home}.", "App billing: clerk, boss."],
    )
    assert len(run("up", "--address", "h:1").stdout.splitlines()) == 1
    assert json.loads(run("up", "--json").stdout)["home"] == str(home)
    assert run("down").stdout == "Stopped: clerk-1, ray.\n"
    assert json.loads(run("down", "--name", "shop", "--json").stdout) == {"stopped": ["clerk-1", "ray"]}
    assert launch.called == [
        ("shop:app", None, "shop", home),
        (None, "h:1", None, home),
        (None, None, None, home),
        (None, home),
        ("shop", home),
    ]


# --- names that are none ----------------------------------------------------------------------------------------------------------

JUNK, LONG = "\udcff\x1b[31m", "a" * 5000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", JUNK], r"'\udcff\u001b[31m' is not text in UTF-8. Nothing was done; use words and names of files that are."),
        (["submit", "echo", "@"], "Invalid value for 'JSON': no file is named after the @. `interlock submit --help` says how."),
        (["submit", "echo", "{}", "--budget", ""], f"budget =: an empty name is no meter. {METERS}"),
        (["ledger", "backup", ""], "Invalid value for 'FILE': an empty name exists already; give another name."),
        (["ledger", "backup", "."], "Invalid value for 'FILE': . exists already; give another name."),
        (["ledger", "backup", "no/such/file"], "Invalid value for 'FILE': there is no folder "),
        (["ledger", "backup", LONG], "Invalid value for 'FILE': that cannot be the name of a file: File name too long."),
        (["ledger", "restore", ""], "Invalid value for 'FILE': File '' does not exist."),
        (["ledger", "restore", "."], "Invalid value for 'FILE': File '.' is a directory."),
        (["ledger", "restore", LONG], f"Invalid value for 'FILE': File '{'a' * 1900}"),
        (["audit", "export", LONG], "Invalid value for 'FILE': that cannot be the name of a file: File name too long."),
        (["audit", "verify", "--ledger", ""], "Invalid value for '--ledger': an empty name is none; leave the option out for the default."),
        (["audit", "verify", "--checkpoints", ""], "Invalid value for '--checkpoints': an empty name is none; leave the option out"),
    ],
    ids=lambda value: " ".join(value)[:40].encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_what_names_nothing_is_said_in_one_sentence(words: list[str], sentence: str) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(sentence)
    assert len(done.stderr) < 2700


def test_a_name_that_fills_the_screen_leaves_what_to_do_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise UnknownItem(item="a" * 100_000)

    connecting(monkeypatch, refuse)
    said = run("approve", "x").stderr
    assert said.startswith("Nothing called 'aaa")
    assert "characters left out" in said
    assert said.endswith("waits in the inbox. `interlock inbox` lists what does.\n")
    assert len(said) < 2700


@pytest.mark.parametrize("words", [["ledger", "stats"], ["audit", "verify"], ["audit", "verify", "--ledger", LONG]])
def test_a_file_that_cannot_be_used_is_a_sentence_and_no_fault(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "file"))
    done = run(*words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert re.search(r" cannot be used: (Not a directory|File name too long)\. Nothing was done with it; name another", done.stderr)
