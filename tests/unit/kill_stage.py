"""What the tests of the kill share: everybody whom the supervisor talks to, with their faults, on virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.core import Supervisor, World
from interlock.actors.supervisor.journal import Journal, MemoryJournal, Row
from interlock.schemas.ports import Left, PeerGone, TaskOrder
from interlock.schemas.record import Receipt
from interlock.schemas.stops import StopOrder
from interlock.testing.virtual_time import VirtualClock, run

TASK = "tsk_a"


@dataclass
class Host:
    """A peer and its process. `manner`: what it does when it is asked to let go."""

    manner: str = "lets go"
    holds: set[str] = field(default_factory=lambda: {TASK})
    strays: bool = False
    delay: float = 0.01
    lives: bool = True
    how: str = "killed"


class Stage:
    """Everybody whom the supervisor talks to, with their faults; it outlives every supervisor."""

    def __init__(self, **hosts: Host) -> None:
        self.hosts = hosts
        self.present = list(hosts)
        self.lost_names: list[str] = []
        self.ended: list[str] = []
        self.told: list[tuple[str, str, str]] = []
        self.stops: list[StopOrder] = []
        self.receipts_kept: list[Receipt] = []
        self.engine_hangs_until = 0.0
        self.innocents: list[str] = []
        self.wardens_answer_from = 0.0
        self.own: str = "gone"
        self.half_seen_until = 0.0
        self.store: list[Row] = []
        self.clock = VirtualClock()

    # Hosts
    def incarnations(self) -> list[str]:
        return list(self.present)

    async def cancel(self, incarnation: str, tasks: Sequence[str]) -> bool:
        host = self.hosts[incarnation]
        await asyncio.sleep(host.delay)
        if not host.lives:
            raise PeerGone
        match host.manner:
            case "lets go":
                host.holds.difference_update(tasks)
                return True
            case "lies":
                return True
            case "refuses":
                return False
            case "fails":
                raise RuntimeError("the network is down")
        await asyncio.Event().wait()
        raise AssertionError

    async def lost(self, incarnation: str, why: str) -> None:
        self.lost_names.append(incarnation)
        if incarnation in self.present:
            self.present.remove(incarnation)

    # Processes
    async def _warden(self) -> None:
        if asyncio.get_running_loop().time() < self.wardens_answer_from:
            await asyncio.Event().wait()

    async def holders(self, tasks: Sequence[str]) -> list[str]:
        await self._warden()
        return [name for name, host in self.hosts.items() if host.lives and host.holds.intersection(tasks)]

    async def strays(self, tasks: Sequence[str]) -> list[str]:
        await self._warden()
        return [name for name, host in self.hosts.items() if host.lives and host.strays]

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        await self._warden()
        ended = {}
        for name in incarnations:
            host = self.hosts[name]
            ended[name] = host.how if host.lives else "gone"
            host.lives = host.lives and host.how == "unverified"
            self.ended.append(name)
        return ended

    async def end_tasks(self, tasks: Sequence[str]) -> str:
        await self._warden()
        if asyncio.get_running_loop().time() < self.half_seen_until:
            return "unverified"
        own, self.own = self.own, "gone"
        return own

    # Orders
    async def order(self, orders: Sequence[TaskOrder]) -> Left:
        if asyncio.get_running_loop().time() < self.engine_hangs_until:
            await asyncio.Event().wait()
        self.told += [(one.id, one.task, one.what) for one in orders]
        return Left([], [])

    async def stop_all(self, stop: StopOrder, orders: Sequence[TaskOrder]) -> Left:
        self.stops.append(stop)
        return await self.order(orders)

    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        if asyncio.get_running_loop().time() < self.engine_hangs_until:
            await asyncio.Event().wait()
        return [name for name in peers if name in self.innocents]

    async def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        return

    async def receipts(self, receipts: Sequence[Receipt]) -> None:
        self.receipts_kept += receipts

    # Spawner, unused here
    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        raise AssertionError

    def waits(self, incarnation: str) -> str:
        raise AssertionError

    async def stop(self, incarnation: str) -> None:
        raise AssertionError

    def world(self) -> World:
        async def leave(incarnation: str) -> None:
            raise AssertionError

        async def loads() -> dict[str, Demand]:
            raise AssertionError

        return World(self, self, self, self, leave, lambda pool, incarnation: None, loads)


class Life:
    """One incarnation of the supervisor, as a context."""

    def __init__(self, stage: Stage, journal: Journal | None = None) -> None:
        self.stage = stage
        self.journal = journal or MemoryJournal(stage.clock, stage.store)

    async def __aenter__(self) -> Supervisor:
        self.supervisor = Supervisor(self.journal, self.stage.clock, self.stage.world())
        self.running = asyncio.create_task(self.supervisor.run())
        await asyncio.sleep(0)
        return self.supervisor

    async def __aexit__(self, *failure: object) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])


def how(receipt: Receipt) -> dict[str, str]:
    return {entry["incarnation"]: entry["how"] for entry in receipt.processes}


def kill(stage: Stage, after: Callable[[Supervisor], Awaitable[None]] | None = None) -> tuple[Receipt, float]:
    """Kill the task and let everything settle; the receipt and the seconds until it came."""

    async def main() -> tuple[Receipt, float]:
        async with Life(stage) as supervisor:
            await supervisor.budgets.open(TASK, {"tokens": 100}, stage.clock.now())
            began = asyncio.get_running_loop().time()
            receipt = await supervisor.ladder.kill(TASK, "ann", "enough")
            took = asyncio.get_running_loop().time() - began
            if after is not None:
                await after(supervisor)
            await asyncio.sleep(120)
            assert stage.receipts_kept == [receipt]
            assert [row.kind for row in stage.store].count("receipt") == 1
            assert stage.store[-1].kind == "acknowledged"
            assert {task for _, task, _ in stage.told} == {TASK}
            return receipt, took

    return run(main())
