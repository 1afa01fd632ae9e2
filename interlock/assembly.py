"""The wiring of a bus in one process: who is made of what, and how each reaches the others.

Every actor can be replaced by its next incarnation while the rest goes on, as on a cluster: the ports here look up who is current.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from interlock import hosts
from interlock.actors.board import MemoryBoard
from interlock.actors.mailbox import Mailbox
from interlock.actors.models.gateway import Gateway
from interlock.actors.models.wire import Wire as ModelWire
from interlock.actors.registry import Registry
from interlock.actors.supervisor.core import Supervisor, World
from interlock.actors.supervisor.journal import Journal, MemoryJournal, Order
from interlock.actors.supervisor.sweep import Pace
from interlock.actors.warden import OwnProcess
from interlock.app import App
from interlock.backend import check_kill, check_stop
from interlock.cell import Cell, LocalPeer
from interlock.local_places import Places
from interlock.local_ports import RESTART_SECONDS, LocalBudgets, LocalHosts, LocalLoads, LocalOrders, LocalSpawner, tell_spent
from interlock.orchestrator.engine import Engine, ledger_stalled
from interlock.orchestrator.ledger.memory import MemoryLedger
from interlock.orchestrator.ledger.writer import Writer
from interlock.orchestrator.parking import ParkingPace
from interlock.orchestrator.peers import PeerRef
from interlock.orchestrator.service import Service
from interlock.proving import prove_migrations
from interlock.schemas.errors import (
    InterlockError,
    LedgerUnreachable,
    NoLedger,
    OrderNotKept,
    OrderStands,
    StopStands,
    StoreAway,
    StoreFailed,
    StorePaused,
)
from interlock.schemas.places import JOURNAL_FILE, Database
from interlock.schemas.ports import Clock, Inquest, PeerGone, Processes, Stall, stall_to_wire
from interlock.schemas.record import Receipt
from interlock.schemas.specs import MODELS, OWN_BOUNDS, RUNNERS
from interlock.schemas.stops import Selection
from interlock.settings import ModelSettings
from interlock.telemetry import task_span

_LOG = logging.getLogger("interlock.local")

T = TypeVar("T")


class Assembly:
    """A bus in this process. `folder` keeps ledger and journal on disk, `database` has them instead; without either they live
    in memory. `wire` leads to the models; `parking` is how soon tasks that only wait leave memory."""

    def __init__(
        self,
        app: App,
        clock: Clock,
        *,
        wire: ModelWire | None = None,
        model: ModelSettings | None = None,
        folder: Path | None = None,
        database: Database | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.app, self.clock, self.wire = app, clock, wire
        self.parking = ParkingPace()
        self._places = Places(folder, database, clock) if folder is not None else None
        self._model, self._pace = model or ModelSettings(), pace
        self._secrets: dict[str, str] = {}
        self.peers: dict[str, tuple[PeerRef, LocalPeer]] = {}
        self._boards: dict[str, MemoryBoard] = {}
        self._broken: InterlockError | None = None
        self._engaged, self._supervised = asyncio.Event(), asyncio.Event()
        self._restarting: set[asyncio.Task[None]] = set()
        self.ledger_stalled: Stall | None = None
        self.journal_stalled: Stall | None = None
        """Why there is no engine, or no supervisor, now, though there will be one."""

    async def start(self) -> None:
        """Make every actor and deploy the app."""
        self._secrets = hosts.secrets_of(self.app, os.environ)  # replicas of the bus before may be replaced at once
        self.registry = Registry(self.ask)
        if self._places is not None:
            self._places.prepare()
        self.store = self.make_store(None)
        self._journal = self.make_journal(None)
        self.start_supervisor()
        await self.start_engine()
        await self.deploy(self.app)

    async def deploy(self, app: App) -> None:
        """Take another version of the app: runners and replicas that are made from now on run it."""
        spec = app.spec()
        prove_migrations(app)
        wire = spec.to_wire()
        await self.ask("check_deploy", wire)
        self._secrets = hosts.secrets_of(app, os.environ)
        self.app = app
        for name, schema in spec.schemas.items():
            contract, _, version = name.partition(" ")
            await self.registry.register(contract, version, schema, "local")
        vanished = await self.ask("deploy", wire, "local")
        sizes = [(name, "replica", definition.spec.replicas) for name, definition in app.agents.items()]
        sizes += [(RUNNERS, "runner", OWN_BOUNDS)] + ([(MODELS, "models", OWN_BOUNDS)] if self.wire is not None else [])
        sizes += [(name, "replica", (0, 0)) for name in vanished]

        async def declare(supervisor: Supervisor) -> None:
            for name, kind, bounds in sizes:
                supervisor.pools.declare(name, kind, *bounds)

        await self.ask_supervisor(declare)

    async def close(self) -> None:
        """Stop everything; what is on disk stays."""
        self.engine.detach()
        for restarting in self._restarting:
            restarting.cancel()
        self._running.cancel()
        await asyncio.wait({self._running})
        for ref, peer in self.peers.values():
            peer.end()
            if ref.kind == "models" and isinstance(peer.host, Gateway):
                await peer.host.close()
        try:
            await self.store.close()
        finally:
            self._journal.close()

    # --- orchestrator ------------------------------------------------------------------------------------------------------------

    def make_store(self, before: Writer | None) -> Writer:
        """The ledger for the next epoch; `before` is the one of the epoch before."""
        if self._places is not None:
            return self._places.ledger(self._store_failed).opened()
        return before.reopen(on_failure=self._store_failed) if isinstance(before, MemoryLedger) else self._memory()

    def _memory(self) -> Writer:
        return MemoryLedger(self.clock, on_failure=self._store_failed).opened()

    async def start_engine(self) -> None:
        """A new engine on the store, in a cell of its own; it greets every peer."""
        self.engine_cell = Cell("engine")
        self.engine = Engine(
            self.store, self.clock, LocalBudgets(self), self._lost, self._gone, self._engine_failed, task_span, self.inquire
        )
        self.engine.parking.pace = self.parking
        self.engine.dispatches.spent = lambda *spent: tell_spent(self, *spent)
        self.engine.demand.tell = lambda: self.supervisor_cell.post(self.supervisor.pools.pressed)
        self.service = Service(self.engine, self.store.reader, self.store.keeper)
        self._engaged.set()
        await self.engine_cell.call(self.engine.open([ref for ref, _ in self.peers.values()]))

    def end_engine(self) -> None:
        """The engine ends as in a crash: with everything that it held in memory, and whatever is not durable."""
        self._engaged.clear()
        self.engine_cell.end()
        self.engine.detach()
        self.store.abandon()
        self.store.reader.close()

    async def restart_engine(self) -> None:
        """The next epoch takes up what is durable and goes on."""
        self.end_engine()
        self.store = await self._reopen_store()
        await self.start_engine()

    async def _reopen_store(self) -> Writer:
        """Beside the loop where it is found: a database may be away, and the supervisor shall work meanwhile."""
        if self._places is None:
            return self.make_store(self.store)
        return (await asyncio.to_thread(self._places.ledger, self._store_failed)).opened()

    def _store_failed(self, error: InterlockError) -> None:
        _LOG.error("the store of this bus has failed", exc_info=error)
        self._broken = error
        self.end_engine()
        self._engaged.set()

    def _engine_failed(self, error: BaseException) -> None:
        _LOG.error("the engine of this bus has stopped; the next one goes on from the ledger", exc_info=error)
        self.end_engine()
        self._restart(self._restart_soon())

    def _restart(self, work: Coroutine[Any, Any, None]) -> None:
        """In a context of its own: not in the cell of who has ended."""
        restarting = asyncio.get_running_loop().create_task(work, context=Context())
        self._restarting.add(restarting)
        restarting.add_done_callback(self._restarting.discard)

    async def _restart_soon(self) -> None:
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            try:
                await self.restart_engine()
            except (StorePaused, StoreAway, LedgerUnreachable) as pause:
                if self.ledger_stalled is None:
                    _LOG.warning("the next engine waits: %s", pause)
                self.ledger_stalled = self._stall(self.ledger_stalled, pause)
            except (NoLedger, StoreFailed) as error:
                return self._store_failed(error)
            else:
                self.ledger_stalled = None
                return

    def _stall(self, before: Stall | None, pause: InterlockError) -> Stall:
        return Stall(before.since if before is not None else self.clock.now(), pause.problem)

    def _lost(self, name: str, why: str) -> None:
        self.supervisor_cell.post(self._mourn, self.supervisor, name, why)

    async def _gone(self, name: str) -> bool:
        return name not in self.peers or self.peers[name][1].gone

    def _mourn(self, supervisor: Supervisor, name: str, why: str) -> None:
        found = self.peers.pop(name, None)
        if found is not None:
            found[1].end()  # it may live and only hang
            self.announce_end(name, found[1])
        try:
            supervisor.pools.lost(name, why)
        except StorePaused:
            _LOG.warning("the supervisor cannot write down that %s is lost; his next incarnation finds out", name)

    def announce_end(self, name: str, peer: LocalPeer) -> None:
        """Tell the engine that a peer has ended, once it has: one that had nothing to do would be handed the next message."""
        if peer.gone:
            self.engine_cell.post(self.engine.peers.left, name)

    async def inquire(self, name: str, tasks: Sequence[str]) -> Inquest:
        """What a peer that is lost was doing, by its board: that is kept."""
        board = self._boards.get(name)
        return Inquest(board.at_work(tasks) if board is not None else {})

    async def ask(self, method: str, *args: Any) -> Any:
        """A call of the engine's service; made again, to the next engine, where this one ends before it has answered."""
        return await self.ask_engine(lambda: getattr(self.service, method)(*args))

    async def ask_engine(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work`, which may be done again, in the current engine's cell. Raises `LedgerStalled` where there is none for now."""
        while True:
            if self.ledger_stalled is not None:
                raise ledger_stalled(self.ledger_stalled)
            await self._engaged.wait()
            if self._broken is not None:
                raise type(self._broken)(**self._broken.facts)
            cell = self.engine_cell
            try:
                return await cell.call(work())
            except PeerGone:
                if not cell.gone:
                    raise

    # --- supervisor --------------------------------------------------------------------------------------------------------------

    def make_journal(self, before: Journal | None) -> Journal:
        """The journal for the next incarnation; `before` is the one of the incarnation before."""
        if self._places is not None:
            return self._places.journal()
        return MemoryJournal(self.clock, before.store if isinstance(before, MemoryJournal) else None)

    async def reopen_journal(self) -> Journal:
        """The same where it must not hold up the engine, who works on the same loop: a database may be away."""
        return await asyncio.to_thread(self.make_journal, self._journal)

    def processes(self) -> Processes:
        """What can be seen and ended apart from this process: what tools have started."""
        return OwnProcess(self.holders)

    def holders(self, tasks: Sequence[str]) -> list[str]:
        """Those who live and have noted that they work for one of the tasks."""
        return [name for name, board in self._boards.items() if board.holds(*tasks) and name in self.peers and not self.peers[name][1].gone]

    def start_supervisor(self) -> None:
        """A new supervisor on the journal, in a cell of its own."""
        cell = self.supervisor_cell = Cell("supervisor")
        world = World(
            LocalOrders(self), LocalHosts(self), self.processes(), LocalSpawner(self), self._leave, self._joined, LocalLoads(self)
        )
        self.supervisor = Supervisor(self._journal, self.clock, world, self._pace)
        self._running = cell.start(self.supervisor.run())
        self._running.add_done_callback(self._supervisor_ended)
        self._supervised.set()

    def _supervisor_ended(self, done: "asyncio.Task[None]") -> None:
        """It ends by itself only where its journal fails. Where that may pass, the next one begins once it has; else this bus is over."""
        if done.cancelled() or not isinstance(error := done.exception(), Exception):
            return
        if not isinstance(error, StorePaused):
            failure = error if isinstance(error, InterlockError) else InterlockError(detail=f"the supervisor failed: {error!r}")
            return self._store_failed(failure)
        _LOG.warning("%s", error)
        self.journal_stalled = self._stall(None, error)
        self.end_supervisor()
        self._journal.close()
        self._restart(self.restart_supervisor())

    def end_supervisor(self) -> None:
        """The supervisor ends as in a crash."""
        self._supervised.clear()
        self.supervisor_cell.end()

    async def restart_supervisor(self) -> None:
        """The next incarnation reads the journal and goes on, as soon as it can be opened."""
        while True:
            try:
                self._journal = await self.reopen_journal()
                self.start_supervisor()
            except StorePaused as pause:
                self._journal.close()
                self.journal_stalled = self._stall(self.journal_stalled, pause)
                await asyncio.sleep(RESTART_SECONDS)
            except InterlockError as error:
                return self._store_failed(error)
            else:
                self.journal_stalled = None
                return

    async def ask_supervisor(self, work: Callable[[Supervisor], Coroutine[Any, Any, T]]) -> T:
        """Run `work`, which may be done again, in the current supervisor's cell. Raises `StorePaused` where there is none for now."""
        while True:
            if self.journal_stalled is not None:
                raise StorePaused(path=JOURNAL_FILE, problem=self.journal_stalled.why)
            await self._supervised.wait()
            cell = self.supervisor_cell
            try:
                return await cell.call(work(self.supervisor))
            except PeerGone:
                if not cell.gone:
                    raise

    def supervisor_status(self) -> dict[str, Any]:
        """Whether the journal can be written, and in time; what is stopped, as far as anybody knows while there is no supervisor."""
        if self.journal_stalled is not None:
            return {"journal": stall_to_wire(self.journal_stalled), "stops": [], "orders": []}
        return {"journal": stall_to_wire(self.supervisor.slow, "slow"), **self.supervisor.status()}

    async def _leave(self, name: str) -> None:
        await self.ask_engine(lambda: self.engine.peers.leave(name))

    def _joined(self, pool: str, name: str) -> None:
        if name in self.peers:
            self.engine_cell.post(self.engine.peers.join, self.peers[name][0])
        else:
            self._lost(name, "it is not there")

    async def kill(self, task: str, by: str, why: str, undo: bool = True) -> Receipt:
        """Stop a task by the whole ladder. Raises `UnknownTask` or `AlreadyEnded`; where the journal is stalled `OrderStands`, or
        `OrderNotKept`."""
        await check_kill(task, partial(self.ask, "record"))
        try:
            return await self.ask_supervisor(lambda supervisor: supervisor.ladder.kill(task, by, why, undo))
        except StorePaused as pause:
            order = Order.made(task, "kill", by, why, self.clock.now(), undo)
            raise OrderStands(task=task, path=await self._keep(order, task, pause)) from None

    async def stop(self, id: str, what: str, selection: Selection, by: str, why: str, undo: bool = True) -> Receipt:
        """Stop what a selection names, or open it again. Where the journal is stalled: `StopStands`, or `OrderNotKept`."""
        await check_stop(selection, self.ask("check_stop", *selection))
        try:
            return await self.ask_supervisor(lambda supervisor: supervisor.ladder.stop(id, what, selection, by, why, undo))
        except StorePaused as pause:
            order, about = Order.of_selection(id, what, selection, by, why, self.clock.now(), undo), str(selection)
            raise StopStands(what=what, selection=about, path=await self._keep(order, about, pause)) from None

    async def _keep(self, order: Order, about: str, pause: StorePaused) -> str:
        if self._places is None:
            raise OrderNotKept(task=about, path=pause.path, problem=pause.problem) from None
        return await asyncio.to_thread(self._places.write_order, order)

    # --- peers -------------------------------------------------------------------------------------------------------------------

    def host(self, pool: str, kind: str, name: str) -> Mailbox:
        """A new peer's host."""
        if kind == "models":
            assert self.wire is not None, "a pool of gateways is declared only where there is a wire"
            return hosts.gateway(LocalBudgets(self), self.wire, self._model, self.clock, name)
        board = self._boards[name] = self.board(name)
        if kind == "runner":
            return hosts.runner(self.app, board)
        secrets = {secret: self._secrets[secret] for secret in hosts.declared_secrets(self.app)[pool]}
        return hosts.replica(self.app, pool, name, self._model.model, secrets, board)

    def board(self, name: str) -> MemoryBoard:
        """A new peer's board."""
        return MemoryBoard()

    def peer(self, host: Mailbox, name: str) -> LocalPeer:
        """The way to a new peer's host."""
        return LocalPeer(host, name)
