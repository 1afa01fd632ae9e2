"""The two commands that a newcomer types first, as they are: a process of their own, a Ray of their own, files that stay.

All else that they do is tried without Ray, in `test_deliver_command.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def interlock(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it in `folder`, with nobody at a terminal and no model in the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "INTERLOCK_"))}
    return subprocess.run(
        [sys.executable, "-c", "from interlock.cli import main; main()", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_the_demo(tmp_path: Path) -> None:
    done = interlock(tmp_path, "demo", "--yes", "--keep", "kept")
    assert (done.returncode, done.stderr) == (0, "")
    shown = subprocess.run(
        ["git", "-C", tmp_path / "kept" / "splitbill", "show", "--stat", "--format=%H", "interlock/staging"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "splitbill/money.py" in shown
    for said in ("is scripted", "tests failed in", "tests passed in", shown.split()[0], "ledger intact: ", "next "):
        assert said in done.stdout
    verified = interlock(tmp_path, "audit", "verify", "--ledger", "kept/bus/ledger.db")
    assert (verified.returncode, verified.stdout.partition(":")[0]) == (0, "ledger intact")


def test_deliver_without_a_model(tmp_path: Path) -> None:
    done = interlock(tmp_path, "deliver", "--repo", ".", "--goal", "anything", "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("No model is configured: OPENAI_API_KEY and INTERLOCK_MODEL are not set.")
    assert list(tmp_path.iterdir()) == []
