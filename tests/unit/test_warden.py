"""The warden against real processes: whatever they do to stay, they end, and nobody else does."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.actors.board import KEEP_ENDED_SECONDS, board_path, ended_path, retire
from interlock.actors.ending import GONE, KILLED, UNVERIFIED
from interlock.actors.process import (
    INCARNATION_MARK,
    TASK_MARK,
    Identity,
    alive,
    descendants,
    look,
    marked,
    own_identity,
    send,
)
from interlock.actors.warden import OwnProcess, Warden

# Each is what a replica's own program does after its board shows tsk_a.
PROGRAMS = {
    "busy loop": "\nprint('ready', flush=True)\nwhile True: pass",
    "ignores SIGTERM": """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('ready', flush=True)
        time.sleep(100)
    """,
    "child that ignores SIGTERM": """
        subprocess.Popen(['sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 100; done'])
        time.sleep(100)
    """,
    "setsid grandchild": """
        subprocess.Popen(['sh', '-c', 'setsid sleep 100 & echo ready; sleep 100'])
        time.sleep(100)
    """,
    "daemonised by a double fork": """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                print('ready', flush=True)
                time.sleep(100)
            os._exit(0)
        os.wait()
        time.sleep(100)
    """,
    "fork storm": """
        for _ in range(3):
            if os.fork() == 0:
                while True:
                    if os.fork() == 0:
                        time.sleep(0.05)
                        os._exit(0)
                    try:
                        while os.waitpid(-1, os.WNOHANG)[0]: pass
                    except ChildProcessError: pass
                    time.sleep(0.001)
        print('ready', flush=True)
        time.sleep(100)
    """,
}

PRELUDE = """
import os, signal, subprocess, sys, time
from pathlib import Path
from interlock.actors.board import Board, KEEP_ENDED_SECONDS, ended_path, retire
from interlock.actors.process import mark_self
mark_self({incarnation!r})
board = Board.create(Path({directory!r}), {incarnation!r})
slot = board.enter('tsk_a')
"""


class Nursery:
    """Starts replicas and sees to it that none outlives its test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warden = Warden(directory)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, incarnation: str, program: str) -> Identity:
        code = PRELUDE.format(incarnation=incarnation, directory=str(self.directory)) + textwrap.dedent(program)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seen = look(process.pid)
        assert seen is not None
        return seen.identity

    def close(self) -> None:
        for path in self.directory.glob("*.board"):
            asyncio.run(self.warden.end([path.name.removesuffix(".board")]))
        for process in self.started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_tree_is_ended_whole(nursery: Nursery, program: str) -> None:
    root = nursery.start("pricing-1", program)
    tree = nursery.warden.descendants("pricing-1")
    assert asyncio.run(nursery.warden.holders(["tsk_a"])) == ["pricing-1"]
    assert asyncio.run(nursery.warden.end(["pricing-1"])) == {"pricing-1": KILLED}
    assert not alive(root)
    assert not any(map(alive, tree))
    assert marked(INCARNATION_MARK, "pricing-1") == []
    assert asyncio.run(nursery.warden.holders(["tsk_a"])) == []
    assert asyncio.run(nursery.warden.end(["pricing-1"])) == {"pricing-1": GONE}


def test_a_stopped_process_is_ended_and_seen(nursery: Nursery) -> None:
    root = nursery.start("pricing-1", PROGRAMS["busy loop"])
    send(root, signal.SIGSTOP)
    assert asyncio.run(nursery.warden.holders(["tsk_a"])) == ["pricing-1"]
    assert asyncio.run(nursery.warden.end(["pricing-1"])) == {"pricing-1": KILLED}
    assert not alive(root)


def test_innocents_live(nursery: Nursery) -> None:
    guilty = nursery.start("pricing-1", PROGRAMS["setsid grandchild"])
    innocent = nursery.start("pricing-11", PROGRAMS["setsid grandchild"])
    theirs = nursery.warden.descendants("pricing-11")
    asyncio.run(nursery.warden.end(["pricing-1"]))
    assert not alive(guilty)
    assert alive(innocent)
    assert theirs
    assert all(map(alive, theirs))


def test_what_a_dead_root_left_behind_is_ended_before_it_is_reported(nursery: Nursery) -> None:
    program = "subprocess.Popen(['setsid', 'sh', '-c', 'echo ready; sleep 100'])\ntime.sleep(100)"
    root = nursery.start("pricing-1", program)
    left = nursery.warden.descendants("pricing-1")
    nursery.start("pricing-2", PROGRAMS["ignores SIGTERM"])

    async def main() -> str:
        watch = nursery.warden.watch(every=0.01)
        first = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        assert not first.done()
        assert send(root, signal.SIGKILL)
        name = await asyncio.wait_for(first, 10)
        await watch.aclose()
        return name

    assert asyncio.run(main()) == "pricing-1"
    assert left
    assert not any(map(alive, left))


def test_a_pid_that_now_is_another_process_is_left_alone(nursery: Nursery) -> None:
    root = nursery.start("pricing-1", PROGRAMS["busy loop"])
    other = Identity(root.pid, root.start - 1)
    assert not alive(other)
    assert not send(other, signal.SIGKILL)
    assert alive(root)
    # The board of a process that has ended, whose pid has passed to somebody else.
    data = bytearray(board_path(nursery.directory, "pricing-1").read_bytes())
    data[16:24] = (root.start - 1).to_bytes(8, "little")
    board_path(nursery.directory, "gone-1").write_bytes(data)
    assert asyncio.run(nursery.warden.end(["gone-1"])) == {"gone-1": GONE}
    assert asyncio.run(nursery.warden.holders(["tsk_a"])) == ["pricing-1"]
    assert alive(root)


def test_who_has_no_board_is_unverified(tmp_path: Path) -> None:
    assert asyncio.run(Warden(tmp_path).end(["nobody-1"])) == {"nobody-1": UNVERIFIED}


def test_a_warden_does_not_end_itself(tmp_path: Path) -> None:
    code = PRELUDE.format(incarnation="pricing-1", directory=str(tmp_path)) + textwrap.dedent(
        """
        import asyncio
        from interlock.actors.warden import Warden
        print(asyncio.run(Warden(Path(sys.argv[1])).end(['pricing-1'])))
        """
    )
    environment = {**os.environ, INCARNATION_MARK: "pricing-1"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "{'pricing-1': 'unverified'}\n"


def test_a_zombie_is_gone() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    seen = look(child.pid)
    assert seen is not None
    assert seen.gone
    assert not alive(seen.identity)
    assert seen not in descendants(os.getpid())
    child.wait()


MARKED_CHILD = """
    child = subprocess.Popen(['sh', '-c', 'env -i sleep 100 & echo ready; wait'], env={{**os.environ, 'INTERLOCK_TASK': {task!r}}})
    time.sleep(100)
"""


@pytest.mark.parametrize("via", ["warden", "own process"])
def test_a_task_s_own_processes_end_alone(nursery: Nursery, via: str) -> None:
    processes = nursery.warden if via == "warden" else OwnProcess(lambda task: [])
    root = nursery.start("pricing-1", MARKED_CHILD.format(task="tsk_a"))
    below = nursery.warden.descendants("pricing-1")
    assert len(below) == 2
    assert asyncio.run(processes.end_tasks(["tsk_b"])) == GONE
    assert all(map(alive, below))
    assert asyncio.run(processes.end_tasks(["tsk_a"])) == KILLED
    assert not any(map(alive, below))
    assert alive(root)
    assert marked(TASK_MARK, "tsk_a") == []


@pytest.mark.parametrize(
    ("program", "strays"),
    [
        ("subprocess.Popen(['sh', '-c', 'echo ready; sleep 100'])\nboard.leave(slot); time.sleep(100)", ["pricing-1"]),
        (MARKED_CHILD.format(task="tsk_a"), []),
        (MARKED_CHILD.format(task="tsk_b"), []),
        (PROGRAMS["ignores SIGTERM"], []),
    ],
    ids=["nobody's", "its own", "another's", "none"],
)
def test_children_that_nobody_owns_are_found(nursery: Nursery, program: str, strays: list[str]) -> None:
    nursery.start("pricing-1", program)
    assert asyncio.run(nursery.warden.strays(["tsk_a"])) == strays
    assert asyncio.run(nursery.warden.strays(["tsk_never_here"])) == []


def test_a_child_from_before_the_task_is_no_stray(nursery: Nursery) -> None:
    program = """
        early = subprocess.Popen(['sleep', '100'])
        time.sleep(0.05)
        board.leave(slot)
        board.enter('tsk_later')
        print('ready', flush=True)
        time.sleep(100)
    """
    nursery.start("pricing-1", program)
    assert asyncio.run(nursery.warden.strays(["tsk_later"])) == []
    assert asyncio.run(nursery.warden.strays(["tsk_a"])) == ["pricing-1"]


def test_one_s_own_identity_is_alive() -> None:
    assert alive(own_identity())


def test_the_board_of_one_that_has_ended_makes_room(nursery: Nursery) -> None:
    async def main() -> None:
        watch = nursery.warden.watch(every=0.01)
        root = nursery.start("pricing-1", PROGRAMS["busy loop"])
        other = nursery.start("pricing-2", PROGRAMS["busy loop"])
        send(root, signal.SIGKILL)
        assert await anext(watch) == "pricing-1"
        assert board_path(nursery.directory, "pricing-1").exists(), "until whoever was told has taken it in"
        send(other, signal.SIGKILL)
        assert await anext(watch) == "pricing-2"
        await watch.aclose()

    asyncio.run(main())
    assert not board_path(nursery.directory, "pricing-1").exists()
    assert asyncio.run(nursery.warden.end(["pricing-1", "pricing-0"])) == {"pricing-1": GONE, "pricing-0": UNVERIFIED}


def test_what_is_kept_of_the_ended_is_not_kept_for_ever(tmp_path: Path) -> None:
    for name in ("pricing-1", "pricing-2"):
        retire(tmp_path, name)
    long_ago = ended_path(tmp_path, "pricing-1").stat().st_mtime - KEEP_ENDED_SECONDS - 1
    os.utime(ended_path(tmp_path, "pricing-1"), (long_ago, long_ago))
    retire(tmp_path, "pricing-3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pricing-2.ended", "pricing-3.ended"]


def test_children_end_without_their_parent(nursery: Nursery) -> None:
    root = nursery.start("pricing-1", PROGRAMS["setsid grandchild"])
    below = nursery.warden.descendants("pricing-1")
    asyncio.run(nursery.warden.end_children(["pricing-1", "never-1"]))
    assert below
    assert not any(map(alive, below))
    assert alive(root)


def test_who_uses_more_memory_than_it_may_is_ended_and_its_remains_say_why(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from interlock.actors.board import Board
from interlock.actors.process import mark_self
mark_self("runners-1")
Board.create(Path({str(tmp_path)!r}), "runners-1", 150_000_000).enter("tsk_a")
print(flush=True)
kept = bytearray(b"x") * 300_000_000
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        warden = Warden(tmp_path)

        async def first() -> str:
            watching = warden.watch(every=0.02)
            name = await anext(watching)
            await watching.aclose()
            retire(tmp_path, name)
            return name

        assert asyncio.run(first()) == "runners-1"
        process.wait()
    at_work, why = asyncio.run(warden.inquire("runners-1", ["tsk_a", "tsk_b"])) or ({}, "")
    assert list(at_work) == ["tsk_a"]
    assert why == warden.why("runners-1")
    assert "and may use 150 MB" in why
    assert asyncio.run(warden.inquire("runners-2", ["tsk_a"])) is None
