"""The board: what a process notes is what a reader sees, whatever happens to the process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.actors.board import SLOTS, UNKNOWN, Board, View, board_path, ended_path, read, retire
from interlock.actors.process import own_identity, ticks_now


def view(directory: Path, incarnation: str = "pricing-1") -> View:
    board = read(board_path(directory, incarnation))
    assert board is not None
    return board


def test_a_reader_sees_who_it_is_and_what_it_holds(tmp_path: Path) -> None:
    board = Board.create(tmp_path, "pricing-1")
    before = ticks_now()
    slot = board.enter("tsk_a")
    assert view(tmp_path).owner == own_identity()
    assert view(tmp_path).holds("tsk_a")
    assert not view(tmp_path).holds("tsk_")
    assert not view(tmp_path).holds("tsk_ab")
    board.leave(slot)
    assert not view(tmp_path).holds("tsk_a")
    since = view(tmp_path).since("tsk_a")
    assert since is not None
    assert before <= since <= ticks_now()
    assert view(tmp_path).since("tsk_b") is None
    assert read(board_path(tmp_path, "nobody-1")) is None
    assert [path.name for path in tmp_path.iterdir()] == ["pricing-1.board"]


def test_a_task_held_twice_is_held_until_both_are_left(tmp_path: Path) -> None:
    board = Board.create(tmp_path, "pricing-1")
    first, second = board.enter("tsk_a"), board.enter("tsk_a")
    board.leave(first)
    assert view(tmp_path).holds("tsk_a")
    board.leave(second)
    assert not view(tmp_path).holds("tsk_a")


def test_names_of_any_length_are_told_apart(tmp_path: Path) -> None:
    board = Board.create(tmp_path, "pricing-1")
    long = "tsk_" + "x" * 200
    board.enter(long + "1")
    assert view(tmp_path).holds(long + "1")
    assert not view(tmp_path).holds(long + "2")


def test_a_full_board_may_hold_anything(tmp_path: Path) -> None:
    board = Board.create(tmp_path, "pricing-1")
    slots = [board.enter(f"tsk_{n}") for n in range(SLOTS)]
    assert not view(tmp_path).holds("tsk_more")
    assert board.enter("tsk_more") == UNKNOWN
    assert view(tmp_path).holds("tsk_never_seen")
    board.leave(UNKNOWN)
    board.leave(slots[3])
    assert not view(tmp_path).holds("tsk_never_seen")
    assert not view(tmp_path).holds("tsk_3")
    assert view(tmp_path).holds("tsk_4")


def test_an_incarnation_has_one_board_for_ever(tmp_path: Path) -> None:
    Board.create(tmp_path, "pricing-1")
    with pytest.raises(FileExistsError):
        Board.create(tmp_path, "pricing-1")


def test_the_note_survives_its_writer(tmp_path: Path) -> None:
    script = f"""
        import os
        from pathlib import Path
        from interlock.actors.board import Board
        Board.create(Path({str(tmp_path)!r}), "pricing-1").enter("tsk_a")
        os.kill(os.getpid(), 9)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert child.returncode == -9
    assert view(tmp_path).holds("tsk_a")
    assert view(tmp_path).owner.pid != os.getpid()


def test_another_file_is_not_taken_for_a_board(tmp_path: Path) -> None:
    board_path(tmp_path, "pricing-1").write_bytes(b"x" * 64 * (SLOTS + 1))
    with pytest.raises(ValueError, match="not a board"):
        read(board_path(tmp_path, "pricing-1"))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_held_is_what_was_entered_and_not_left(tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, bool]]) -> None:
    directory = tmp_path_factory.mktemp("run")
    board = Board.create(directory, "pricing-1")
    held: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for task, leave in moves:
        if leave and held[task]:
            board.leave(held[task].pop())
        else:
            held[task].append(board.enter(task))
    assert {task for task in held if view(directory).holds(task)} == {task for task, slots in held.items() if slots}


@pytest.mark.parametrize("gone", ["board", "old"])
def test_two_wardens_may_put_the_same_board_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """The one before, on its way out, has been quicker by a moment."""
    Board.create(tmp_path, "pricing-1").enter("tsk_a")
    old = ended_path(tmp_path, "old-1")
    old.touch()
    os.utime(old, (0, 0))
    unlink = Path.unlink

    def after_another(path: Path, missing_ok: bool = False) -> None:
        if path == (old if gone == "old" else board_path(tmp_path, "pricing-1")):
            unlink(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", after_another)
    retire(tmp_path, "pricing-1")
    assert not old.exists()
    assert read(ended_path(tmp_path, "pricing-1")) is not None
