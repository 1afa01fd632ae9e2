"""The supervisor put together: one journal, and what is kept in it.

It waits for nobody to do its work: not for the orchestrator, not for a peer. It dies with its journal and with nothing else; the
next incarnation reads the journal and goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.compaction import Compaction
from interlock.actors.supervisor.journal import Journal
from interlock.actors.supervisor.kill import Ladder
from interlock.actors.supervisor.members import PoolPace, Spawner
from interlock.actors.supervisor.pools import Pools
from interlock.actors.supervisor.stops import Stops
from interlock.actors.supervisor.sweep import Pace
from interlock.schemas.errors import StorePaused
from interlock.schemas.ports import Clock, Hosts, Orders, Processes, Stall
from interlock.schemas.times import rfc3339

_LOG = logging.getLogger("interlock.supervisor")
_TELL_SECONDS, _TELL_AGAIN_SECONDS = 5.0, 1.0


class World(NamedTuple):
    """Whom the supervisor reaches. `leave` and `joined` are told to the engine, `loads` are asked of it: see `Pools`."""

    orders: Orders
    hosts: Hosts
    processes: Processes
    spawner: Spawner
    leave: Callable[[str], Awaitable[None]]
    joined: Callable[[str, str], None]
    loads: Callable[[], Awaitable[dict[str, Demand]]]


class Supervisor:
    """`budgets`, `ladder` and `pools` over one journal. Make it on the running loop that it shall live on, then `run` it."""

    def __init__(self, journal: Journal, clock: Clock, world: World, pace: Pace | None = None, pool_pace: PoolPace | None = None) -> None:
        self._journal, self._orders, self._clock = journal, world.orders, clock
        self.budgets = SupervisorBudgets(journal, clock, lambda task, why: self.ladder.out_of_time(task, why))
        self.pools = Pools(journal, world.spawner, world.leave, world.joined, world.loads, pool_pace)
        stops = Stops(self.budgets, self.pools)
        self.ladder = Ladder(journal, self.budgets, stops, world.orders, world.hosts, world.processes, clock, pace)
        for row in journal.rows():
            self.budgets.apply(row)
            self.ladder.apply(row)
            self.pools.apply(row)
        self.ladder.fence()
        if self.budgets.meters.neared:
            self.budgets.nearing.set()
        stops.hold()
        self._compaction = Compaction(journal, self.budgets.meters, self.ladder, self.pools, clock)

    @property
    def slow(self) -> Stall | None:
        """What is to be said of a journal that everybody has to wait for."""
        return self._journal.slow

    def status(self) -> dict[str, Any]:
        """What is stopped until somebody opens it, which orders are being carried out, how many tasks each tenant has, which limits that
        tasks share are nearly used up, and what of the models' rates is used."""
        stops = [{"selection": str(stop.selection), "since": rfc3339(stop.requested), **stop._asdict()} for stop in self.budgets.closures]
        meters, rates = self.budgets.meters, self.budgets.rates.shown(asyncio.get_running_loop().time())
        near = meters.scopes.nearly_used(self._clock.now())
        return {"stops": stops, "orders": self.ladder.under_way(), "tenants": meters.by_tenant(), "near_limits": near, "rates": rates}

    async def run(self) -> None:
        """Work until cancelled. Raises where the journal fails: then this incarnation is over and another one has to start; `StorePaused`
        where that may have to wait, and nothing worse has happened."""
        self.budgets.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._journal.failure())
                group.create_task(self._tell_neared())
                group.create_task(self.ladder.run())
                group.create_task(self.pools.run())
                group.create_task(self._compaction.run())
        except ExceptionGroup as failures:
            raise _worst(failures) from None
        finally:
            self.budgets.stop()

    async def _tell_neared(self) -> None:
        """Say which limits are nearly used up, until the engine has heard it; after a restart all of them once more."""
        meters = self.budgets.meters
        while True:
            await self.budgets.nearing.wait()
            self.budgets.nearing.clear()
            neared, meters.neared = meters.neared, []
            for one in neared:
                try:
                    async with asyncio.timeout(_TELL_SECONDS):
                        await self._orders.neared(*one)
                except Exception:  # noqa: BLE001 - logged, and told again
                    _LOG.warning("the engine has not heard yet that a limit is nearly used up", exc_info=True)
                    meters.neared += [one] if meters.knows(one[0]) or meters.scopes.knows(one[0]) else []
            if meters.neared:
                self.budgets.nearing.set()
                await asyncio.sleep(_TELL_AGAIN_SECONDS)


def _worst(failures: ExceptionGroup[Exception]) -> Exception:
    """The first failure that does not pass by itself, else the first."""
    found = list(_leaves(failures))
    return next((failure for failure in found if not isinstance(failure, StorePaused)), found[0])


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
