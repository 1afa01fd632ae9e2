"""The ports of engine, supervisor and gateway, in one process: each reaches whoever is the current one of its kind."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.core import Supervisor
from interlock.orchestrator.peers import PeerRef
from interlock.schemas.budget import Amount, Amounts
from interlock.schemas.errors import StorePaused
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.ports import Grant, Left, PeerGone, Reservation, TaskOrder
from interlock.schemas.record import Receipt
from interlock.schemas.stops import StopOrder

if TYPE_CHECKING:
    from interlock.assembly import Assembly

RESTART_SECONDS = 0.5
"""A fault that comes again at once must not keep the whole process busy."""

T = TypeVar("T")


class LocalSpawner:
    """`Spawner`: peers in cells of their own."""

    def __init__(self, assembly: "Assembly") -> None:
        self._assembly = assembly

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        peer = self._assembly.peer(self._assembly.host(pool, kind, incarnation), incarnation)
        self._assembly.peers[incarnation] = (PeerRef(incarnation, kind, pool, peer), peer)

    def waits(self, incarnation: str) -> str:
        return ""  # there is always room in one process

    async def stop(self, incarnation: str) -> None:
        found = self._assembly.peers.get(incarnation)
        if found is not None:
            found[1].end()
            self._assembly.announce_end(incarnation, found[1])


class LocalHosts:
    """`Hosts`: the peers, as the supervisor reaches them."""

    def __init__(self, assembly: "Assembly") -> None:
        self._assembly = assembly

    def incarnations(self) -> list[str]:
        return self._assembly.supervisor.pools.incarnations()

    async def cancel(self, incarnation: str, tasks: Sequence[str]) -> bool:
        found = self._assembly.peers.get(incarnation)
        if found is None:
            raise PeerGone
        return await found[1].cell.call(found[1].host.cancel_all(tasks))

    async def lost(self, incarnation: str, why: str) -> None:
        found = self._assembly.peers.get(incarnation)
        # Who could not be ended lives: what else it does goes on there, and must not be done by another at the same time.
        if found is None or found[1].gone:
            self._assembly.supervisor.pools.lost(incarnation, why)
        if found is not None:
            self._assembly.announce_end(incarnation, found[1])


def tell_spent(assembly: "Assembly", name: str, why: str) -> None:
    """Tell the supervisor, also one that comes later, that a replica has had the one dispatch that it is for, or fails."""

    async def tell(supervisor: Supervisor) -> None:
        supervisor.pools.spent(name, why)

    assembly.engine.background(LocalBudgets(assembly).insist(tell))


class LocalLoads:
    """What the current engine says that each pool has to do."""

    def __init__(self, assembly: "Assembly") -> None:
        self._assembly = assembly

    async def __call__(self) -> dict[str, Demand]:
        return {pool: Demand(*load) for pool, load in (await self._assembly.ask("loads")).items()}


class LocalOrders:
    """`Orders`: the engine, as the supervisor tells it of a kill."""

    def __init__(self, assembly: "Assembly") -> None:
        self._assembly = assembly

    async def order(self, orders: Sequence[TaskOrder]) -> Left:
        return await self._assembly.ask_engine(lambda: self._assembly.engine.stops.order(orders))

    async def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        async def tell() -> None:
            self._assembly.engine.limits.neared(about, meter, used, limit)

        await self._assembly.ask_engine(tell)

    async def stop_all(self, stop: StopOrder, orders: Sequence[TaskOrder]) -> Left:
        return await self._assembly.ask_engine(lambda: self._assembly.engine.stops.stop(stop, orders))

    async def receipts(self, receipts: Sequence[Receipt]) -> None:
        await self._assembly.ask_engine(lambda: self._assembly.engine.stops.receipts(receipts))

    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        return await self._assembly.ask_engine(lambda: self._assembly.engine.innocent(tasks, peers))


class LocalBudgets:
    """`Budgets`: the current supervisor's meters. While his journal cannot be written nothing is opened, and all else waits."""

    def __init__(self, assembly: "Assembly") -> None:
        self._ask_now = assembly.ask_supervisor

    async def insist(self, work: Callable[[Supervisor], Coroutine[Any, Any, T]]) -> T:
        while True:
            try:
                return await self._ask_now(work)
            except StorePaused:
                await asyncio.sleep(RESTART_SECONDS)

    async def open(self, task: str, limits: Amounts, accepted: int, epoch: int = 0, type: str = "", tenant: str = DEFAULT_TENANT) -> None:
        await self._ask_now(lambda supervisor: supervisor.budgets.open(task, limits, accepted, epoch, type, tenant))

    async def reserve(self, reservations: Sequence[Reservation]) -> list[Grant]:
        return await self.insist(lambda supervisor: supervisor.budgets.reserve(reservations))

    async def settle(self, id: str, actual: Amounts) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.settle(id, actual))

    async def forfeit(self, task: str, id: str) -> Amounts:
        return await self.insist(lambda supervisor: supervisor.budgets.forfeit(task, id))

    async def close(self, tasks: list[str], epoch: int) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.close(tasks, epoch))

    async def overran(self, endpoint: str, model: str, answered: int, allowed: int) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.overran(endpoint, model, answered, allowed))

    async def turn(self, lane: str, id: str, task: str, tokens: int, limits: tuple[int | None, int | None]) -> float:
        return await self.insist(lambda supervisor: supervisor.budgets.turn(lane, id, task, tokens, limits))

    async def came_to(self, lane: str, id: str, tokens: int) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.came_to(lane, id, tokens))

    async def leave(self, lane: str, id: str) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.leave(lane, id))

    async def shut(self, lane: str, seconds: float) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.shut(lane, seconds))

    async def called_at(self, task: str, call: str) -> list[str]:
        return await self.insist(lambda supervisor: supervisor.budgets.called_at(task, call))

    async def calls_of(self, task: str) -> list[str]:
        return await self.insist(lambda supervisor: supervisor.budgets.calls_of(task))

    async def close_forgotten(self, epoch: int, kept: Sequence[str]) -> list[str]:
        return await self.insist(lambda supervisor: supervisor.budgets.close_forgotten(epoch, kept))

    async def limited(self, task: str) -> Sequence[str]:
        return await self.insist(lambda supervisor: supervisor.budgets.limited(task))

    async def declare(self, limits: Sequence[Sequence[Any]]) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.declare(limits))

    async def limit(self, scope: str, per: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.limit(scope, per, limits, by, why))

    async def change(self, task: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        await self.insist(lambda supervisor: supervisor.budgets.change(task, limits, by, why))

    async def scopes(self) -> list[dict[str, Any]]:
        return await self.insist(lambda supervisor: supervisor.budgets.scopes())

    async def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        return await self.insist(lambda supervisor: supervisor.budgets.used(task))
