"""Run a project's own tests in the sandbox.

Guarantees: passed means that the tests' command ended well *and* said that it executed at least one test, wherever the runner is one
whose words are known; a run that ends before it has said so, or a diff that leaves nothing to test, has not passed.

Not guaranteed: that the words are the runner's. Code under test runs in the same process and may print them and exit with 0, so
a pass is evidence against mistakes and none against code that is written to deceive.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from interlock.tools.sandbox import Sandbox

_SKIPPED_FOLDERS = {"node_modules", "vendor", "venv", "build", "dist"}
_PYTEST_SIGNS = {"pytest.ini": "", "conftest.py": "", "pyproject.toml": "[tool.pytest", "setup.cfg": "[tool:pytest]", "tox.ini": "[pytest]"}


class TestRun(NamedTuple):
    """How a project's tests ended. `output` is bounded, its end kept; where no test was executed it begins by saying so."""

    passed: bool
    command: str
    output: str
    seconds: float
    timed_out: bool


def detect(worktree: Path) -> list[str] | None:
    """The command that runs the tests of the project in `worktree`; None where nothing says how."""
    tests = list(_python_tests(worktree))
    if tests:
        return _python(worktree, tests)
    if (makefile := worktree / "Makefile").is_file() and re.search(r"^test\s*:(?!=)", _text(makefile), re.MULTILINE):
        return ["make", "test"]
    if (package := worktree / "package.json").is_file() and _has_test_script(package):
        return ["npm", "test"]
    if (worktree / "Cargo.toml").is_file():
        return ["cargo", "test"]
    if (worktree / "go.mod").is_file():
        return ["go", "test", "./..."]
    return None


async def run(
    sandbox: Sandbox,
    worktree: Path,
    argv: Sequence[str],
    seconds: float,
    mark: Mapping[str, str],
) -> TestRun:
    """Run `argv` in `worktree`, within `seconds`; this interpreter and its packages are readable to it."""
    readable = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    done = await sandbox.run(argv, worktree, seconds=seconds, mark=mark, readable=readable)
    command = " ".join("python" if word == sys.executable else word for word in argv)
    executed = _executed(argv, done.output)
    note = ""
    if done.timed_out:
        note = f"The tests did not end within {seconds:g} s and were stopped, so they have not passed.\n"
    elif executed == 0:
        note = "No test was executed, so this counts as not passed.\n"
    return TestRun(
        passed=done.returncode == 0 and not done.timed_out and executed != 0,
        command=command,
        output=note + done.output,
        seconds=done.seconds,
        timed_out=done.timed_out,
    )


# --- which command ---------------------------------------------------------------------------------------------------


def _python(worktree: Path, tests: list[Path]) -> list[str]:
    source = ["env", "PYTHONPATH=src"] if (worktree / "src").is_dir() else []
    # Bytecode and caches would turn up in the worktree as if they were part of the work.
    python = [*source, sys.executable, "-B"]
    if _uses_pytest(worktree, tests) and find_spec("pytest"):
        return [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return [*python, "-m", "unittest", "discover", *_start(worktree, tests)]


def _start(worktree: Path, tests: list[Path]) -> list[str]:
    """Discovery enters packages only: a folder of tests that is none has to be named."""
    folders = {test.relative_to(worktree).parts[0] for test in tests}
    folder = folders.pop()
    return ["-s", folder] if not folders and (worktree / folder).is_dir() and not (worktree / folder / "__init__.py").exists() else []


def _python_tests(worktree: Path) -> Iterator[Path]:
    for pattern in ("test*.py", "*_test.py"):
        for path in sorted(worktree.rglob(pattern)):
            folders = path.relative_to(worktree).parts[:-1]
            if not any(folder.startswith(".") or folder in _SKIPPED_FOLDERS for folder in folders) and path.is_file():
                yield path


def _uses_pytest(worktree: Path, tests: list[Path]) -> bool:
    said = any((worktree / name).is_file() and sign in _text(worktree / name) for name, sign in _PYTEST_SIGNS.items())
    return said or not any(re.search(r"^\s*(?:import|from) unittest\b", _text(test), re.MULTILINE) for test in tests)


def _has_test_script(package: Path) -> bool:
    try:
        scripts = json.loads(_text(package)).get("scripts", {})
    except (ValueError, AttributeError):
        return False
    return isinstance(scripts, dict) and "test" in scripts


def _text(path: Path) -> str:
    """A link could lead out of the worktree, and this runs outside the sandbox."""
    return "" if path.is_symlink() else path.read_text(errors="replace")


# --- how many tests --------------------------------------------------------------------------------------------------


def _executed(argv: Sequence[str], output: str) -> int | None:
    """How many tests were executed, as the runner said; None where it is not known how this one says it."""
    words = set(argv)
    if "pytest" in words:
        return _sum(r"(\d+) (?:passed|failed|xfailed|xpassed)\b", _last_line(output, " in "))
    if "unittest" in words:
        if re.search(r"^NO TESTS RAN.*\Z", output.rstrip(), re.MULTILINE):
            return 0  # the unittest of Python 3.12.1 counts what was skipped under `skipped` alone
        more = _sum(r"^Ran (\d+) tests?", output) - _sum(r"skipped=(\d+)", _last_line(output, "skipped="))
        return more if more > 0 else _marks(output)
    if "cargo" in words:
        return _sum(r"^test result: .*?(\d+) passed", output) + _sum(r"^test result: .*?(\d+) failed", output)
    if "go" in words:
        return len(re.findall(r"^(?:ok\s(?!.*\[no tests)|FAIL\s|--- FAIL)", output, re.MULTILINE))
    known = (r"^Ran (\d+) tests?", r"^# tests (\d+)", r"^ℹ tests (\d+)", r"(\d+) (?:passed|passing)\b")
    found = [_sum(pattern, output) for pattern in known if re.search(pattern, output, re.MULTILINE)]
    return max(found, default=None)


def _marks(output: str) -> int:
    """How many tests unittest has marked as executed, a character each. What is skipped it counts among those that it ran or not, by its
    version and by who skips (a test, its class, its module): where as many were skipped as ran, only the marks tell."""
    return sum(len(line) - line.count("s") for line in re.findall(r"^[.sFExu]+$", output, re.MULTILINE))


def _sum(pattern: str, text: str) -> int:
    return sum(map(int, re.findall(pattern, text, re.MULTILINE)))


def _last_line(output: str, sign: str) -> str:
    return next((line for line in reversed(output.splitlines()) if sign in line), "")
