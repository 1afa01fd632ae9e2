"""Peers: the processes that work for the engine, as they come, speak and go.

Each has one channel. What it says goes to the desk that it belongs to, frame by frame, and is acknowledged once all that followed from
it is durable.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.orchestrator.channel import Channel
from interlock.schemas import frames as f
from interlock.schemas.errors import StaleEpoch
from interlock.schemas.ports import Peer

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

GREET_SECONDS = 5.0
"""How long a new engine waits for peers that it was told of before it goes on without them."""

ENDED = "(ended)"
"""Whose frame it is where its dispatch is known no more: some task's that has gone on without it."""


_OF_A_TASK = (f.Commands, f.EntryChecked, f.CallEnded)
"""The frames that name their task themselves."""


class PeerRef(NamedTuple):
    """A peer to talk to. `kind`: `replica`, `runner` or `models`; `pool`: the agent, the app or `models`."""

    name: str
    kind: str
    pool: str
    peer: Peer


class Peers:
    """The engine's channels. `lost(name)` is told of every peer process that has ended."""

    def __init__(self, engine: "Engine", lost: Callable[[str], None]) -> None:
        self._engine, self._lost = engine, lost
        self.channels: dict[str, Channel] = {}
        self._greeting: dict[str, str] = {}  # peers that have not answered yet, by name, and their pools
        self._greeted, self._met_one = asyncio.Event(), asyncio.Event()
        self._runner_came = asyncio.Event()

    async def greet(self, refs: Iterable[PeerRef]) -> None:
        """Reach all that a new engine was told of; returns once each has answered, or after a while without them."""
        refs = list(refs)
        self._greeting = {ref.name: ref.pool for ref in refs}
        for ref in refs:
            self.join(ref)
        self._check_greeted()
        try:
            async with asyncio.timeout(GREET_SECONDS):
                await self._greeted.wait()
        except TimeoutError:
            pass  # who answers later is known then: see `expects`

    def expects(self, pool: str) -> bool:
        """Whether a peer of this pool has not answered this orchestrator yet: it may hold what nobody else seems to."""
        return pool in self._greeting.values()

    def join(self, ref: PeerRef) -> None:
        """Open a channel to a peer process; a name that is known already is left alone."""
        if ref.name in self.channels or self._engine.detached:
            return
        engine = self._engine
        receive, opened, closed = {
            "replica": (self._from_replica, engine.dispatches.opened, engine.dispatches.closed),
            "runner": (self._from_runner, self._runner_opened, self._runner_closed),
            "models": (self._from_models, engine.calls.gateway_opened, engine.calls.gateway_closed),
        }[ref.kind]

        def on_open(channel: Channel, holds: list[str]) -> None:
            if not engine.detached:
                opened(channel, holds)
                self._met(channel)

        def on_close(channel: Channel, stale: bool) -> None:
            if engine.detached:
                return
            if stale:
                engine.fault(StaleEpoch(epoch=engine.store.epoch, current="a newer one"))
                return
            self.channels.pop(channel.name, None)
            closed(channel)
            self._met(channel)
            self._lost(channel.name)

        def on_frames(channel: Channel, frames: list[Any]) -> None:
            for frame in frames:
                if not engine.detached:
                    engine.attempt(self._task_of(frame), receive, channel, frame)
            if not engine.detached:
                number = channel.received
                engine.store.barrier(lambda: channel.acknowledge(number))

        channel = Channel(ref.name, ref.pool, ref.peer, engine.store.epoch, receive=on_frames, opened=on_open, closed=on_close)
        self.channels[ref.name] = channel
        channel.start()

    async def leave(self, name: str) -> None:
        """Send nothing new to a peer that is about to be stopped; returns once it has finished what it has."""
        engine = self._engine
        while name in self._greeting:  # a new engine does not know yet what it works on
            self._met_one.clear()
            await self._met_one.wait()
        channel = self.channels.get(name)
        if channel is None:
            return
        for place in (engine.workflows.runners, engine.calls.gateways, *(pool.channels for pool in engine.router.pools.values())):
            if channel in place:
                place.remove(channel)
        engine.workflows.move_away(channel)
        await channel.idle()

    def detach(self) -> None:
        """Say nothing more to anybody: this engine counts as dead."""
        for channel in self.channels.values():
            channel.detach()

    async def some_runner(self) -> Channel:
        """A runner, as soon as there is one."""
        while (runner := self._engine.workflows.pick()) is None:
            self._runner_came.clear()
            await self._runner_came.wait()
        return runner

    def give_up(self, runner: Channel) -> None:
        """A runner hangs: it counts as ended, is reported so, and another takes over its tasks. Nothing is heard of it any more."""
        if self.channels.pop(runner.name, None) is runner:
            runner.detach()
            self._runner_closed(runner)
            self._met(runner)
            self._lost(runner.name)

    def _task_of(self, frame: Any) -> str:
        """The task that a frame is about; none where nobody knows it."""
        if isinstance(frame, _OF_A_TASK):
            return frame.task
        dispatch = self._engine.dispatches.live.get(frame.dispatch)
        return dispatch.task if dispatch is not None else ENDED

    def _met(self, channel: Channel) -> None:
        """A peer has answered, or has none to give any more."""
        if self._greeting.pop(channel.name, None) is not None:
            self._met_one.set()
            self._check_greeted()
            if self._engine.resumed:
                self._engine.dispatches.greeted(channel.pool)

    def _check_greeted(self) -> None:
        if not self._greeting:
            self._greeted.set()

    def _from_replica(self, channel: Channel, frame: Any) -> None:
        match frame:
            case f.Replied():
                self._engine.dispatches.replied(channel, frame)
            case f.EffectAsked():
                self._engine.effects.asked(channel, frame)
            case f.ToolEnded():
                self._engine.effects.ended(channel, frame)
            case f.DispatchFailure():
                self._engine.dispatches.failed(channel, frame)
            case f.LetGo():
                self._engine.dispatches.let_go(channel, frame)

    def _from_runner(self, channel: Channel, frame: Any) -> None:
        match frame:
            case f.Commands():
                self._engine.workflows.commanded(channel, frame)
            case f.EntryChecked():
                self._engine.admission.checked(frame)

    def _from_models(self, channel: Channel, frame: f.CallEnded) -> None:
        self._engine.calls.called(channel, frame)

    def _runner_opened(self, channel: Channel, holds: list[str]) -> None:
        self._engine.workflows.opened(channel, holds)
        self._runner_came.set()

    def _runner_closed(self, channel: Channel) -> None:
        self._engine.workflows.closed(channel)
        self._engine.admission.runner_closed(channel)
