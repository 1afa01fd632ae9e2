"""Which command runs a project's tests, and what counts as passed."""

import asyncio
import sys
from pathlib import Path

import pytest

from interlock.tools import run_tests
from interlock.tools.sandbox import Completed, Sandbox, choose

PASSING = "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): pass\n"
QUICK = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PYTEST = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
UNITTEST = [sys.executable, "-B", "-m", "unittest", "discover"]


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"tests/test_a.py": PASSING}, [*UNITTEST, "-s", "tests"]),
        ({"tests/test_a.py": PASSING, "tests/__init__.py": ""}, UNITTEST),
        ({"test_a.py": PASSING, "more/test_b.py": PASSING}, UNITTEST),
        ({"src/a/__init__.py": "", "tests/test_a.py": PASSING}, ["env", "PYTHONPATH=src", *UNITTEST, "-s", "tests"]),
        ({"tests/test_a.py": "def test_it(): pass"}, PYTEST),
        ({"tests/test_a.py": PASSING, "pyproject.toml": "[tool.pytest.ini_options]\n"}, PYTEST),
        ({"tests/test_a.py": PASSING, "pyproject.toml": "[tool.ruff]\n"}, [*UNITTEST, "-s", "tests"]),
        ({"tests/test_a.py": PASSING, "conftest.py": ""}, PYTEST),
        ({"Makefile": "all:\n\ntest: all\n\ttrue\n", "go.mod": ""}, ["make", "test"]),
        ({"Makefile": "test := 1\ntests:\n", "go.mod": ""}, ["go", "test", "./..."]),
        ({"package.json": '{"scripts": {"test": "node --test"}}'}, ["npm", "test"]),
        ({"package.json": '{"scripts": {}}'}, None),
        ({"package.json": "{"}, None),
        ({"package.json": "[]"}, None),
        ({"Cargo.toml": ""}, ["cargo", "test"]),
        ({"README.md": "no tests", "node_modules/x/test_x.py": PASSING, ".venv/test_y.py": PASSING}, None),
    ],
)
def test_the_command_is_found(tmp_path: Path, files: dict[str, str], command: list[str] | None) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert run_tests.detect(tmp_path) == command


def test_pytest_is_not_asked_for_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_tests, "find_spec", lambda name: None)
    (tmp_path / "test_a.py").write_text("def test_it(): pass")
    assert run_tests.detect(tmp_path) == UNITTEST


def test_a_link_out_of_the_worktree_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("test:\n")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "Makefile").symlink_to(tmp_path / "outside")
    assert run_tests.detect(tmp_path / "tree") is None


def executed(root: Path, text: str, argv: list[str] | None = None, seconds: float = 30) -> run_tests.TestRun:
    (root / "test_it.py").write_text(text)
    found = argv or run_tests.detect(root)
    assert found is not None
    return asyncio.run(run_tests.run(choose(unsafe=True), root, found, seconds, QUICK))


def test_passing_tests_pass(tmp_path: Path) -> None:
    done = executed(tmp_path, PASSING)
    assert done.passed
    assert done.command == "python -B -m unittest discover"
    assert "Ran 1 test" in done.output
    assert executed(tmp_path, "def test_it(): pass").passed


def test_a_failing_test_does_not(tmp_path: Path) -> None:
    for text in (PASSING.replace("pass", "self.fail('broken')"), "def test_it(): assert False, 'broken'"):
        done = executed(tmp_path, text)
        assert not done.passed
        assert "broken" in done.output


def test_a_module_that_skips_itself_hides_none_that_passed(tmp_path: Path) -> None:
    away = "import unittest\ndef setUpModule():\n    raise unittest.SkipTest('not here')\n\n" + PASSING.removeprefix("import unittest\n")
    (tmp_path / "test_away.py").write_text(away)
    assert executed(tmp_path, PASSING).passed
    assert not executed(tmp_path, away).passed


@pytest.mark.parametrize(
    "text",
    [
        "import unittest\n",
        PASSING.replace("    def", "    @unittest.skip('later')\n    def"),
        "import unittest, os\nos._exit(0)\n",
        "def helper(): pass\n",
        "import pytest\n@pytest.mark.skip\ndef test_it(): pass\n",
        "import os\nos._exit(0)\n",
    ],
    ids=["none", "skipped", "exits", "pytest none", "pytest skipped", "pytest exits"],
)
def test_where_no_test_was_executed_nothing_has_passed(tmp_path: Path, text: str) -> None:
    done = executed(tmp_path, text)
    assert not done.passed
    assert done.output.startswith("No test was executed, so this counts as not passed.\n")


def test_tests_that_do_not_end_have_not_passed(tmp_path: Path) -> None:
    done = executed(tmp_path, "import unittest, time\ntime.sleep(600)\n", seconds=0.5)
    assert (done.passed, done.timed_out) == (False, True)
    assert done.output.startswith("The tests did not end within 0.5 s")


class Saying(Sandbox):
    """A sandbox in which every command ends well and says the same."""

    def __init__(self, output: str) -> None:
        self._output = output

    async def run(self, *_: object, **__: object) -> Completed:
        return Completed(0, self._output, cut=False, timed_out=False, seconds=0.1)


@pytest.mark.parametrize(
    ("argv", "output", "passed"),
    [
        (["cargo", "test"], "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored\n", True),
        (["cargo", "test"], "running 0 tests\ntest result: ok. 0 passed; 0 failed; 3 ignored\n", False),
        (["cargo", "test"], "", False),
        (["go", "test", "./..."], "ok  \texample.com/a\t0.002s\n?   \texample.com/b\t[no test files]\n", True),
        (["go", "test", "./..."], "ok  \texample.com/a\t0.002s [no tests to run]\n?   \texample.com/b\t[no test files]\n", False),
        (["npm", "test"], "# tests 3\n# pass 3\n", True),
        (["npm", "test"], "ℹ tests 0\nℹ pass 0\n", False),
        (["npm", "test"], "Tests:       4 passed, 4 total\n", True),
        (["make", "test"], "Ran 0 tests in 0.000s\n\nOK\n", False),
        (["make", "test"], "everything is fine\n", True),
        (["python", "-m", "unittest"], ".s\nRan 1 test in 0.006s\n\nOK (skipped=1)\n", True),
        (["python", "-m", "unittest"], "ss\nRan 2 tests in 0.006s\n\nOK (skipped=2)\n", False),
        (["python", "-m", "unittest"], "Ran 0 tests in 0.006s\n\nNO TESTS RAN (skipped=1)\n", False),
        (["python", "-m", "pytest"], "3 skipped in 0.01s\n", False),
        (["python", "-m", "pytest"], "2 passed, 1 skipped in 0.01s\n", True),
        (["python", "-m", "pytest"], "9 passed in a printed line\n1 deselected in 0.01s\n", False),
    ],
)
def test_every_runner_s_own_words_are_understood(tmp_path: Path, argv: list[str], output: str, passed: bool) -> None:
    assert asyncio.run(run_tests.run(Saying(output), tmp_path, argv, 5, {})).passed is passed
