"""The demo's input: a real git repository with a genuine bug and a failing test, made from `examples/delivery/`.

The same files make the same commit, wherever and whenever.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from interlock.schemas.errors import GitFailed, Refused
from interlock.tools.git import environment

EXAMPLE = Path(__file__).resolve().parent / "examples" / "delivery"

GOAL = "Splitting an amount must not lose a cent: the shares always add up to the amount, and equal weights differ by one cent at most."

_WHEN = "@1760000000 +0000"


def make_repository(path: Path, extra_failing_test: bool = False) -> str:
    """Make the repository at `path`, which must not exist or be empty; the commit on its branch `main`.

    `extra_failing_test` adds a test of an unrelated requirement, so that `diffs/right.diff` no longer passes all tests.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Refused(detail=f"{path} is not an empty directory, so the example is not written there. Name one that is, or a new one.")
    for part in ("repository", "extra") if extra_failing_test else ("repository",):
        shutil.copytree(EXAMPLE / part, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    _git(path, "init", "--quiet", "--initial-branch=main", "--template=")
    _git(path, "add", "--all")
    _git(path, "commit", "--quiet", "--message=Split bills among friends")
    return _git(path, "rev-parse", "HEAD")


def diff(name: str) -> str:
    """The text of `diffs/NAME.diff`: `wrong` or `right`."""
    return (EXAMPLE / "diffs" / f"{name}.diff").read_text()


def playbook() -> dict[str, Any]:
    """What the demo's model answers: `playbook.json`, where `{"$diff": NAME}` stands for the text of that diff."""

    def whole(value: dict[str, Any]) -> Any:
        return diff(value["$diff"]) if set(value) == {"$diff"} else value

    loaded: dict[str, Any] = json.loads((EXAMPLE / "playbook.json").read_text(), object_hook=whole)
    return loaded


def _git(path: Path, *arguments: str) -> str:
    dated = {**environment(), "GIT_AUTHOR_DATE": _WHEN, "GIT_COMMITTER_DATE": _WHEN}
    done = subprocess.run(["git", *arguments], cwd=path, env=dated, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GitFailed(command=arguments[0], problem=done.stderr.strip(), remedy=f"Correct what it names, remove {path} and try again.")
    return done.stdout.strip()
