"""The simulation's time and deaths, with real processes.

Time jumps as soon as no process is at work, and an actor that dies runs no further. Its processes end with it, as the warden ends them,
or go on without it, as they may on a node where nobody has looked yet.
"""

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, NamedTuple

from interlock.cell import CELL, Cell
from interlock.testing.simulation import SimulatedLoop

HANGS = 30.0
"""Real seconds after which a process that says nothing is taken to hang."""


class Work(NamedTuple):
    """A process that an actor starts (`ended` is false), or that has come to its end: the how-manieth, whose, and what."""

    number: int
    owner: str
    ended: bool
    command: str


class WorkingLoop(SimulatedLoop, asyncio.SelectorEventLoop):
    """While a process is at work, or a pipe is open, time stands still.

    `on_work` is called when an actor starts a process and when that has ended; who dies in it sees nothing of either."""

    _run_once = asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]
    _process_events = asyncio.SelectorEventLoop._process_events  # type: ignore[attr-defined]
    _write_to_self = asyncio.SelectorEventLoop._write_to_self  # type: ignore[attr-defined]

    def __init__(self) -> None:
        super().__init__()
        self._selector: Any = self._real
        self._real.idle = self._idle
        self.on_work: Callable[[Work], None] | None = None
        self._owned: list[tuple[Cell, Any]] = []
        self._works: dict[Any, Work] = {}
        self._ended: set[Any] = set()
        self._alive = 0

    def _make_self_pipe(self) -> None:
        self._real = self._selector = _Selector()
        super()._make_self_pipe()  # type: ignore[misc]

    def _idle(self) -> bool:
        """Whether no process is at work; then it is the next timer's time."""
        if self._alive or len(self._real.get_map()) > 1:
            return False
        self._jump()
        return True

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Pipes are the machine's: what they do next does not depend on whose they are."""
        if isinstance(getattr(callback, "__self__", None), asyncio.BaseTransport | asyncio.AbstractEventLoop):
            context = Context()
        return super().call_soon(callback, *args, context=context)

    async def _make_subprocess_transport(self, protocol: Any, args: Any, *rest: Any, **more: Any) -> Any:
        cell = CELL.get()
        assert cell is not None, "nobody but an actor starts processes"
        transport = await self.create_task(self._start(cell, protocol, args, *rest, **more), context=Context())
        if cell.gone:
            await self.create_future()
        return transport

    async def _start(self, cell: Cell, protocol: Any, args: Any, *rest: Any, **more: Any) -> Any:
        """The machine's part: it does not stop where the actor does."""
        transport = await super()._make_subprocess_transport(protocol, args, *rest, **more)  # type: ignore[misc]
        self._alive += 1
        self._owned.append((cell, transport))
        self._works[transport] = work = Work(len(self._owned), cell.name, False, " ".join(map(str, args)))
        too_late = cell.gone
        self._tell(work)
        if transport in self._ended:
            self._tell(work._replace(ended=True))
        elif too_late:
            transport.close()
        return transport

    def _child_watcher_callback(self, pid: int, returncode: int, transport: Any) -> None:
        self.call_soon_threadsafe(self._process_ended, transport, returncode)

    def _process_ended(self, transport: Any, returncode: int) -> None:
        self._alive -= 1
        self._ended.add(transport)
        if transport in self._works:
            self._tell(self._works[transport]._replace(ended=True))
        transport._process_exited(returncode)

    def _tell(self, work: Work) -> None:
        if self.on_work is not None:
            self.on_work(work)

    def release(self, cell: Cell, and_kill: bool) -> None:
        """What the machine does for who has died: its ends of all pipes are closed. `and_kill`: the warden ends its processes."""
        for owner, transport in self._owned:
            if owner is cell and and_kill:
                Context().run(transport.close)
            elif owner is cell:
                for pipe in filter(None, map(transport.get_pipe_transport, range(3))):
                    Context().run(pipe.close)
        for key in list(self._real.get_map().values()):
            if any(handle is not None and handle._context.get(CELL) is cell for handle in key.data):
                self._real.unregister(key.fileobj)

    def bury(self) -> None:
        for _, transport in self._owned:
            Context().run(transport.close)
        self.run_until_complete(asyncio.sleep(0.01))
        super().bury()


class _Selector(selectors.DefaultSelector):
    """Looks at the real world first."""

    idle: Callable[[], bool]

    def select(self, timeout: float | None = None) -> list[Any]:
        seen = super().select(0)
        if seen or timeout == 0 or self.idle():
            return seen
        seen = super().select(HANGS)
        assert seen, "a process hangs"
        return seen
