"""The event loop of a simulation: virtual time, on which an actor that has died runs no further, and one that was stopped waits.

What belongs to an actor is told by its cell. Of an actor that has died nothing runs any more, not even what it would clean up; what is
due for one that was stopped is held back, and runs in its order when it goes on.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from heapq import heappush
from typing import Any

from interlock.cell import CELL, Cell
from interlock.testing.virtual_time import WEEK, Deadlock, VirtualTimeLoop


class Died(BaseException):
    """What runs belongs to an actor that has just crashed. Nobody may catch it."""


class _Step(asyncio.Handle):
    """One callback that belongs to a cell."""

    __slots__ = ("cell",)

    def __init__(self, callback: Callable[..., Any], args: Any, loop: "SimulatedLoop", context: Context, cell: Cell) -> None:
        super().__init__(callback, args, loop, context)
        self.cell = cell

    def _run(self) -> None:
        if _may_run(self, self.cell):
            super()._run()


class _Timer(asyncio.TimerHandle):
    """One timer that belongs to a cell."""

    __slots__ = ("cell",)

    def __init__(self, when: float, callback: Callable[..., Any], args: Any, loop: "SimulatedLoop", context: Context, cell: Cell) -> None:
        super().__init__(when, callback, args, loop, context)
        self.cell = cell

    def __lt__(self, other: Any) -> bool:
        sooner: bool = self._when < other._when  # type: ignore[attr-defined]
        return sooner

    def _run(self) -> None:
        if _may_run(self, self.cell):
            super()._run()


def _may_run(handle: "_Step | _Timer", cell: Cell) -> bool:
    if cell.gone:
        return False
    if cell.held is not None:
        cell.held.append(handle)
        return False
    loop: SimulatedLoop = handle._loop  # type: ignore[union-attr]
    loop.steps_left -= 1
    if loop.steps_left == 0:
        loop.on_step(cell)
    return not cell.gone


class SimulatedLoop(VirtualTimeLoop):
    """Virtual time on which a cell that has ended runs no further. `problems` are exceptions that nobody looked at.

    `on_step(cell)` is called before the step that `steps_left` counts down to."""

    def __init__(self, limit: float = WEEK) -> None:
        super().__init__(limit=limit)
        self.problems: list[str] = []
        self.steps_left = 0
        self.on_step: Callable[[Cell], None] = lambda cell: None
        self._tasks: list[tuple[Cell | None, asyncio.Task[Any]]] = []
        self._prune_at = 1000
        self.set_exception_handler(self._note)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        self._check_closed()  # type: ignore[attr-defined]
        if context is None:
            context = copy_context()
        cell = context.get(CELL)
        handle = asyncio.Handle(callback, args, self, context) if cell is None else _Step(callback, args, self, context, cell)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        self._check_closed()  # type: ignore[attr-defined]
        if context is None:
            context = copy_context()
        cell = context.get(CELL)
        timer = (
            asyncio.TimerHandle(when, callback, args, self, context) if cell is None else _Timer(when, callback, args, self, context, cell)
        )
        heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":  # type: ignore[override]
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        self._tasks.append((CELL.get() if context is None else context.get(CELL), task))
        if len(self._tasks) > self._prune_at:
            self._tasks = [(cell, task) for cell, task in self._tasks if not task.done()]
            self._prune_at = 2 * len(self._tasks) + 1000
        return task

    def hold(self, cell: Cell) -> None:
        """From now on the cell stands still."""
        if cell.held is None:
            cell.held = []

    def go_on(self, cell: Cell) -> None:
        """A cell that stood still goes on where it was."""
        held, cell.held = cell.held, None
        self._ready.extend(handle for handle in held or () if not handle.cancelled())

    def bury(self) -> None:
        """Let what dead actors left lying about be forgotten in silence."""
        for cell, task in self._tasks:
            if cell is not None and cell.gone and not task.done():
                _silence(task)

    def finish(self) -> None:
        """Nobody works here any more: what dead actors have left is forgotten, what others have is cancelled."""
        self.bury()
        left = [task for cell, task in self._tasks if not task.done() and not (cell is not None and cell.gone)]
        for task in left:
            task.cancel()
        with suppress(Deadlock):  # who waits, even now, for somebody who is dead
            self.run_until_complete(_all_of(left))
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Died):
            self.problems.append(f"{context['message']}: {error!r}")


async def _all_of(tasks: "list[asyncio.Task[Any]]") -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _silence(task: "asyncio.Task[Any]") -> None:
    silenced: Any = task
    silenced._log_destroy_pending = False
    asyncio.tasks._unregister_task(task)
    coro: Any = task.get_coro()
    for _ in range(3):  # a `finally` may wait for something, and is told again
        with suppress(BaseException):
            coro.close()


__all__ = ["Died", "SimulatedLoop"]
