"""A bus under fire: the whole of it in one process on virtual time, where every actor can die at any moment and messages go astray.

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(workflow, request, id="one")
        sim.crash_engine()
        print(await task.result())

    simulate(main, app, seed=7, faults=Faults(loss=0.1))

A crash is a crash: nothing of the actor runs any further, not even what it would clean up; what was durable is what the next one finds.
The same seed takes the same steps every time. Ends, orders and ledgers are the real ones; only processes and the network are played.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from interlock.actors.board import MemoryBoard
from interlock.actors.mailbox import Mailbox
from interlock.actors.models.wire import Endpoint
from interlock.actors.supervisor.journal import Change, Journal, MemoryJournal, Row
from interlock.actors.warden import OwnProcess
from interlock.aio import AsyncBus
from interlock.app import App
from interlock.assembly import Assembly
from interlock.cell import CELL, Cell, LocalPeer
from interlock.local import LocalBackend
from interlock.local_ports import RESTART_SECONDS
from interlock.orchestrator.ledger.memory import Disk, MemoryLedger
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas.entries import Entry
from interlock.schemas.errors import StorePaused
from interlock.schemas.ports import Clock, PeerGone, Processes, Stall
from interlock.settings import ModelSettings
from interlock.testing.scripted_wire import ScriptedWire
from interlock.testing.virtual_time import WEEK, VirtualClock, VirtualTimeLoop

T = TypeVar("T")

Main = Callable[["Simulation"], Coroutine[Any, Any, T]]


@dataclass(frozen=True, slots=True)
class Faults:
    """What befalls exchanges, each with its probability: `loss` of the request or of the answer after it was applied, `delay` by up to
    `longest` seconds each way, so that exchanges overtake each other."""

    loss: float = 0.0
    delay: float = 0.0
    longest: float = 0.2


class Died(BaseException):
    """What runs belongs to an actor that has just crashed. Nobody may catch it."""


class SimulatedLoop(VirtualTimeLoop):
    """Virtual time on which a cell that has ended runs no further. `problems` are exceptions that nobody looked at."""

    def __init__(self, limit: float = WEEK) -> None:
        super().__init__(limit=limit)
        self.problems: list[str] = []
        self._tasks: list[tuple[Cell, asyncio.Task[Any]]] = []
        self._prune_at = 1000
        self.set_exception_handler(self._note)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        context = copy_context() if context is None else context
        cell = context.get(CELL)
        if cell is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(_unless_gone, cell, callback, args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        context = copy_context() if context is None else context
        cell = context.get(CELL)
        if cell is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, _unless_gone, cell, callback, args, context=context)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":  # type: ignore[override]
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        cell = CELL.get() if context is None else context.get(CELL)
        if cell is not None:
            self._tasks.append((cell, task))
            if len(self._tasks) > self._prune_at:
                self._tasks = [(cell, task) for cell, task in self._tasks if not task.done()]
                self._prune_at = 2 * len(self._tasks) + 1000
        return task

    def bury(self) -> None:
        """Let what dead actors left lying about be forgotten in silence."""
        for cell, task in self._tasks:
            if cell.gone and not task.done():
                _silence(task)

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Died):
            self.problems.append(f"{context['message']}: {error!r}")


def _unless_gone(cell: Cell, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not cell.gone:
        callback(*args)


def _silence(task: "asyncio.Task[Any]") -> None:
    silenced: Any = task
    silenced._log_destroy_pending = False
    asyncio.tasks._unregister_task(task)
    coro: Any = task.get_coro()
    for _ in range(3):  # a `finally` may wait for something, and is told again
        with suppress(BaseException):
            coro.close()


class Simulation(Assembly):
    """A bus that can be hurt. `on_entry`, `on_row` and `on_frame` are called when an entry is durable, a row of the supervisor's journal
    is durable, a peer takes a frame: set them to crash somebody there; `on_work` when a process has noted on its board for which task it
    begins to work: there it may also `freeze`. `rows` are all rows that ever were in the supervisor's journal,
    `bus` is a driver's handle."""

    def __init__(self, app: App, playbook: Any = None, *, seed: int = 0, faults: Faults | None = None, clock: Clock | None = None) -> None:
        self.script = ScriptedWire(playbook, Endpoint("http://scripted.invalid", "none")) if playbook is not None else None
        super().__init__(app, clock or VirtualClock(), wire=self.script, model=ModelSettings(model="scripted-1"))
        self.faults, self.random = faults or Faults(), random.Random(seed)
        self.on_entry: Callable[[Entry], None] | None = None
        self.on_row: Callable[[Row], None] | None = None
        self.on_frame: Callable[[str, Any], None] | None = None
        self.on_work: Callable[[str, str], None] | None = None
        self.rows: list[Row] = []
        self.journal_full = ""
        self._doing: set[asyncio.Task[None]] = set()
        self.bus = AsyncBus(LocalBackend(self))

    # --- crashes -----------------------------------------------------------------------------------------------------------------

    def crash_engine(self, down: float = 0.0) -> None:
        """The orchestrator dies now; the next epoch begins after `down` seconds."""
        if not self.engine_cell.gone:
            self.end_engine()
            self._later(down, self.restart_engine)

    def crash_supervisor(self, down: float = 0.0) -> None:
        """The supervisor dies now; its next incarnation begins after `down` seconds."""

        if not self.supervisor_cell.gone:
            self.end_supervisor()
            self._later(down, self.restart_supervisor)

    def crash_peer(self, name: str) -> None:
        """A replica, a runner or a gateway dies now. Its pool replaces it."""
        found = self.peers.get(name)
        if found is not None:
            found[1].end()

    def freeze_peer(self, name: str) -> None:
        """A peer hangs from now on: it lives, and answers nothing. Called in `on_work`, it hangs in the middle of that."""
        peer = self.peers[name][1]
        assert isinstance(peer, _Peer)
        peer.frozen = True

    def fill_disk(self, why: str = "no space left") -> None:
        """From now on nothing that is appended to the ledger becomes durable, and no epoch begins."""
        self._disk().full = Stall(self.clock.now(), why)

    def free_disk(self) -> None:
        """There is room again; who waits tries again in its own time."""
        self._disk().full = None

    def fill_journal(self, why: str = "no space left") -> None:
        """From now on the supervisor's journal takes nothing, and none can be opened."""
        self.journal_full = why

    def free_journal(self) -> None:
        """There is room again; the next supervisor begins in his own time."""
        self.journal_full = ""

    def _disk(self) -> Disk:
        assert isinstance(self.store, MemoryLedger)
        return self.store.disk

    def living(self, kind: str | None = None) -> list[str]:
        """Names of the peers that live, of one kind or all."""
        return [name for name, (ref, peer) in self.peers.items() if not peer.gone and kind in (None, ref.kind)]

    def _later(self, down: float, restart: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(down)
            await restart()

        # Not in the context of whoever dies.
        doing = asyncio.get_running_loop().create_task(wait(), context=Context())
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)

    async def start_engine(self) -> None:
        # Where it dies while it starts, the next one is on its way already.
        with suppress(PeerGone):
            await super().start_engine()

    async def restart_engine(self) -> None:
        while True:
            try:
                self.store = self.make_store(self.store)
            except StorePaused:
                await asyncio.sleep(RESTART_SECONDS)
            else:
                return await self.start_engine()

    async def reopen_journal(self) -> Journal:
        return self.make_journal(self._journal)

    def end_all(self) -> None:
        """Everybody dies, for good."""
        for doing in self._doing:
            doing.cancel()
        self.end_engine()
        self.end_supervisor()
        for _, peer in self.peers.values():
            peer.end()

    # --- the world as it is played ---------------------------------------------------------------------------------------------------

    def make_store(self, before: Writer | None) -> Writer:
        if isinstance(before, MemoryLedger):
            return before.reopen(on_failure=self._store_failed, on_durable=self._durable)
        return MemoryLedger(self.clock, on_failure=self._store_failed, on_durable=self._durable).opened()

    def _durable(self, entry: Entry) -> None:
        if self.on_entry is not None:
            self.on_entry(entry)

    def make_journal(self, before: Journal | None) -> Journal:
        return _Journal(self, before.store if isinstance(before, MemoryJournal) else None)

    def processes(self) -> Processes:
        return _Processes(self)

    def host(self, pool: str, kind: str, name: str) -> Mailbox:
        host = super().host(pool, kind, name)
        take = host.take

        def taking(frame: Any) -> None:
            if self.on_frame is not None:
                self.on_frame(name, frame)
                cell = CELL.get()
                if cell is not None and cell.gone:
                    raise Died
            take(frame)

        host.take = taking  # type: ignore[method-assign]
        return host

    def board(self, name: str) -> MemoryBoard:
        return _Board(self, name)

    def peer(self, host: Mailbox, name: str) -> LocalPeer:
        return _Peer(self, host, name)


class _Board(MemoryBoard):
    """A board whose owner may end, or hang, right after it has noted what it is about to do."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        super().__init__()
        self._simulation, self._name = simulation, name

    def enter(self, task: str) -> int:
        slot = super().enter(task)
        if self._simulation.on_work is not None:
            self._simulation.on_work(self._name, task)
            peer = self._simulation.peers[self._name][1]
            if peer.gone or (isinstance(peer, _Peer) and peer.frozen):
                raise Died
        return slot


class _Peer(LocalPeer):
    """A peer at the end of a bad line. One that is `frozen` lives and answers nothing."""

    def __init__(self, simulation: Simulation, host: Mailbox, name: str) -> None:
        super().__init__(host, name)
        self._simulation = simulation
        self.frozen = False

    async def exchange(self, request: bytes) -> bytes:
        await self._travel("the request was lost")
        answer = await self.cell.call(self._answer(request))
        await self._travel("the answer was lost")
        if self.gone:
            raise PeerGone
        return answer

    async def _answer(self, request: bytes) -> bytes:
        if not self.frozen:
            try:
                return await self.host.exchange(request)
            except Died:
                if not self.frozen:
                    raise
        answer: bytes = await asyncio.get_running_loop().create_future()  # never, until this process is ended
        return answer

    async def _travel(self, lost: str) -> None:
        faults, chance = self._simulation.faults, self._simulation.random
        if faults.delay and chance.random() < faults.delay:
            await asyncio.sleep(chance.random() * faults.longest)
        if faults.loss and chance.random() < faults.loss:
            raise OSError(lost)


class _Journal(MemoryJournal):
    """The supervisor's memory: each row is durable by itself, and he may die right after it."""

    def __init__(self, simulation: Simulation, store: list[Row] | None) -> None:
        self._simulation = simulation
        super().__init__(simulation.clock, store)

    def _write(self, changes: list[Change]) -> None:
        if self._simulation.journal_full:
            raise StorePaused(path="memory", problem=self._simulation.journal_full)
        for change in changes:
            before = len(self.store)
            super()._write([change])
            if len(self.store) > before:
                self._simulation.rows.append(self.store[-1])
            cell = CELL.get()
            if cell is not None and self._simulation.on_row is not None and len(self.store) > before:
                self._simulation.on_row(self.store[-1])
                if cell.gone:
                    raise Died


class _Processes(OwnProcess):
    """The wardens: they see the boards, and can end whoever does not let go."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation.holders)
        self._simulation = simulation

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        ended = {name: "killed" if name in self._simulation.living() else "gone" for name in incarnations}
        for name in ended:
            self._simulation.crash_peer(name)
        return ended

    async def end_task(self, task: str) -> str:
        return "gone"


def simulate(
    main: "Main[T]",
    app: App,
    playbook: Any = None,
    *,
    seed: int = 0,
    faults: Faults | None = None,
    limit: float = WEEK,
    arm: Callable[[Simulation], None] | None = None,
) -> T:
    """Start a bus for `app`, run `main` on it, end everything. `playbook`: what the models answer; `arm` is called before anybody lives.

    Raises `Deadlock` where nothing can go on, and `AssertionError` where something failed that nobody looked at."""

    async def run() -> T:
        simulation = Simulation(app, playbook, seed=seed, faults=faults)
        if arm is not None:
            arm(simulation)
        try:
            await simulation.start()
            return await main(simulation)
        finally:
            simulation.end_all()

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(limit)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SimulatedLoop)
        try:
            result = runner.run(run())
        finally:
            loop.bury()
        assert not loop.problems, "\n".join(loop.problems)
        return result


__all__ = ["Died", "Faults", "Simulation", "simulate"]
