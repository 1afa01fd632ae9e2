"""Cells: the actors of a bus that is one process, kept apart from each other as processes would be.

What is called in a cell runs in the cell's own context and belongs to it; who calls learns of the cell's end, and of nothing that
happens there afterwards. An event loop may look at `CELL` and let a cell that has ended run no further: so simulations kill.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, TypeVar

from interlock.actors.mailbox import Mailbox
from interlock.schemas.ports import PeerGone

T = TypeVar("T")

CELL: ContextVar["Cell | None"] = ContextVar("interlock_cell", default=None)
"""The cell to which what runs now belongs; none: the driver's own code."""


class Cell:
    """Where one actor lives; `end` is its death. `held`: what waits here while the cell stands still, on a loop that knows of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gone = False
        self.held: list[asyncio.Handle] | None = None
        self._context = Context()
        self._context.run(CELL.set, self)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` here and return what it returns. Raises `PeerGone` once the cell has ended, also in the middle of it."""
        if self.gone:
            work.close()
            raise PeerGone
        loop = asyncio.get_running_loop()
        running = loop.create_task(work, context=self._context.copy())
        either: asyncio.Future[None] = loop.create_future()
        over, nobodys = partial(_over, either), Context()  # whoever called, and this cell, may have ended by then
        running.add_done_callback(over, context=nobodys)
        self._ended.add_done_callback(over, context=nobodys)
        try:
            await either
        finally:
            self._ended.remove_done_callback(over)
        if self.gone:
            raise PeerGone
        return running.result()

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Begin `work` here; nobody waits for it."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy(), name=self.name)

    def post(self, then: Callable[..., object], *args: Any) -> None:
        """Have `then` run here soon; it does not once the cell, or the one that posts, has ended."""
        sender = CELL.get()
        if not self.gone and (sender is None or not sender.gone):
            asyncio.get_running_loop().call_soon(then, *args, context=self._context.copy())

    def end(self) -> None:
        if not self.gone:
            self.gone = True
            self._ended.set_result(None)


class LocalPeer:
    """A peer in this process, in a cell of its own."""

    def __init__(self, host: Mailbox, name: str) -> None:
        self.host, self.cell = host, Cell(name)

    async def exchange(self, request: bytes) -> bytes:
        return await self.cell.call(self.host.exchange(request))

    def end(self) -> None:
        self.cell.end()

    @property
    def gone(self) -> bool:
        return self.cell.gone


def _over(either: "asyncio.Future[None]", done: "asyncio.Future[Any]") -> None:
    """Whoever called may be gone; then nobody else looks at how it ended."""
    if not either.done():
        either.set_result(None)
    if not done.cancelled():
        done.exception()
