"""Scratch folders: whoever lives keeps its own, and what a killed process has left goes with the next look."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interlock.actors import warden
from interlock.tools.scratch import PREFIX, Scratch, remove_abandoned

MAKER = """
import sys, tempfile
from pathlib import Path
from interlock.actors.board import Board
from interlock.tools.scratch import Scratch
tempfile.tempdir = sys.argv[1]
Board.create(Path(sys.argv[2]), "coding-1")
scratch = Scratch.make()
(scratch.path / "files").mkdir()
(scratch.path / "files" / "code.py").write_text("x = 1")
(scratch.path / "files").chmod(0o500)
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boards")


@contextmanager
def another_process(temp: Path, boards: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """A process that has a scratch folder, and a board."""
    command = [sys.executable, "-c", MAKER, str(temp), str(boards)]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().strip()), process
        finally:
            process.kill()


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(temp: Path, boards: Path) -> None:
    with another_process(temp, boards) as (folder, process):
        mine = Scratch.make()
        assert (folder / "files" / "code.py").exists()
        process.kill()
        process.wait()
        remove_abandoned()
        next_one = Scratch.make()
        assert sorted(temp.iterdir()) == sorted([mine.path, next_one.path])
        mine.remove()
        next_one.remove()
    assert list(temp.iterdir()) == []


def test_a_warden_that_sees_a_process_end_removes_what_it_left(temp: Path, boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch() -> None:
        looked, loop = asyncio.Event(), asyncio.get_running_loop()

        def look() -> None:
            remove_abandoned()
            loop.call_soon_threadsafe(looked.set)

        monkeypatch.setattr(warden, "remove_abandoned", look)
        watching = warden.Warden(boards).watch()
        assert await anext(watching) == "coding-1"
        following = asyncio.ensure_future(anext(watching))
        async with asyncio.timeout(20):
            await looked.wait()
        following.cancel()
        await asyncio.wait([following])

    with another_process(temp, boards) as (folder, process):
        assert folder.exists()
        process.kill()
        process.wait()
        asyncio.run(watch())
    assert list(temp.iterdir()) == []


def test_what_is_no_folder_of_ours_is_not_touched(temp: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").touch()
    (temp / f"{PREFIX}link").symlink_to(elsewhere)
    (temp / f"{PREFIX}file").touch()
    (temp / "other").mkdir()
    remove_abandoned()
    assert (elsewhere / "kept").exists()
    assert len(list(temp.iterdir())) == 3
