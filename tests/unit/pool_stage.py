"""Pools on virtual time: who makes their members and tells them what there is to do, with faults."""

import asyncio
from collections.abc import Callable

from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.journal import MemoryJournal, Row
from interlock.actors.supervisor.pools import Pools
from interlock.testing.virtual_time import VirtualClock


class Ground:
    """A spawner and an engine, with their faults. `live` are the processes that exist."""

    def __init__(self) -> None:
        self.store: list[Row] = []
        self.live: set[str] = set()
        self.named: list[str] = []
        self.spawned: list[tuple[float, str]] = []
        self.joined: list[str] = []
        self.ready = asyncio.Event()
        self.log: list[str] = []
        self.spawn_takes = 0.1
        self.spawn_fails: Callable[[str], bool] = lambda name: False
        self.work_takes = 1.0
        self.leave_fails = 0
        self.waiting = ""
        self.loads: dict[str, Demand] = {}
        self.asked = 0

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        assert kind == "agent"
        assert incarnation not in self.named
        self.named.append(incarnation)
        self.spawned.append((asyncio.get_running_loop().time(), incarnation))
        self.live.add(incarnation)
        await asyncio.sleep(self.spawn_takes)
        if self.spawn_fails(incarnation):
            raise RuntimeError("no room")

    async def told(self) -> dict[str, Demand]:
        self.asked += 1
        if not self.loads:
            raise RuntimeError("the engine is away")
        return self.loads

    def waits(self, incarnation: str) -> str:
        return self.waiting

    async def stop(self, incarnation: str) -> None:
        self.log.append(f"stop {incarnation}")
        self.live.discard(incarnation)

    def join(self, pool: str, incarnation: str) -> None:
        self.joined.append(incarnation)
        self.ready.set()

    async def leave(self, incarnation: str) -> None:
        if self.leave_fails:
            self.leave_fails -= 1
            raise RuntimeError("the engine is away")
        self.log.append(f"leave {incarnation}")
        await asyncio.sleep(self.work_takes)
        self.log.append(f"left {incarnation}")


class Life:
    """One incarnation of the pools, as a context."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    async def __aenter__(self) -> Pools:
        journal = MemoryJournal(VirtualClock(), self.ground.store)
        pools = Pools(journal, self.ground, self.ground.leave, self.ground.join, self.ground.told)
        for row in journal.rows():
            pools.apply(row)
        self.running = asyncio.create_task(pools.run())
        await asyncio.sleep(0)
        return pools

    async def __aexit__(self, *failure: object) -> None:
        assert not self.running.done()
        self.running.cancel()
        await asyncio.wait([self.running])
