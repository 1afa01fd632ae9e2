"""`interlock demo` and `interlock deliver` as a user types them, on a bus in one process in place of the one on Ray."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock import LocalBus
from interlock.cli import delivery_run, main
from interlock.cli.answers import Policy
from interlock.delivery_example import GOAL, make_repository, playbook
from interlock.schemas.record import RunRecord
from interlock.testing.scripted_model import ScriptedModel
from interlock.tools.git import environment


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delivery_run.Bus, "start", lambda app, **settings: LocalBus(app, **settings))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "INTERLOCK_MODEL", "INTERLOCK_PRICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    make_repository(tmp_path / "splitbill")
    return tmp_path / "splitbill"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedModel]:
    """A model of one's own, as the environment names it."""
    with ScriptedModel.start(playbook()) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("INTERLOCK_MODEL", "scripted-1")
        yield model


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["interlock.cli.deliver"], "_is_terminal", lambda as_json: True)


def interlock(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, list(words), input=stdin)


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=repository, env=environment(), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_demo(tmp_path: Path) -> None:
    done = interlock("demo", "--yes", "--keep", str(tmp_path / "kept"))
    assert (done.exit_code, done.stderr) == (0, "")
    repository = tmp_path / "kept" / "splitbill"
    commit = git(repository, "rev-parse", "interlock/staging")
    for said in (
        "The model in this demo is scripted",
        "coding    answers with a diff (splitbill/money.py +3 -1)",
        "review    tests failed in ",
        "review    tests passed in ",
        "--yes: policy `approve` answered the approval",
        f"commit     {commit} on branch interlock/staging",
        f"look at it git -C {repository} show {commit}",
        "outcome    success",
        "ledger intact: 56 entries",
        f"interlock audit verify --ledger {tmp_path}/kept/bus/ledger.db",
        "interlock demo --extra-failing-test",
    ):
        assert said in done.stdout
    verified = interlock("audit", "verify", "--ledger", str(tmp_path / "kept" / "bus" / "ledger.db"))
    assert (verified.exit_code, verified.stdout.split(":")[0]) == (0, "ledger intact")


def test_the_demo_with_one_more_test_ends_in_a_question() -> None:
    done = interlock("demo", "--extra-failing-test")
    assert done.exit_code == 1
    assert "no terminal: policy `deny` answered the question" in done.stdout
    assert "outcome    failed" in done.stdout
    assert "reason     No diff for 'Money.split loses no cent' was approved in 3 rounds" in done.stdout
    assert "ledger intact: " in done.stdout


def test_that_end_is_told_as_json() -> None:
    done = interlock("demo", "--extra-failing-test", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["outcome"], told["commit"]) == ("failed", None)
    assert "was approved in 3 rounds, and policy deny said not to go on" in told["reason"]
    assert RunRecord.model_validate(told["record"]).outcome == "failed"
    assert "no terminal: policy `deny` answered the question" in done.stderr


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    done = interlock("demo", "--json", "--keep", str(tmp_path / "kept"))
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    RunRecord.model_validate(told["record"])
    assert told["commit"] == git(tmp_path / "kept" / "splitbill", "rev-parse", "interlock/staging")
    assert told["decisions"][0]["by"] == "policy approve"
    assert told["ledger"]["intact"] is True
    assert "no terminal: policy `approve` answered the approval" in done.stderr
    assert "scripted" in done.stderr


@pytest.mark.usefixtures("person")
def test_a_person_sees_the_whole_act_and_approves() -> None:
    done = interlock("demo", stdin="what?\nd\ny\n")
    assert done.exit_code == 0
    assert "deploy asks for approval of exactly this act:\ncommit_to_staging (irreversible on git)" in done.stdout
    assert "  splitbill/money.py  +7 -2\n" in done.stdout
    assert "\n+        left = self.cents - sum(shares)\n" in done.stdout
    assert done.stdout.count("show the [d]iff") == 3
    assert "you approved it" in done.stdout


@pytest.mark.usefixtures("person")
def test_a_person_says_no() -> None:
    done = interlock("demo", "--json", stdin="n\n")
    assert (done.exit_code, json.loads(done.stdout)["outcome"]) == (1, "rejected")


@pytest.mark.usefixtures("person")
def test_a_person_answers_a_question() -> None:
    done = interlock("demo", "--extra-failing-test", stdin="y\nmind the commas\nn\n")
    assert done.exit_code == 1
    assert "test_thousands_may_be_separated" in done.stdout
    assert "round 6 of Money.split loses no cent" in done.stdout
    assert "was approved in 6 rounds" in done.stdout


def test_an_interrupt_kills_the_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(self: Policy, item: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Policy, "answer", interrupted)
    done = interlock("demo", "--yes", "--keep", str(tmp_path / "kept"))
    assert done.exit_code == 130
    assert "is killed: everything of it has stopped." in done.stderr
    assert not git(tmp_path / "kept" / "splitbill", "branch", "--list", "interlock/*")


@pytest.mark.usefixtures("model")
def test_deliver_on_a_repository(repository: Path, tmp_path: Path) -> None:
    done = interlock("deliver", "--repo", str(repository), "--goal", GOAL, "--yes", "--branch", "agents/work", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["commit"] == git(repository, "rev-parse", "agents/work")
    assert Path(told["ledger"]["path"]).is_relative_to(tmp_path / "home")
    assert (tmp_path / "home" / ".gitignore").read_text() == "*\n"
    assert git(repository, "status", "--porcelain") == ""


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("budget", ["tokens=3000", "steps=4"])
def test_a_budget_that_is_too_small_ends_the_task(repository: Path, budget: str) -> None:
    done = interlock("deliver", "--repo", str(repository), "--goal", GOAL, "--yes", "--budget", budget)
    assert done.exit_code == 1
    assert "outcome    budget_exceeded" in done.stdout
    assert f"limit on {budget.split('=')[0]} is reached" in done.stdout
    assert "commit     none; the repository is as it was" in done.stdout


def test_an_endpoint_that_does_not_answer(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}/v1")
        monkeypatch.setenv("INTERLOCK_MODEL", "some-model")
        done = interlock("deliver", "--repo", str(repository), "--goal", GOAL, "--yes")
    assert done.exit_code == 1
    assert "gave no answer after 4 attempts" in done.stdout


def refusal(*words: str) -> tuple[int, str]:
    """Exit code and the one sentence of a command that is refused before it starts anything."""
    done = interlock(*words)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.exit_code, done.stderr


def test_deliver_without_a_model_says_what_to_set(repository: Path) -> None:
    code, said = refusal("deliver", "--repo", str(repository), "--goal", "g", "--yes")
    assert code == 2
    assert said.startswith("No model is configured: OPENAI_API_KEY and INTERLOCK_MODEL are not set.")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--repo", "{tmp}/nowhere"], 2, "is not a git repository with at least one commit"),
        (["--repo", "{tmp}"], 2, "is not a git repository with at least one commit"),
        (["--goal", "  "], 2, "it is empty; say what to change"),
        (["--test-command", "make 'test"], 2, "is no command: No closing quotation"),
        (["--branch", "main"], 1, "branch main is checked out in a working tree"),
        (["--branch", "no..name"], 1, "not a valid branch name"),
        (["--budget", "coffee=1"], 2, "coffee is no meter"),
        (["--budget", "tokens=9000000"], 2, "A submit may only lower the workflow's budget: tokens is 400000"),
        ([], 2, "nobody is at a terminal to approve the commit. Give --yes to let a policy approve it"),
    ],
)
def test_bad_input_gets_one_sentence(repository: Path, tmp_path: Path, words: list[str], code: int, sentence: str) -> None:
    given = {"--repo": str(repository), "--goal": "g", **dict(zip(words[::2], words[1::2], strict=True))}
    flat = [word.format(tmp=tmp_path) for pair in given.items() for word in pair]
    found, said = refusal("deliver", *flat, *(["--yes"] if words else []))
    assert sentence in said
    assert found == code


def test_the_demo_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "splitbill").mkdir()
    (tmp_path / "splitbill" / "mine.txt").write_text("mine\n")
    code, said = refusal("demo", "--yes", "--keep", str(tmp_path))
    assert code == 1
    assert "is not an empty directory" in said
