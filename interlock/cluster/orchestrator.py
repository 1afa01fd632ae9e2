"""The orchestrator's actor: the engine and its ledger, on Ray. Ray starts it again; it takes the next epoch and goes on from the ledger."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from interlock.clock import SystemClock
from interlock.cluster.calls import answers, ask, outlast
from interlock.cluster.config import CHECKPOINTS, SUPERVISOR, BusConfig, read_secrets
from interlock.cluster.ports import Handle, RayBudgets, RayPeer
from interlock.cluster.process import begin
from interlock.orchestrator.admission import Submission
from interlock.orchestrator.engine import Engine, ledger_stalled
from interlock.orchestrator.ledger.keeper import Keeper
from interlock.orchestrator.ledger.stores import open_ledger, open_reader
from interlock.orchestrator.ledger.writer import Writer
from interlock.orchestrator.peers import PeerRef
from interlock.orchestrator.service import Service
from interlock.schemas.errors import LedgerUnreachable, StoreAway, StorePaused
from interlock.schemas.ports import Inquest, Left, Stall, TaskOrder
from interlock.schemas.record import Receipt
from interlock.schemas.stops import StopOrder
from interlock.telemetry import task_span

_LOG = logging.getLogger("interlock.orchestrator")

EXIT_SECONDS = 0.5

Wire = dict[str, Any]


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class OrchestratorActor:
    """One epoch. Every method waits until the engine has taken up what is stored, and says so where the ledger cannot be opened for now."""

    def __init__(self, config: BusConfig) -> None:
        self._config = config
        self._engine: Engine | None = None
        self._stalled: Stall | None = None
        self._settled = asyncio.Event()
        begin("interlock-orchestrator")
        # By itself: where everybody died in one moment, nobody calls.
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _service(self) -> Service:
        """Raises `LedgerStalled` where there is none for now. Once this epoch is over whoever comes waits for the end of this process, and
        calls the next one: what is left here may be half changed, and takes nothing more."""
        if not self._starting.done():
            await self._settled.wait()
            if self._stalled is not None:
                raise ledger_stalled(self._stalled)
        service = await asyncio.shield(self._starting)
        if self._engine is not None and self._engine.detached:
            await asyncio.Event().wait()
        return service

    async def _start(self) -> Service:
        try:
            clock, supervisor = SystemClock(), ray.get_actor(SUPERVISOR, namespace=self._config.name)
            place = self._config.ledger
            copies = read_secrets(self._config.home, [CHECKPOINTS]).get(CHECKPOINTS, "")
            keeper = Keeper.beside(Path(self._config.home), partial(open_reader, place), copies)
            store = await self._opened(lambda: open_ledger(place, clock, on_failure=self._failed, keeper=keeper))

            def lost(name: str, why: str) -> None:
                asyncio.get_running_loop().create_task(outlast(supervisor.lost, name, why))

            def spent(name: str, why: str) -> None:
                asyncio.get_running_loop().create_task(outlast(supervisor.spent, name, why))

            async def gone(name: str) -> bool:
                seen: bool = await outlast(supervisor.gone, name)
                return seen

            async def inquire(name: str, tasks: Sequence[str]) -> Inquest:
                return Inquest(*await ask(supervisor.inquire, name, list(tasks)))

            self._engine = engine = Engine(store, clock, RayBudgets(supervisor), lost, gone, self._failed, task_span, inquire)
            engine.dispatches.spent = spent
            # A word that is lost is said again a second later.
            engine.demand.tell = lambda: supervisor.pressed.remote()
            found = await outlast(supervisor.peers)
            await engine.open([PeerRef(name, kind, pool, RayPeer(handle)) for name, kind, pool, handle in found])
            return Service(engine, store.reader, keeper)
        except BaseException as error:
            self._failed(error)
            raise

    async def _opened(self, open_it: Callable[[], Writer]) -> Writer:
        """The ledger, as soon as the next epoch can be taken; beside the loop, for a database that is away may take its time to say so."""
        while True:
            try:
                store = (await asyncio.to_thread(open_it)).opened()
            except (StorePaused, StoreAway, LedgerUnreachable) as pause:
                if self._stalled is None:
                    _LOG.warning("the ledger cannot be opened yet: %s", pause)
                self._stalled = Stall(self._stalled.since if self._stalled is not None else SystemClock().now(), pause.problem)
                self._settled.set()
                await asyncio.sleep(EXIT_SECONDS)
            else:
                self._stalled = None
                self._settled.set()
                return store

    def _failed(self, error: BaseException) -> None:
        """This epoch is over: another process starts from the ledger, or has done so already."""
        _LOG.error("this orchestrator is over", exc_info=error)
        self._settled.set()
        if self._engine is not None:
            self._engine.detach()
        asyncio.get_running_loop().call_later(EXIT_SECONDS, os._exit, 1)

    async def _running(self) -> Engine:
        await self._service()
        assert self._engine is not None
        return self._engine

    # --- from the supervisor -----------------------------------------------------------------------------------------------------

    @answers
    async def ping(self) -> int:
        """Its process id, once it works."""
        await self._service()
        return os.getpid()

    @answers
    async def join(self, name: str, kind: str, pool: str, handle: Handle) -> None:
        (await self._running()).peers.join(PeerRef(name, kind, pool, RayPeer(handle)))

    @answers
    async def leave(self, name: str) -> None:
        await (await self._running()).peers.leave(name)

    @answers
    async def left(self, name: str) -> None:
        (await self._running()).peers.left(name)

    @answers
    async def order(self, stop: StopOrder | None, orders: list[TaskOrder]) -> Left:
        stops = (await self._running()).stops
        return await (stops.order(orders) if stop is None else stops.stop(stop, orders))

    @answers
    async def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        (await self._running()).limits.neared(about, meter, used, limit)

    @answers
    async def receipts(self, receipts: list[Receipt]) -> None:
        await (await self._running()).stops.receipts(receipts)

    @answers
    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        return await (await self._running()).innocent(tasks, peers)

    # --- from drivers ------------------------------------------------------------------------------------------------------------

    @answers
    async def submit(self, submissions: Sequence[Sequence[Any]]) -> list[Wire | None]:
        return await (await self._service()).submit([Submission(*one) for one in submissions])

    @answers
    async def outcomes(self, driver: str, fresh: Sequence[str], got: Sequence[str], first: bool, seconds: float) -> dict[str, Wire] | None:
        return await (await self._service()).outcomes(driver, fresh, got, first, seconds)

    @answers
    async def entries(self, task: str, after: int, seconds: float) -> tuple[list[tuple[Any, ...]], bool]:
        return await (await self._service()).entries(task, after, seconds)

    @answers
    async def call(self, method: str, *args: Any) -> Any:
        """Any other method of the service: those that are asked now and then, one at a time."""
        return await getattr(await self._service(), method)(*args)
