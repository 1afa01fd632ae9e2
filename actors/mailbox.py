"""The worker's end of a channel: what every replica, runner and model gateway has in common.

The orchestrator calls `exchange`; it hands over what is new and gets back what is ready. Frames are applied in sequence, duplicates
are ignored, what was emitted is kept until the orchestrator says that it is durable. A higher epoch means another orchestrator: it
is told what runs here and gets everything again that it may not know; a lower one is refused.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from interlock.schemas.errors import StaleEpoch
from interlock.schemas.frames import Frame, carried, pack, unpack


class Mailbox(ABC):
    """Base of a peer. A subclass implements `take`, `reopen` and `holds`, and calls `emit`."""

    def __init__(self) -> None:
        self.epoch = 0
        self._applied = 0
        self._early: dict[int, tuple[list[Any], int]] = {}
        self._outbox: deque[Frame] = deque()
        self._first = 1  # number of the first frame in the outbox
        self._unsent = 1  # number of the first frame that no response of this epoch has carried
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._wake_due = False
        self._announce = False

    @abstractmethod
    def take(self, frame: Any) -> None:
        """Act on one frame from the orchestrator; called in sequence, must not block."""

    @abstractmethod
    def reopen(self) -> None:
        """Another orchestrator has come: emit again whatever is open here and was not emitted, or was acknowledged, already."""

    @abstractmethod
    def holds(self) -> list[str]:
        """What runs here now, for a new orchestrator: `KEY ATTEMPT`-like words of the subclass."""

    def busy(self) -> bool:
        """Whether something may be emitted without a further frame coming in: then a call is kept waiting here."""
        return bool(self.holds())

    @abstractmethod
    async def cancel(self, task: str) -> bool:
        """A kill, by the supervisor: let go of everything that is done for a task. True once nothing of it runs here."""

    async def cancel_all(self, tasks: Sequence[str]) -> bool:
        """The same for many, side by side; true once that is so of each."""
        return all(await asyncio.gather(*map(self.cancel, tasks)))

    def emit(self, frame: Frame) -> None:
        """Send a frame to the orchestrator, at the next chance and until it is acknowledged."""
        self._outbox.append(frame)
        if self._waiting and not self._wake_due:
            self._wake_due = True
            asyncio.get_running_loop().call_soon(self._wake)

    async def exchange(self, request: bytes) -> bytes:
        """One exchange: `[epoch, first, acknowledged, received, lost]` and frames in,
        `[epoch, first, applied, busy, holds]` and frames out (`holds` is null but in the first answer of an epoch)."""
        head, frames = unpack(request)
        epoch, first, acknowledged, received, lost = head
        if epoch < self.epoch:
            raise StaleEpoch(epoch=epoch, current=self.epoch)
        if epoch > self.epoch:
            self._begin(epoch)
        if lost:
            self._unsent = received + 1
            self._announce = self._announce or received == 0
        self._apply(first, frames, acknowledged)
        await asyncio.sleep(0)
        if epoch == self.epoch and self.busy() and not self._ready():
            await self._wait()
        return self._answer(epoch)

    def _begin(self, epoch: int) -> None:
        self.epoch, self._applied, self._first, self._unsent = epoch, 0, 1, 1
        self._early.clear()
        self._announce = True
        while self._waiting:
            self._relieve()
        self.reopen()

    def _acknowledge(self, number: int) -> None:
        while self._outbox and self._first <= number:
            self._outbox.popleft()
            self._first += 1

    def _apply(self, first: int, frames: list[Any], acknowledged: int) -> None:
        """Take frames in sequence. What overtook others waits for them, its acknowledgement too: that may rest on what they say."""
        if first > self._applied + 1:
            if len(frames) >= len(self._early.get(first, ((), 0))[0]):
                self._early[first] = frames, acknowledged
            return
        for frame in frames[self._applied + 1 - first :]:
            self._applied += 1
            self.take(frame)
        self._acknowledge(acknowledged)
        following = min(self._early, default=0)
        if 0 < following <= self._applied + 1:
            self._apply(following, *self._early.pop(following))

    def _ready(self) -> bool:
        return self._announce or self._unsent < self._first + len(self._outbox)

    async def _wait(self) -> None:
        if self._waiting:
            self._relieve()
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake(self) -> None:
        self._wake_due = False
        if self._ready():
            self._relieve()

    def _relieve(self) -> None:
        if self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)

    def _answer(self, epoch: int) -> bytes:
        if epoch != self.epoch:  # relieved because another orchestrator came
            raise StaleEpoch(epoch=epoch, current=self.epoch)
        start = max(self._unsent, self._first)
        offset = start - self._first
        frames = carried(islice(self._outbox, offset, None))
        self._unsent = start + len(frames)
        more = self._unsent < self._first + len(self._outbox)
        holds, self._announce = (self.holds() if self._announce else None), False
        return pack([epoch, start, self._applied, more or self.busy(), holds], frames)
