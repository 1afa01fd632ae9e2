"""The world of a simulation: lines that lose, delay, double and overtake, a store and a journal that fail, models that misbehave.

Each comes from its twin in memory and does what that does, but for the faults that it is told of; chance is the simulation's own.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack

from interlock.actors.board import MemoryBoard
from interlock.actors.mailbox import Mailbox
from interlock.actors.models.wire import Endpoint
from interlock.actors.supervisor.journal import Change, MemoryJournal, Row
from interlock.actors.warden import OwnProcess
from interlock.cell import CELL, LocalPeer
from interlock.orchestrator.ledger.memory import MemoryLedger
from interlock.schemas.entries import Entry
from interlock.schemas.errors import StoreFailed, StorePaused
from interlock.schemas.ports import PeerGone
from interlock.testing.playbook import Playbook, Reply
from interlock.testing.scripted_wire import ScriptedWire
from interlock.testing.simulated_loop import Died

if TYPE_CHECKING:
    from interlock.testing.simulation import Simulation

_HEADERS_LOST = b'{"choices": [{"mess'
_ERROR = b'{"error": {"message": "simulated", "code": "simulated"}}'
MISHAPS = (
    Reply(429, _ERROR, "simulated", retry_after=1.0),
    Reply(500, _ERROR, "simulated"),
    Reply(200, b"", "simulated", fault="hang"),
    Reply(200, b"", "simulated", fault="drop"),
    Reply(200, _HEADERS_LOST, "simulated", fault="garbage"),
)
"""What a model does instead of an answer."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, each with its probability. Of an exchange: `loss` of the request, or of the answer after it was applied; `delay` by
    up to `longest` seconds each way, so that exchanges overtake each other; `double`: the frames before come once more. Of an entry, or a
    row of the journal: `store`, before it is durable or right after, and nobody is told which; `slow`: the disk takes up to `longest`
    seconds for an entry. Of a request to a model: `model`."""

    loss: float = 0.0
    delay: float = 0.0
    longest: float = 0.2
    double: float = 0.0
    store: float = 0.0
    slow: float = 0.0
    model: float = 0.0


class Line(LocalPeer):
    """A peer at the end of a bad line."""

    def __init__(self, simulation: "Simulation", host: Mailbox, name: str) -> None:
        super().__init__(host, name)
        self._simulation = simulation
        self._asked, self._answered = _Before(), _Before()

    async def exchange(self, request: bytes) -> bytes:
        await self._travel("the request was lost")
        if (double := self._simulation.faults.double) and self._simulation.random.random() < double:
            request = self._asked.again(request)
        self._asked.keep(request, double)
        answer = await self.cell.call(self._answer(request))
        if double and self._simulation.random.random() < double:
            answer = self._answered.again(answer)
        self._answered.keep(answer, double)
        await self._travel("the answer was lost")
        if self.gone:
            raise PeerGone
        return answer

    async def _answer(self, request: bytes) -> bytes:
        try:
            return await self.host.exchange(request)
        except Died:
            if self.cell.held is None:
                raise
            await asyncio.get_running_loop().create_future()  # it hangs in the middle of that, until it is ended
            raise

    async def _travel(self, lost: str) -> None:
        faults, chance = self._simulation.faults, self._simulation.random
        if faults.delay and chance.random() < faults.delay:
            await asyncio.sleep(chance.random() * faults.longest)
        if faults.loss and chance.random() < faults.loss:
            raise OSError(lost)


class Board(MemoryBoard):
    """A board whose owner may end, or hang, right after it has noted what it is about to do."""

    def __init__(self, simulation: "Simulation", name: str) -> None:
        super().__init__()
        self._simulation, self._name = simulation, name

    def enter(self, task: str) -> int:
        slot = super().enter(task)
        if self._simulation.on_work is not None:
            self._simulation.on_work(self._name, task)
            cell = self._simulation.peers[self._name][1].cell
            if cell.gone or cell.held is not None:
                raise Died
        return slot


class _Before:
    """The frames that went one way last, to send them again before others."""

    def __init__(self) -> None:
        self._last: tuple[int, int, list[Any]] = (0, 0, [])

    def keep(self, data: bytes, wanted: float) -> None:
        if wanted:
            (epoch, first, *_), frames = msgpack.unpackb(data)
            if frames:
                self._last = epoch, first, frames

    def again(self, data: bytes) -> bytes:
        (epoch, first, *rest), frames = msgpack.unpackb(data)
        when, begin, before = self._last
        if when != epoch or begin + len(before) != first:
            return data
        again: bytes = msgpack.packb([[epoch, begin, *rest], before + frames])
        return again


class Ledger(MemoryLedger):
    """The ledger of one epoch. Where it fails, what was being written may be durable all the same."""

    def __init__(self, simulation: "Simulation", before: MemoryLedger | None, on_durable: Callable[[Entry], None]) -> None:
        self._simulation, self._waited = simulation, False
        super().__init__(
            simulation.clock, on_failure=simulation.store_failed, on_durable=on_durable, disk=before.disk if before is not None else None
        )

    def _commit(self) -> None:
        chance, faults = self._simulation.random, self._simulation.faults
        if faults.slow and not self._waited and chance.random() < faults.slow:
            self._waited = True
            self._loop.call_later(chance.random() * faults.longest, self._commit)
            return
        self._waited, store = False, faults.store
        if not store or self._failure is not None or self.disk.epoch != self.epoch or chance.random() >= store:
            super()._commit()
            return
        if chance.random() < 0.5:
            self.disk.write(self._seals.seal([self._queue.popleft()]))
        self._fail(StoreFailed(path="memory", problem="the disk failed (simulated)"))


class Memory(MemoryJournal):
    """The supervisor's memory: each row is durable by itself, and he may die right after it. One that a later incarnation has taken over
    ends whoever still writes to it."""

    def __init__(self, simulation: "Simulation", store: list[Row] | None) -> None:
        self._simulation = simulation
        simulation.journal = self
        super().__init__(simulation.clock, store)

    def _confirm(self) -> None:
        cell = CELL.get()
        if cell is not None and self._simulation.journal is not self:
            cell.end()
            raise Died

    def _write(self, changes: list[Change]) -> None:
        cell, simulation = CELL.get(), self._simulation
        if simulation.journal_full:
            raise StorePaused(path="memory", problem=simulation.journal_full)
        self._confirm()
        for change in changes:
            before = len(self.store)
            fails = cell is not None and bool(simulation.faults.store) and simulation.random.random() < simulation.faults.store
            if not fails or simulation.random.random() < 0.5:
                super()._write([change])
            if len(self.store) > before:
                simulation.rows.append(self.store[-1])
            if cell is not None and fails:
                simulation.crash_supervisor(down=0.1)
                cell.end()  # also of one that stood still and goes on before another is in his place
            elif cell is not None and simulation.on_row is not None and len(self.store) > before:
                simulation.on_row(self.store[-1])
            if cell is not None and cell.gone:
                raise Died


class Wardens(OwnProcess):
    """They see the boards, and can end whoever does not let go."""

    def __init__(self, simulation: "Simulation") -> None:
        super().__init__(simulation.holders)
        self._simulation = simulation

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        ended = {name: "killed" if name in self._simulation.living() else "gone" for name in incarnations}
        for name in ended:
            self._simulation.crash_peer(name)
        return ended

    async def end_tasks(self, tasks: Sequence[str]) -> str:
        return "gone"


class Models(ScriptedWire):
    """Models that answer from a playbook, where they answer at all. `mishap` is the probability that they do not, of this moment."""

    def __init__(self, playbook: Any, mishap: Callable[[], float], chance: random.Random) -> None:
        super().__init__(Playbook.load(playbook), Endpoint("http://scripted.invalid", "none"))
        self._mishap, self._chance = mishap, chance

    def reply(self, body: dict[str, Any]) -> Reply:
        mishap = self._mishap()
        return self._chance.choice(MISHAPS) if mishap and self._chance.random() < mishap else super().reply(body)


__all__ = ["Board", "Faults", "Ledger", "Line", "Memory", "Models", "Wardens"]
