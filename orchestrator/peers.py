"""Peers: the processes that work for the engine, as they come, speak and go.

Each has one channel. What it says goes to the desk that it belongs to, frame by frame, and is acknowledged once all that followed from
it is durable.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.noted import noted
from interlock.orchestrator.silence import Silence
from interlock.schemas import entries as e
from interlock.schemas import frames as f
from interlock.schemas.errors import StaleEpoch
from interlock.schemas.ports import Lost, Peer
from interlock.schemas.specs import MODELS

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

GREET_SECONDS = 5.0
"""How long a new engine waits for peers that it was told of before it goes on without them."""

SILENT_SECONDS = 30.0
"""A peer that answers nothing for so long is ended, and its pool gets another."""

PEER_LOOK, RUNNER_LOOK = 5.0, 1.0
"""How often one looks for whoever does not answer. A runner keeps no exchange waiting, so of it one knows soon."""

_READ_AT_ONCE = 50
"""Of so many tasks the entries are read in one turn of the event loop."""

ENDED = "(ended)"
"""Whose frame it is where it is no task's, or its dispatch is known no more: some task's that has gone on without it."""


_OF_A_TASK = (f.Commands, f.EntryChecked, f.CallEnded)
"""The frames that name their task themselves."""


class PeerRef(NamedTuple):
    """A peer to talk to. `kind`: `replica`, `runner` or `models`; `pool`: the agent, the app or `models`."""

    name: str
    kind: str
    pool: str
    peer: Peer


class Peers:
    """The engine's channels. `lost(name, why)` is told of every peer process that has ended, or does not answer and shall be ended."""

    def __init__(self, engine: "Engine", lost: Lost) -> None:
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
            self._lost(channel.name, "its process ended")

        def on_frames(channel: Channel, frames: list[Any]) -> None:
            for frame in frames:
                if not engine.detached:
                    engine.attempt(self._task_of(frame), receive, channel, frame)
            if not engine.detached:
                number = channel.received
                engine.store.barrier(lambda: channel.acknowledge(number))

        channel = Channel(ref.name, ref.pool, ref.peer, engine.store.epoch, receive=on_frames, opened=on_open, closed=on_close)
        if ref.kind == "runner":
            channel.silence = Silence(channel, RUNNER_LOOK, partial(self._runner_silent, channel))
        else:
            channel.silence = Silence(channel, PEER_LOOK, partial(self._peer_silent, channel))
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

    def left(self, name: str) -> None:
        """A peer has ended, as the supervisor has heard; one that is not known any more, or not yet, changes nothing."""
        channel = self.channels.get(name)
        if channel is not None:
            channel.end()

    async def innocent(self, tasks: Sequence[str], names: Iterable[str]) -> list[str]:
        """Those of these peers in which nothing of the tasks can wait unread: each has answered this orchestrator, so what an earlier one
        sent is refused there, and has taken all that was sent about them. A gateway never is: what it calls is on no board."""
        engine, about = self._engine, set(tasks)
        for start in range(0, len(tasks), _READ_AT_ONCE):
            for entries in engine.store.entries_of(tasks[start : start + _READ_AT_ONCE]).values():
                sent = (entry.open() for entry in entries if entry.kind == e.MessageSent.KIND)
                about.update(fact.dispatch for fact in sent if isinstance(fact, e.MessageSent))
            await asyncio.sleep(0)
        asked = [channel for name in names if (channel := self.channels.get(name)) is not None and channel.open and channel.pool != MODELS]
        return [
            channel.name
            for channel in asked
            if not engine.dispatches.is_held(about, channel)
            and not any(about & {getattr(frame, "task", ""), getattr(frame, "dispatch", "")} for frame in channel.unread)
        ]

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

    def give_up(self, runner: Channel, at_work: Mapping[str, str] | None = None) -> None:
        """A runner hangs: it counts as ended, is reported so, and another takes over its tasks. Nothing is heard of it any more. `at_work`
        is what it hangs in, where that is known."""
        if self.channels.pop(runner.name, None) is runner:
            runner.detach()
            self._runner_gone(runner, at_work)
            self._met(runner)
            self._lost(runner.name, "it was given up: it does not answer")

    # --- who does not answer -----------------------------------------------------------------------------------------------------

    def _peer_silent(self, channel: Channel, seconds: float) -> None:
        """A replica or a gateway does not answer: its process is ended. What it did goes elsewhere once it is seen to have ended, and not
        before: it may still be writing."""
        if seconds >= SILENT_SECONDS:
            self._lost(channel.name, f"it has not answered for {seconds:.0f} s")

    def _runner_silent(self, runner: Channel, seconds: float) -> None:
        """A runner does not answer: perhaps a workflow hangs in it. Its board says which."""
        owed = self._engine.workflows.owed(task for task in self._engine.tasks.values() if task.runner is runner)
        self._engine.background(self._look_at(runner, seconds, [task.id for task in owed]))

    async def _look_at(self, runner: Channel, seconds: float, owed: list[str]) -> None:
        found = await self._engine.suspects.inquest(runner.name, owed)
        if self._engine.detached or not runner.alive:
            return
        hanging = {
            id: f"it was at work on it for {at_work:.0f} s without an end"
            for id, at_work in found.at_work.items()
            if (task := self._engine.tasks.get(id)) is not None
            and min(at_work, seconds + RUNNER_LOOK) >= self._engine.router.resume_seconds(task.type)
        }
        if hanging or (seconds >= SILENT_SECONDS and not found.at_work):
            self.give_up(runner, hanging)

    def _task_of(self, frame: Any) -> str:
        """The task that a frame is about; none where nobody knows it."""
        if isinstance(frame, _OF_A_TASK):
            return frame.task
        if isinstance(frame, f.BreakerMoved):
            return ENDED
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
            case f.Probed():
                self._engine.deeds.probed(channel, frame)
            case f.Lapsed():
                self._engine.effects.lapsed(channel, frame)
            case f.Noted():
                noted(self._engine, channel, frame)
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

    def _from_models(self, channel: Channel, frame: f.CallEnded | f.BreakerMoved) -> None:
        if isinstance(frame, f.BreakerMoved):
            self._engine.calls.breakers.moved(channel.name, frame)
        else:
            self._engine.calls.called(channel, frame)

    def _runner_opened(self, channel: Channel, holds: list[str]) -> None:
        self._engine.workflows.opened(channel, holds)
        self._runner_came.set()

    def _runner_closed(self, channel: Channel) -> None:
        self._runner_gone(channel, None)

    def _runner_gone(self, channel: Channel, at_work: Mapping[str, str] | None) -> None:
        self._engine.workflows.closed(channel, at_work)
        self._engine.admission.runner_closed(channel)
