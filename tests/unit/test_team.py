"""The team's tools: they read what the task is about and nothing else, test exactly the diff under review, and commit once."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interlock.actors.team import checkout, deploy, review
from interlock.actors.team.contracts import change_of
from interlock.schemas.canonical import decode
from interlock.tools import results
from interlock.tools.context import ToolContext
from interlock.tools.git import Repository
from interlock.tools.tool import Tool

TESTS = """import unittest
from code import x


class T(unittest.TestCase):
    def test_x(self):
        self.assertEqual(x, 2)
"""
RIGHT = "--- a/code.py\n+++ b/code.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
WRONG = RIGHT.replace("x = 2", "x = 3")
NEW_FILE = "--- /dev/null\n+++ b/docs/new.md\n@@ -0,0 +1,2 @@\n+one\n+two\n"


def git(root: Path, *words: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "u", "GIT_AUTHOR_EMAIL": "u@x", "HOME": str(root)}
    settings |= {"GIT_COMMITTER_NAME": "u", "GIT_COMMITTER_EMAIL": "u@x", "PATH": os.environ["PATH"]}
    return subprocess.run(["git", *words], cwd=root, env=settings, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a failing test, in the middle of its owner's work."""
    (tmp_path / "secret.txt").write_text("outside\n")
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "code.py").write_text("x = 1\n")
    (root / "tests").mkdir()
    (root / "tests" / "test_code.py").write_text(TESTS)
    (root / "data.bin").write_bytes(b"\0\1\2")
    (root / "way_out").symlink_to("../secret.txt")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    (root / "code.py").write_text("x = 'not finished'\n")
    (root / "untracked.py").write_text("y = 1\n")
    return root


def context(root: Path, **message: Any) -> ToolContext:
    told = {"repository": str(root), "base": git(root, "rev-parse", "HEAD"), **message}
    return ToolContext("tsk_1", "dsp_1", "1-1", "key_1", told, resources={"unsafe": True}, mark={"INTERLOCK_TASK": "tsk_1"})


def call(tool: Tool[..., Any], ctx: ToolContext, **args: Any) -> Any:
    """What a tool answers, as an agent sees it: the value, or the wire error."""
    done = asyncio.run(results.run(tool, args, ctx))
    assert not done.cut
    return decode(done.value)


def reviewed(root: Path, diff: str, accepted: list[str] | None = None, test_command: str = "") -> Any:
    ctx = context(root, accepted=accepted or [], diff=diff, test_command=test_command)
    return call(review.run_tests, ctx), change_of(ctx.message["base"], [*(accepted or []), diff])


# --- reading ---------------------------------------------------------------------------------------------------------


def test_what_is_read_is_the_commit_and_not_the_owner_s_work(root: Path) -> None:
    ctx = context(root)
    files = call(checkout.list_files, ctx, folder="")
    assert files == {"paths": ["code.py", "data.bin", "tests/test_code.py", "way_out"], "more": 0}
    assert call(checkout.read_file, ctx, path="./code.py")["text"] == "x = 1\n"
    assert call(checkout.list_files, ctx, folder="./tests/")["paths"] == ["tests/test_code.py"]


def test_accepted_diffs_are_seen(root: Path) -> None:
    ctx = context(root, accepted=[RIGHT, NEW_FILE])
    assert call(checkout.list_files, ctx, folder="docs")["paths"] == ["docs/new.md"]
    assert call(checkout.read_file, ctx, path="code.py")["text"] == "x = 2\n"
    assert call(checkout.read_file, ctx, path="docs/new.md", first_line=2) == {
        "path": "docs/new.md",
        "first": 2,
        "last": 2,
        "lines": 2,
        "text": "two\n",
    }


@pytest.mark.parametrize("accepted", [[], [RIGHT]], ids=["base", "with diffs"])
@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "tests/../../secret.txt", ".git/config", "untracked.py"])
def test_nothing_else_is_read(root: Path, path: str, accepted: list[str]) -> None:
    error = call(checkout.read_file, context(root, accepted=accepted), path=path)
    assert error["code"] == "tool_refused"
    assert "has no file" in error["message"]


@pytest.mark.parametrize("accepted", [[], [RIGHT]], ids=["base", "with diffs"])
def test_a_link_leads_nowhere(root: Path, accepted: list[str]) -> None:
    assert "outside" not in str(call(checkout.read_file, context(root, accepted=accepted), path="way_out"))


def test_a_wrong_path_names_the_nearest(root: Path) -> None:
    assert "Did you mean code.py?" in call(checkout.read_file, context(root), path="kode.py")["message"]
    assert "is no text" in call(checkout.read_file, context(root), path="data.bin")["message"]


def test_what_is_read_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "PATHS_AT_MOST", 1)
    monkeypatch.setattr(checkout, "LINES_AT_MOST", 3)
    assert call(checkout.list_files, context(root), folder="") == {"paths": ["code.py"], "more": 3}
    excerpt = call(checkout.read_file, context(root), path="tests/test_code.py")
    assert (excerpt["first"], excerpt["last"], excerpt["lines"]) == (1, 3, 7)
    assert excerpt["text"] == "".join(TESTS.splitlines(keepends=True)[:3])
    monkeypatch.setattr(checkout, "CHARS_AT_MOST", 20)
    assert call(checkout.read_file, context(root), path="tests/test_code.py")["last"] == 1


# --- testing ---------------------------------------------------------------------------------------------------------


def test_the_tests_really_run_on_exactly_this_diff(root: Path) -> None:
    for diff, passed in ((WRONG, False), (RIGHT, True)):
        run, change = reviewed(root, diff)
        assert (run["applied"], run["passed"], run["change"]) == (True, passed, change)
        assert "Ran 1 test" in run["output"]
        assert run["command"].startswith("python ")
        assert run["sandbox"]
    assert reviewed(root, RIGHT)[1] != reviewed(root, RIGHT, accepted=[NEW_FILE])[1]


def test_accepted_diffs_are_under_the_one_that_is_tested(root: Path) -> None:
    follows = RIGHT.replace("-x = 1", "-x = 3")
    assert reviewed(root, follows, accepted=[WRONG])[0]["passed"]
    assert not reviewed(root, follows)[0]["applied"]


def test_a_diff_that_does_not_apply_is_an_answer(root: Path) -> None:
    run, change = reviewed(root, RIGHT.replace("x = 1", "x = 7"))
    assert (run["applied"], run["passed"], run["change"]) == (False, False, change)
    assert "the lines that it expects are not there" in run["problem"]
    assert not reviewed(root, "I could not do it, sorry.")[0]["applied"]


def test_a_project_that_does_not_say_how_it_is_tested(root: Path) -> None:
    git(root, "rm", "-q", "-r", "tests", "-f")
    git(root, "commit", "-q", "-m", "no tests")
    run, _ = reviewed(root, RIGHT)
    assert (run["applied"], run["passed"]) == (True, False)
    assert "a test command must be given" in run["problem"]
    given = f"{sys.executable} -c \"import code; print('Ran 1 test'); assert code.x == 2\""
    assert reviewed(root, RIGHT, test_command=given)[0]["passed"]
    assert not reviewed(root, WRONG, test_command=given)[0]["passed"]


def test_what_runs_is_marked_and_sees_no_secret(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    run, _ = reviewed(root, RIGHT, test_command="env")
    assert "INTERLOCK_TASK=tsk_1" in run["output"]
    assert "sk-very-secret" not in run["output"]


def test_long_output_keeps_both_ends(root: Path) -> None:
    script = f"{sys.executable} -c \"print('begin'); print('x' * 100000); print('end')\""
    run, _ = reviewed(root, RIGHT, test_command=script)
    assert run["output"].startswith("begin")
    assert run["output"].rstrip().endswith("end")
    assert len(run["output"]) < 20_000


# --- committing ------------------------------------------------------------------------------------------------------


def base_of(root: Path, branch: str = "interlock/staging") -> Any:
    return call(deploy.find_base, context(root), repository=str(root), branch=branch)


def committed(root: Path, diffs: list[str], base: str, key: str = "key_1", **args: Any) -> Any:
    ctx = replace(context(root, when=1_760_000_000_000_000), idempotency_key=key)
    given = {"repository": str(root), "branch": "interlock/staging", "base": base, "text": "Do it", "diffs": diffs, **args}
    return call(deploy.commit_to_staging, ctx, change=change_of(base, diffs), **given)


def state(root: Path) -> list[str]:
    """The owner's work: status with contents, HEAD, index, every branch but ours."""
    refs = [line for line in git(root, "for-each-ref").splitlines() if "interlock/staging" not in line]
    index = (root / ".git" / "index").read_bytes().hex()
    return [git(root, "rev-parse", "HEAD"), (root / "code.py").read_text(), (root / "untracked.py").read_text(), index, *refs]


def test_a_commit_is_made_once_and_nothing_else_changes(root: Path) -> None:
    before, base = state(root), base_of(root)
    assert base == git(root, "rev-parse", "HEAD")
    first = committed(root, [RIGHT, NEW_FILE], base)
    assert committed(root, [RIGHT, NEW_FILE], base) == first
    assert first == {"commit": git(root, "rev-parse", "interlock/staging"), "branch": "interlock/staging", "change": first["change"]}
    assert first["change"] == change_of(base, [RIGHT, NEW_FILE])
    assert git(root, "rev-list", "--count", "main..interlock/staging") == "1"
    assert git(root, "show", "interlock/staging:code.py") == "x = 2"
    assert git(root, "diff", "--name-only", "main", "interlock/staging").splitlines() == ["code.py", "docs/new.md"]
    assert state(root) == before


def move_main(root: Path) -> None:
    git(root, "commit", "-q", "--allow-empty", "-m", "meanwhile")


@pytest.mark.parametrize(
    ("meanwhile", "begins_at"),
    [
        (lambda root: None, "interlock/staging"),
        (lambda root: git(root, "update-ref", "refs/heads/main", "interlock/staging"), "main"),
        (lambda root: [git(root, "update-ref", "refs/heads/main", "interlock/staging"), move_main(root)], "main"),
    ],
    ids=["branch ahead", "branch merged", "branch merged, then more"],
)
def test_work_begins_where_all_is_that_was_done(root: Path, meanwhile: Callable[[Path], Any], begins_at: str) -> None:
    committed(root, [RIGHT], base_of(root))
    meanwhile(root)
    base = base_of(root)
    assert base == git(root, "rev-parse", begins_at)
    second = committed(root, [NEW_FILE], base, key="key_2")
    assert git(root, "rev-parse", f"{second['commit']}^") == base


def test_branches_that_went_apart_are_refused_before_any_work(root: Path) -> None:
    committed(root, [RIGHT], base_of(root))
    move_main(root)
    assert "each have commits that the other does not have" in base_of(root)["message"]
    late = committed(root, [NEW_FILE], git(root, "rev-parse", "main"), key="key_2")
    assert late["code"] == "branch_moved"


def test_a_branch_that_is_checked_out_is_refused(root: Path) -> None:
    assert "is checked out" in base_of(root, branch="main")["message"]
    assert base_of(root, branch="no..name")["code"] == "git_failed"


def test_no_repository_is_said_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    ctx = ToolContext("tsk_1", "dsp_1", "1-1", "key_1", {})
    assert call(deploy.find_base, ctx, repository=str(empty), branch="b")["code"] == "not_a_repository"


def test_a_commit_of_another_key_is_another_commit(root: Path) -> None:
    async def found(key: str) -> str | None:
        return await (await Repository.open(root)).find_commit("interlock/staging", key)

    commit = committed(root, [RIGHT], base_of(root))["commit"]
    assert asyncio.run(found("key_1")) == commit
    assert asyncio.run(found("key_2")) is None
