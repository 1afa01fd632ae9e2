"""The wiring of a bus in one process: who is made of what, and how each reaches the others.

Every actor can be replaced by its next incarnation while the rest goes on, as on a cluster: the ports here look up who is current.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interlock.actors.host import Replica
from interlock.actors.loop import ModelLoop
from interlock.actors.mailbox import Mailbox
from interlock.actors.models.gateway import Gateway
from interlock.actors.models.prices import Prices, read_overrides
from interlock.actors.models.wire import ChatCompletions, Endpoint
from interlock.actors.models.wire import Wire as ModelWire
from interlock.actors.registry import Registry
from interlock.actors.runner import Runner
from interlock.actors.supervisor.core import Supervisor, World
from interlock.actors.supervisor.journal import Journal, MemoryJournal, SqliteJournal
from interlock.actors.supervisor.sweep import Pace
from interlock.actors.warden import OwnProcess
from interlock.app import App
from interlock.orchestrator.engine import Engine, PeerRef
from interlock.orchestrator.ledger.memory import MemoryLedger
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.orchestrator.ledger.writer import Writer
from interlock.orchestrator.service import Service
from interlock.schemas.budget import Amount, Amounts
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError
from interlock.schemas.ports import Clock, Grant, PeerGone, Reservation
from interlock.schemas.record import Receipt
from interlock.settings import DEFAULT_BASE_URL, ModelSettings

_LOG = logging.getLogger("interlock.local")

RUNNERS, MODELS = "runners", "models"
LEDGER_FILE, JOURNAL_FILE = "ledger.db", "supervisor.db"


class LocalPeer:
    """A peer in this process. `end` is its death: it answers nobody any more."""

    def __init__(self, host: Mailbox) -> None:
        self.host = host
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def exchange(self, request: bytes) -> bytes:
        if self._gone.done():
            raise PeerGone
        answer: asyncio.Future[bytes] = asyncio.ensure_future(self.host.exchange(request))
        waits: set[asyncio.Future[Any]] = {answer, self._gone}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if self._gone.done():
            raise PeerGone
        return answer.result()

    def end(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    @property
    def gone(self) -> bool:
        return self._gone.done()


class Assembly:
    """A bus in this process. `folder` keeps ledger and journal on disk, without one they live in memory. `wire` leads to the models."""

    def __init__(
        self,
        app: App,
        clock: Clock,
        *,
        wire: ModelWire | None = None,
        model: ModelSettings | None = None,
        folder: Path | None = None,
        on_durable: Callable[[Entry], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.app, self.clock, self.wire, self.folder = app, clock, wire, folder
        self._model = model or ModelSettings()
        self._on_durable, self._pace = on_durable, pace
        self.peers: dict[str, tuple[PeerRef, LocalPeer]] = {}
        self._running: asyncio.Task[None] | None = None
        self._supervised = asyncio.Event()
        self._engaged = asyncio.Event()

    async def start(self) -> None:
        """Make every actor and deploy the app."""
        self.store = self._first_store()
        self.store.open_epoch()
        self.registry = Registry(lambda method, *args: getattr(self.service, method)(*args))
        self._journal = self._first_journal()
        self._supervise()
        await self._engage()
        spec = self.app.spec()
        for ref, schema in spec.schemas.items():
            contract, version = ref.split(" ")
            await self.registry.register(contract, version, schema, "local")
        await self.engine.deploy(spec, "local")
        for name, definition in self.app.agents.items():
            self.supervisor.pools.declare(name, "replica", definition.spec.replicas[0])
        self.supervisor.pools.declare(RUNNERS, "runner", 1)
        if self.wire is not None:
            self.supervisor.pools.declare(MODELS, "models", 1)

    async def close(self) -> None:
        """Stop everything; what is on disk stays."""
        self.engine.detach()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        for ref, peer in self.peers.values():
            peer.end()
            if ref.kind == "models" and isinstance(peer.host, Gateway):
                await peer.host.close()
        await self.store.close()
        self._journal.close()

    # --- orchestrator ------------------------------------------------------------------------------------------------------------

    def _first_store(self) -> Writer:
        if self.folder is None:
            return MemoryLedger(self.clock, on_failure=self._store_failed, on_durable=self._on_durable)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LEDGER_FILE
        make = SqliteLedger.open if path.exists() else SqliteLedger.create
        return make(path, self.clock, on_failure=self._store_failed, on_durable=self._on_durable)

    def _store_failed(self, error: InterlockError) -> None:
        self.engine.detach()
        self._engine_failed(error)

    def _engine_failed(self, error: BaseException) -> None:
        _LOG.error("the engine of this bus has stopped", exc_info=error)

    async def _engage(self) -> None:
        self.engine = Engine(self.store, self.clock, _Budgets(self), self._lost, self._engine_failed)
        self.service = Service(self.engine, self.store.reader)
        self._engaged.set()
        await self.engine.open([ref for ref, peer in self.peers.values() if not peer.gone])

    def _lost(self, name: str) -> None:
        self.peers.pop(name, None)
        self.supervisor.pools.lost(name, "its process ended")

    # --- supervisor --------------------------------------------------------------------------------------------------------------

    def _first_journal(self) -> Journal:
        if self.folder is None:
            return MemoryJournal(self.clock)
        path = self.folder / JOURNAL_FILE
        return SqliteJournal(path, self.clock, create=not path.exists())

    def _supervise(self) -> None:
        world = World(_Orders(self), _Hosts(self), OwnProcess(), _Spawner(self), self._leave, self._joined)
        self.supervisor = Supervisor(self._journal, self.clock, world, self._pace)
        self._running = asyncio.get_running_loop().create_task(self.supervisor.run(), name="supervisor")
        self._supervised.set()

    async def _leave(self, name: str) -> None:
        await (await self.engaged()).leave(name)

    def _joined(self, pool: str, name: str) -> None:
        if name in self.peers:
            self.engine.join(self.peers[name][0])

    async def kill(self, task: str, by: str, why: str) -> Receipt:
        """Stop a task by the whole ladder. Raises `UnknownTask`."""
        await self.service.record(task)
        return await self.supervisor.ladder.kill(task, by, why)

    # --- peers -------------------------------------------------------------------------------------------------------------------

    def host(self, pool: str, kind: str, name: str) -> Mailbox:
        """A new peer's host."""
        if kind == "runner":
            return Runner({workflow.name: workflow.definition for workflow in self.app.workflows.values()})
        if kind == "models":
            assert self.wire is not None
            prices = Prices(self.wire.endpoint.base_url, self.clock, read_overrides(self._model.prices) if self._model.prices else None)
            return Gateway(_Budgets(self), self.wire, prices, random.Random(name))
        definition = self.app.agents[pool]
        return Replica(definition, definition.function or ModelLoop(definition, self._model.model), name)

    async def supervised(self) -> Supervisor:
        """The supervisor, as soon as there is one."""
        await self._supervised.wait()
        return self.supervisor

    async def engaged(self) -> Engine:
        """The engine, as soon as there is one."""
        await self._engaged.wait()
        return self.engine


class _Spawner:
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        peer = LocalPeer(self._assembly.host(pool, kind, incarnation))
        self._assembly.peers[incarnation] = (PeerRef(incarnation, kind, pool, peer), peer)

    async def stop(self, incarnation: str) -> None:
        found = self._assembly.peers.get(incarnation)
        if found is not None:
            found[1].end()


class _Hosts:
    """The peers as the supervisor reaches them."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def incarnations(self) -> list[str]:
        return self._assembly.supervisor.pools.incarnations()

    async def cancel(self, incarnation: str, task: str) -> bool:
        found = self._assembly.peers.get(incarnation)
        if found is None or found[1].gone:
            raise PeerGone
        return await found[1].host.cancel(task)

    async def lost(self, incarnation: str, why: str) -> None:
        found = self._assembly.peers.get(incarnation)
        if found is not None:
            found[1].end()
        self._assembly.supervisor.pools.lost(incarnation, why)


class _Orders:
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def order(self, order: str, task: str, what: str, by: str, why: str) -> bool:
        return await (await self._assembly.engaged()).order(order, task, what, by, why)

    async def receipt(self, receipt: Receipt) -> None:
        await (await self._assembly.engaged()).receipt(receipt)


class _Budgets:
    """The current supervisor's meters."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def open(self, task: str, limits: Amounts, accepted: int) -> None:
        await (await self._assembly.supervised()).budgets.open(task, limits, accepted)

    async def reserve(self, reservations: Sequence[Reservation]) -> list[Grant]:
        return await (await self._assembly.supervised()).budgets.reserve(reservations)

    async def settle(self, id: str, actual: Amounts) -> None:
        await (await self._assembly.supervised()).budgets.settle(id, actual)

    async def close(self, task: str) -> None:
        await (await self._assembly.supervised()).budgets.close(task)

    async def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        return await (await self._assembly.supervised()).budgets.used(task)


def model_wire(app: App, model: ModelSettings) -> ModelWire | None:
    """The way to the models that the app needs, none where no agent is a model; `NoModel` where none is configured."""
    if not any(definition.function is None for definition in app.agents.values()):
        return None
    if not all(definition.model for definition in app.agents.values() if definition.function is None):
        model = model.required()
    return ChatCompletions(Endpoint(model.base_url or DEFAULT_BASE_URL, model.api_key or "none"))
