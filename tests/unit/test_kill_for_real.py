"""The ladder, the journal on disk and the warden together, against a real process that does nothing it is asked to."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from interlock.actors.process import INCARNATION_MARK, Identity, alive, look, marked, send
from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.core import Supervisor, World
from interlock.actors.supervisor.receipt import text
from interlock.actors.supervisor.sqlite_journal import SqliteJournal
from interlock.actors.supervisor.sweep import Pace
from interlock.actors.warden import Warden
from interlock.schemas.ports import Left, Processes, TaskOrder
from interlock.schemas.record import Receipt
from interlock.schemas.stops import StopOrder

REPLICA = """
    import os, signal, subprocess, time
    from pathlib import Path
    from interlock.actors.board import Board
    from interlock.actors.process import mark_self
    mark_self("pricing-1")
    Board.create(Path({directory!r}), "pricing-1").enter("tsk_a")
    subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 100; done"])
    while True: pass
"""


class WallClock:
    def now(self) -> int:
        return time.time_ns() // 1_000


class Everybody:
    """A bus whose orchestrator and only replica answer nothing."""

    def __init__(self) -> None:
        self.lost_names: list[str] = []

    def incarnations(self) -> list[str]:
        return [] if self.lost_names else ["pricing-1"]

    async def cancel(self, incarnation: str, tasks: Sequence[str]) -> bool:
        await asyncio.Event().wait()
        return False

    async def lost(self, incarnation: str, why: str) -> None:
        self.lost_names.append(incarnation)

    async def order(self, orders: Sequence[TaskOrder]) -> Left:
        await asyncio.Event().wait()
        raise AssertionError

    async def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        return

    async def stop_all(self, stop: StopOrder, orders: Sequence[TaskOrder]) -> Left:
        raise AssertionError

    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def receipts(self, receipts: Sequence[Receipt]) -> None:
        raise AssertionError

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        raise AssertionError

    def waits(self, incarnation: str) -> str:
        raise AssertionError

    async def stop(self, incarnation: str) -> None:
        raise AssertionError

    async def leave(self, incarnation: str) -> None:
        raise AssertionError

    async def loads(self) -> dict[str, Demand]:
        raise AssertionError

    def joined(self, pool: str, incarnation: str) -> None:
        raise AssertionError


async def stop_it(directory: Path, everybody: Everybody, processes: Processes) -> Receipt:
    clock = WallClock()
    journal = SqliteJournal(directory / "supervisor.db", clock, create=True)
    world = World(everybody, everybody, processes, everybody, everybody.leave, everybody.joined, everybody.loads)
    supervisor = Supervisor(journal, clock, world, Pace(grace=0.1))
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(30):
            return await supervisor.ladder.kill("tsk_a", "ann", "enough")
    finally:
        running.cancel()
        await asyncio.wait([running])
        journal.close()


@pytest.mark.parametrize("state", ["busy", "stopped"])
def test_a_replica_that_answers_nothing_is_stopped_with_all_its_children(tmp_path: Path, state: str) -> None:
    code = textwrap.dedent(REPLICA).format(directory=str(tmp_path))
    everybody, warden = Everybody(), Warden(tmp_path)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as replica:
        try:
            assert replica.stdout is not None
            assert replica.stdout.readline() == "ready\n"
            seen = look(replica.pid)
            assert seen is not None
            tree: list[Identity] = [seen.identity, *warden.descendants("pricing-1")]
            assert len(tree) >= 2
            if state == "stopped":
                send(seen.identity, signal.SIGSTOP)
            receipt = asyncio.run(stop_it(tmp_path, everybody, warden))
        finally:
            replica.kill()
    assert receipt.verified
    assert [(entry["incarnation"], entry["how"]) for entry in receipt.processes] == [("pricing-1", "killed")]
    assert not any(map(alive, tree))
    assert marked(INCARNATION_MARK, "pricing-1") == []
    assert everybody.lost_names == ["pricing-1"]
    assert "pricing-1: killed" in text(receipt)
    assert "tsk_a stopped" in text(receipt)
