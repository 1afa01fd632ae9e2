"""The orchestrator's end of a channel: frames to one peer, in sequence, through at most two open exchanges.

An exchange is kept waiting at the peer as long as it is busy, so that its answers come at once; a new one relieves it. Under load
batches grow by themselves. What the peer sent is acknowledged once it is durable, never before.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any

from interlock.orchestrator.silence import Silence
from interlock.schemas.errors import StaleEpoch
from interlock.schemas.frames import Frame, carried, pack, unpack
from interlock.schemas.ports import Peer, PeerGone

OPEN_AT_MOST = 2
RETRY_SECONDS = 0.05

log = logging.getLogger("interlock.channel")

Receive = Callable[["Channel", list[Any]], None]


class Channel:
    """A channel to one peer process. `name` is its incarnation, `pool` what it belongs to.

    `receive(channel, frames)` gets what came, in order; it calls `acknowledge` once all of it is durable. `opened(channel, holds)` runs
    once, with what the peer held when this epoch reached it. `closed(channel, stale)` runs once: the process is gone, or (`stale`) it
    serves a newer orchestrator. A peer that fails in an unforeseen way counts as gone: what it applied is not known any more.
    """

    def __init__(
        self,
        name: str,
        pool: str,
        peer: Peer,
        epoch: int,
        *,
        receive: Receive,
        opened: Callable[["Channel", list[str]], None],
        closed: Callable[["Channel", bool], None],
    ) -> None:
        self.name, self.pool, self._peer, self._epoch = name, pool, peer, epoch
        self._on_frames, self._on_open, self._on_close = receive, opened, closed
        self.silence: Silence | None = None
        self.answers = 0
        self._load = 0
        self._idle: asyncio.Future[None] | None = None
        self.alive = True
        self.open = False
        self._queue: deque[Frame] = deque()  # not yet applied by the peer, the first has number _sent_first
        self._queue_first = 1
        self._unsent = 1
        self._calls = 0
        self._busy, self._newest = True, (0, 0)
        self._lost = False
        self._received = 0
        self._acknowledged = 0
        self._early: dict[int, list[Any]] = {}
        self._kick_due = False

    def start(self) -> None:
        """Greet the peer: the first exchange carries the epoch and brings back what it holds."""
        self._kick()

    def send(self, frame: Frame) -> None:
        """Queue a frame; it leaves with the next exchange, at the end of this turn of the event loop."""
        self._queue.append(frame)
        if not self._kick_due:
            self._kick_due = True
            asyncio.get_running_loop().call_soon(self._kick)

    def acknowledge(self, number: int) -> None:
        """Everything up to the peer's frame `number` is durable."""
        self._acknowledged = max(self._acknowledged, number)

    @property
    def load(self) -> int:
        """How much work the engine counts here; the channel itself does not use it."""
        return self._load

    @load.setter
    def load(self, load: int) -> None:
        self._load = load
        if load == 0:
            self._settle_idle()

    async def idle(self) -> None:
        """Wait until there is no work here, or the peer is gone."""
        while self._load and self.alive:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def _settle_idle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._idle = None

    @property
    def unread(self) -> Collection[Frame]:
        """What the peer is not known to have taken."""
        return self._queue

    @property
    def received(self) -> int:
        """Number of the peer's last frame that was received in sequence."""
        return self._received

    def end(self) -> None:
        """The process has ended, as somebody else has seen: one that had nothing to say would be noticed by the next message to it only."""
        self._close(stale=False)

    def detach(self) -> None:
        """Stop for ever without a word: the process that this channel belongs to counts as dead."""
        self.alive = False

    @property
    def asking(self) -> bool:
        """Whether an answer is due."""
        return self._calls > 0 or self._lost

    def ping(self) -> None:
        """Relieve the exchange that the peer may keep waiting: it answers now, if it answers at all."""
        if self.alive and self.open and self._calls < OPEN_AT_MOST:
            asyncio.get_running_loop().create_task(self._exchange(self._request()))

    def _kick(self) -> None:
        self._kick_due = False
        if not self.alive:
            return
        unsent = self._unsent < self._queue_first + len(self._queue)
        at_most = OPEN_AT_MOST if self.open else 1  # what the peer holds comes with the first answer: no other may overtake it
        if ((unsent or self._lost) and self._calls < at_most) or (self._busy and self._calls == 0):
            asyncio.get_running_loop().create_task(self._exchange(self._request()))
            self._kick()

    def _request(self) -> bytes:
        first = self._unsent
        start = first - self._queue_first
        frames = carried(islice(self._queue, start, None))
        self._unsent = first + len(frames)
        self._calls += 1
        lost, self._lost = self._lost, False
        if self.silence is not None:
            self.silence.begin()
        return pack([self._epoch, first, self._acknowledged, self._received, lost], frames)

    async def _exchange(self, request: bytes) -> None:
        try:
            answer = unpack(await self._peer.exchange(request))
        except PeerGone:
            self._close(stale=False)
        except StaleEpoch:
            self._close(stale=True)
        except OSError:  # the answer is lost, the process may live: ask again for all that was not applied
            self._calls -= 1
            self._unsent, self._lost = self._queue_first, True
            await asyncio.sleep(RETRY_SECONDS)
            self._kick()
        except Exception:
            log.exception("%s failed in an exchange and is given up; its work goes elsewhere", self.name)
            self._close(stale=False)
        else:
            self._calls -= 1
            self.answers += 1
            if self.alive:
                opened = self.open
                first, frames = self._accept(answer)
                self._kick()
                if opened:  # what comes with what the peer holds belongs to it: the engine goes on from both together
                    await asyncio.sleep(0)  # the next exchange leaves before these frames are worked on
                if self.alive:
                    self._sequence(first, frames)

    def _close(self, *, stale: bool) -> None:
        if self.alive:
            self.alive = False
            self._settle_idle()
            self._on_close(self, stale)

    def _accept(self, answer: tuple[Any, list[Any]]) -> tuple[int, list[Any]]:
        """Take note of how the peer stands; its frames and the number of the first."""
        (_, first, applied, busy, holds), frames = answer
        age = (first + len(frames), applied)
        if age >= self._newest:  # an answer that was overtaken says nothing about now
            self._busy = busy or (age == self._newest and self._busy)
            self._newest = age
        while self._queue and self._queue_first <= applied:
            self._queue.popleft()
            self._queue_first += 1
        self._unsent = max(self._unsent, self._queue_first)
        if holds is not None and not self.open:
            self.open = True
            self._on_open(self, holds)
        return first, frames

    def _sequence(self, first: int, frames: list[Any]) -> None:
        if first > self._received + 1:
            if len(frames) > len(self._early.get(first, ())):
                self._early[first] = frames
            return
        fresh = frames[self._received + 1 - first :]
        self._received += len(fresh)
        if fresh:
            self._on_frames(self, fresh)
        following = min(self._early, default=0)
        if 0 < following <= self._received + 1:
            self._sequence(following, self._early.pop(following))
