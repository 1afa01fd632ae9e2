"""A bus under fire: the whole of it in one process on virtual time, where every actor can die at any moment and messages go astray.

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(workflow, request, id="one")
        sim.crash_engine()
        print(await task.result())

    simulate(main, app, seed=7, faults=Faults(loss=0.1))

A crash is a crash: nothing of the actor runs any further, not even what it would clean up; what was durable is what the next one finds.
Whoever was stopped and comes back goes on where it was, and may find that another is in its place.
The same seed takes the same steps every time. Ends, orders and ledgers are the real ones; only processes and the network are played.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

from interlock.actors.board import MemoryBoard
from interlock.actors.mailbox import Mailbox
from interlock.actors.supervisor.core import Supervisor
from interlock.actors.supervisor.journal import Journal, MemoryJournal, Row
from interlock.aio import AsyncBus
from interlock.app import App
from interlock.assembly import Assembly
from interlock.cell import CELL, Cell, LocalPeer
from interlock.local import LocalBackend
from interlock.local_ports import RESTART_SECONDS
from interlock.orchestrator.engine import Engine
from interlock.orchestrator.ledger.memory import Disk, MemoryLedger
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError, StaleEpoch, StoreAway, StoreFailed, StorePaused
from interlock.schemas.ports import Clock, PeerGone, Processes, Stall
from interlock.settings import ModelSettings
from interlock.testing.simulated_loop import Died, SimulatedLoop
from interlock.testing.simulated_ports import Board, Faults, Ledger, Line, Memory, Models, Wardens
from interlock.testing.virtual_time import WEEK, VirtualClock

T = TypeVar("T")

Main = Callable[["Simulation"], Coroutine[Any, Any, T]]


class Simulation(Assembly):
    """A bus that can be hurt. `on_entry`, `on_row` and `on_frame` are called when an entry is durable, a row of the supervisor's journal
    is durable, a peer takes a frame: set them to crash somebody there; `on_work` when a process has noted on its board for which task it
    begins to work: there it may also hang. `rows` are all rows that ever were in the supervisor's journal, `bus` is a driver's
    handle. `clock` can be set wrong, where it is the one that comes with a simulation."""

    journal: MemoryJournal

    def __init__(self, app: App, playbook: Any = None, *, seed: int = 0, faults: Faults | None = None, clock: Clock | None = None) -> None:
        self.faults, self.random = faults or Faults(), random.Random(seed)
        self.script = Models(playbook, lambda: self.faults.model, self.random) if playbook is not None else None
        super().__init__(app, clock or VirtualClock(), wire=self.script, model=ModelSettings(model="scripted-1"))
        self.on_entry: Callable[[Entry], None] | None = None
        self.on_row: Callable[[Row], None] | None = None
        self.on_frame: Callable[[str, Any], None] | None = None
        self.on_work: Callable[[str, str], None] | None = None
        self.rows: list[Row] = []
        self.journal_full = ""
        self._doing: set[asyncio.Task[None]] = set()
        self._zombies: dict[Cell, Engine] = {}
        self.bus = AsyncBus(LocalBackend(self))

    # --- crashes -----------------------------------------------------------------------------------------------------------------

    def crash_engine(self, down: float = 0.0) -> None:
        """The orchestrator dies now; the next epoch begins after `down` seconds."""
        if self._engaged.is_set() and not self.engine_cell.gone:
            self.end_engine()
            self._later(down, self.restart_engine)

    def crash_supervisor(self, down: float = 0.0) -> None:
        """The supervisor dies now; its next incarnation begins after `down` seconds."""
        if self._supervised.is_set() and not self.supervisor_cell.gone:
            self.end_supervisor()
            self._later(down, self.restart_supervisor)

    def crash_peer(self, name: str) -> None:
        """A replica, a runner or a gateway dies now. Its pool replaces it."""
        found = self.peers.get(name)
        if found is not None:
            found[1].end()

    def crash_in(self, steps: int, down: float = 0.0) -> None:
        """Whoever takes the step with that number from now on dies before it; nobody does where it is 0."""

        def strike(cell: Cell) -> None:
            if cell is self.engine_cell:
                self.crash_engine(down)
            elif cell is self.supervisor_cell:
                self.crash_supervisor(down)
            else:
                cell.end()

        loop = self._loop()
        loop.steps_left, loop.on_step = steps, strike

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

    async def find_dead(self) -> None:
        """Tell the supervisor of every peer that died and that nobody has missed yet."""

        async def tell(supervisor: Supervisor) -> None:
            for name in [name for name, (_, peer) in self.peers.items() if peer.gone]:
                self._mourn(supervisor, name, "it is gone")

        await self.ask_supervisor(tell)

    # --- zombies -----------------------------------------------------------------------------------------------------------------

    def stop_engine(self, down: float, back: float) -> None:
        """The orchestrator stands still; the next epoch begins after `down` seconds, and this one goes on after `back`."""
        if not self._engaged.is_set() or self.engine_cell.gone:
            return
        self._engaged.clear()
        self._zombies[self.engine_cell] = self.engine
        self._stop(self.engine_cell, back)
        self._later(down, self.restart_engine)

    def stop_supervisor(self, down: float, back: float) -> None:
        """The supervisor stands still; its next incarnation begins after `down` seconds, and this one goes on after `back`."""
        if self._supervised.is_set() and not self.supervisor_cell.gone:
            self._supervised.clear()
            self._stop(self.supervisor_cell, back)
            self._later(down, self.restart_supervisor)

    def stop_peer(self, name: str, back: float) -> None:
        """A replica, a runner or a gateway stands still for so many seconds, if nobody ends it before."""
        found = self.peers.get(name)
        if found is not None and not found[1].gone and found[1].cell.held is None:
            self._stop(found[1].cell, back)

    def freeze_peer(self, name: str) -> None:
        """It hangs from now on: it lives, and answers nothing. Called in `on_work`, it hangs in the middle of that, for good."""
        self._loop().hold(self.peers[name][1].cell)

    def _stop(self, cell: Cell, back: float) -> None:
        async def go_on() -> None:
            self._loop().go_on(cell)

        self._loop().hold(cell)
        self._later(back, go_on)

    @staticmethod
    def _loop() -> SimulatedLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        return loop

    def _later(self, down: float, then: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(down)
            await then()

        # Not in the context of whoever dies.
        doing = asyncio.get_running_loop().create_task(wait(), context=Context())
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)

    # --- ends and starts ---------------------------------------------------------------------------------------------------------

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

    def store_failed(self, error: InterlockError) -> None:
        """An orchestrator whose store has failed, or was taken over, ends as its process would."""
        if not self._end_zombie():
            self.crash_engine(down=1.0)

    def _engine_failed(self, error: BaseException) -> None:
        if not isinstance(error, StaleEpoch | StoreFailed | StoreAway):
            self._loop().problems.append(f"an engine stopped itself: {error!r}")
        if not self._end_zombie():
            self.crash_engine(down=1.0)

    def _end_zombie(self) -> bool:
        """Whether what runs belongs to an orchestrator whose place another has taken; it is over then."""
        cell = CELL.get()
        engine = self._zombies.pop(cell, None) if cell is not None else None
        if cell is None or engine is None:
            return False
        cell.end()
        engine.detach()
        return True

    def _supervisor_ended(self, done: "asyncio.Task[None]") -> None:
        if done is self._running:
            super()._supervisor_ended(done)

    def end_all(self) -> None:
        """Everybody dies, for good."""
        for doing in self._doing:
            doing.cancel()
        for cell, engine in self._zombies.items():
            cell.end()
            engine.detach()
        self.end_engine()
        self.end_supervisor()
        for _, peer in self.peers.values():
            peer.end()

    # --- the world as it is played ---------------------------------------------------------------------------------------------------

    def make_store(self, before: Writer | None) -> Writer:
        return Ledger(self, before if isinstance(before, MemoryLedger) else None, self._durable).opened()

    def _durable(self, entry: Entry) -> None:
        if self.on_entry is not None:
            self.on_entry(entry)

    def make_journal(self, before: Journal | None) -> Journal:
        return Memory(self, before.store if isinstance(before, MemoryJournal) else None)

    def processes(self) -> Processes:
        return Wardens(self)

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
        return Board(self, name)

    def peer(self, host: Mailbox, name: str) -> LocalPeer:
        return Line(self, host, name)


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

    loop = SimulatedLoop(limit)
    try:
        result = loop.run_until_complete(run())
    finally:
        loop.finish()
    assert not loop.problems, "\n".join(loop.problems)
    return result


__all__ = ["Died", "Faults", "Simulation", "simulate"]
