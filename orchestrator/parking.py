"""Parking: a task that only waits leaves memory, and comes back with whatever happens to it.

A task is parked once its workflow is at rest, nothing is under way for it anywhere, and for a while nothing has moved. That is recorded, so
it also says that its workflow owes nothing: a later orchestrator neither reads nor replays it before its time. It is parked as long as that
is the last entry about it. Of its state nothing is kept but its name and when it wakes; it is folded again from the ledger when somebody
wants something of it, and its workflow is replayed by a runner when there is an event for it.
"""

import asyncio
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import zip_longest
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

from interlock.orchestrator.letters import DEAD
from interlock.orchestrator.state import DispatchState, EffectState, TaskState, fold
from interlock.orchestrator.working import works_until
from interlock.schemas import entries as e
from interlock.schemas.alarms import Alarms
from interlock.schemas.times import after

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

WAKE_SECONDS, WAKE_PAUSE = 0.02, 0.05
"""How long one turn of the event loop fetches when many wake at one time, and when the next one does after its begin."""
AWAKE_AT_MOST = 1000
"""Of those that woke: how many may have work that is not done yet. Others stay parked meanwhile, so that they are never all in memory."""
UNREADABLE_SECONDS = 60.0
"""When a task is fetched again whose entries could not be read."""

_LOOK, _WAKE = "parking", "wakes"


class ParkingPace(NamedTuple):
    """Seconds: a task is parked that has not moved for `still`, and `each` for every event that a replay of it goes through, so that it
    costs little against the time that it was away. One looks every `look`."""

    still: float = 5.0
    each: float = 0.01
    look: float = 1.0


class Parking:
    """The engine's desk for tasks that are not in memory: `id in parking` says which. None of their entries waits for the disk."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.pace = ParkingPace()
        self._parked = Alarms()
        self._waiting: set[str] = set()
        self._dead: dict[str, int] = {}
        self._owners: dict[str, tuple[str, str]] = {}  # suspended dispatch → its parked task and its agent, where that was recorded
        self._looking = False
        self._awake: set[str] = set()  # they woke, and had something to do when one looked last

    def __contains__(self, id: str) -> bool:
        return id in self._parked

    def __iter__(self) -> Iterator[str]:
        return iter(self._parked)

    def __len__(self) -> int:
        return len(self._parked)

    @property
    def waiting(self) -> int:
        """How many of them wait for a human."""
        return len(self._waiting)

    @property
    def dead(self) -> int:
        """How many dead letters they have."""
        return sum(self._dead.values())

    def restore(self, entries: Iterable[e.Entry]) -> None:
        """What an orchestrator before this one has parked stays so."""
        for entry in entries:
            fact = entry.open()
            assert isinstance(fact, e.TaskParked)
            self._keep(entry.task, fact)

    # --- leaving ---------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """There is a task in memory: look now and then whether it may leave."""
        if not self._looking:
            self._looking = True
            timers = self._engine.timers
            timers.set("", _LOOK, after(self._engine.clock.now(), self.pace.look), self._look)

    def _look(self) -> None:
        engine, now = self._engine, self._engine.clock.now()
        self._looking = False
        since = now - int(self.pace.still * 1e6)
        if engine.resumed and engine.store.stalled is None:
            for task in [task for task in engine.tasks.values() if task.moved <= since and self._may_leave(task, now)]:
                engine.attempt(task.id, self._park, task)
        if engine.tasks:
            self.watch()

    def _may_leave(self, task: TaskState, now: int) -> bool:
        """Whether nothing of it is under way, and nothing will be soon."""
        replay = int((self.pace.still + self.pace.each * task.events) * 1e6)
        wakes = _wakes(task)
        return (
            now - task.moved >= replay
            and not (wakes and wakes - now < replay)
            and not task.outcome
            and _is_resting(task)
            and not self._engine.suspects.is_one(task.id)
            and all(map(self._is_idle, task.dispatches.values()))
        )

    def _is_idle(self, dispatch: DispatchState) -> bool:
        """Whether it waits for a human, nobody has anything of it any more, and nobody else waits for what became of its writes."""
        return (
            bool(dispatch.suspended)
            and dispatch.replica is None
            and not self._engine.dispatches.is_letting_go(dispatch.id, dispatch.attempt)
            and all(_is_at_rest(effect) for effect in dispatch.effects.values())
        )

    def _park(self, task: TaskState) -> None:
        if task.parked:  # it was fetched for nothing, or the disk is slow
            self._engine.store.barrier(partial(self._engine.attempt, task.id, self._leave, task))
        else:
            self._engine.record(task, _parked(task), partial(self._leave, task))

    def _leave(self, task: TaskState) -> None:
        """Drop it from memory, here and in its runner, unless something has happened meanwhile."""
        engine = self._engine
        if not task.parked or engine.tasks.get(task.id) is not task:
            return
        self._keep(task.id, _parked(task))
        engine.workflows.forget(task)
        for n in task.timers:
            engine.timers.cancel(task.id, f"timer {n}")
        engine.inbox.forget(task)
        engine.limits.forget(task)
        for dispatch in task.dispatches.values():
            engine.dispatches.live.pop(dispatch.id, None)
            for effect in dispatch.effects.values():
                engine.deeds.leave(effect)
        del engine.tasks[task.id]

    def _keep(self, id: str, fact: e.TaskParked) -> None:
        self._parked.set(id, fact.wakes)
        if fact.items:
            self._waiting.add(id)
        if fact.dead:
            self._dead[id] = fact.dead
        self._owners.update(
            {dispatch: (id, agent) for dispatch, agent in zip_longest(fact.dispatches, map(intern, fact.agents), fillvalue="")}
        )
        if fact.wakes and fact.wakes == self._parked.first():
            self._set_timer(self._engine.clock.now())

    # --- coming back -----------------------------------------------------------------------------------------------------

    def fetch(self, id: str) -> TaskState | None:
        """The parked task, in memory again, as its entries tell; none where there is no such task. Its workflow is replayed with its next
        event."""
        if id not in self._parked:
            return None
        engine = self._engine
        entries = engine.store.entries(id)
        task = fold(id, entries)
        self._forget(task)
        if entries[0].epoch < engine.store.epoch:
            engine.owed.older.add(id)
        engine.tasks[id] = task
        engine.dispatches.live.update(task.dispatches)
        engine.workflows.arm(task)
        engine.inbox.know(task)
        for item in task.open_items:
            engine.inbox.watch(task, item)
        self.watch()
        return task

    def _fetch_due(self, id: str) -> None:
        try:
            self.fetch(id)
        finally:
            if id in self._parked:  # without its entries it can be given no end either: it wakes once they are whole again
                self._parked.set(id, after(self._engine.clock.now(), UNREADABLE_SECONDS))

    def fetch_owner(self, dispatch: str) -> TaskState | None:
        """The parked task that this dispatch belongs to, in memory again."""
        return self.fetch(self._owners.get(dispatch, ("", ""))[0])

    def of_agent(self, agent: str) -> list[str]:
        """The parked tasks in which something of this agent waits, or may."""
        return list(dict.fromkeys(id for id, known in self._owners.values() if known in (agent, "")))

    def _forget(self, task: TaskState) -> None:
        self._parked.drop(task.id)
        self._waiting.discard(task.id)
        self._dead.pop(task.id, None)
        for dispatch in task.dispatches:
            self._owners.pop(dispatch, None)

    def _wake(self) -> None:
        """Fetch what is due: its timers run again, and are due at once."""
        engine, now = self._engine, self._engine.clock.now()
        if not engine.resumed:  # nothing happens before this orchestrator knows who holds what
            engine.timers.set("", _WAKE, after(now, WAKE_PAUSE), self._wake)
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + WAKE_SECONDS
        self._awake = {id for id in self._awake if (task := engine.tasks.get(id)) and not _is_resting(task)}
        while len(self._awake) < AWAKE_AT_MOST and loop.time() < until and (due := self._parked.due(now, 1)):
            engine.attempt(due[0], self._fetch_due, due[0])
            self._awake.add(due[0])
        if self._parked.first():
            self._set_timer(now)

    def _set_timer(self, now: int) -> None:
        """One timer for all, until the first of them is due; what is due already has its next turn after a pause."""
        self._engine.timers.set("", _WAKE, after(now, self._parked.pause(now) or WAKE_PAUSE), self._wake)


def _is_resting(task: TaskState) -> bool:
    """Whether its workflow has nothing to do before something else happens."""
    return task.diverged or task.rested >= task.events


def _is_at_rest(effect: EffectState) -> bool:
    """Whether nothing of it is under way, now that no replica has it. A read that was granted stays so for ever: its end is nobody's any
    more, and whoever gets the dispatch next reads again."""
    return (effect.status in ("asked", "ended") or (effect.kind, effect.status) == ("read", "granted")) and not effect.to_settle


def _wakes(task: TaskState) -> int:
    """When the first of what it waits for is due by the clock; 0 where nothing is."""
    until = works_until(task)
    return min((*task.timers.values(), *(item.expires for item in task.open_items), *((until,) if until else ())), default=0)


def _parked(task: TaskState) -> e.TaskParked:
    items, agents = task.open_items, [dispatch.agent for dispatch in task.dispatches.values()]
    return e.TaskParked(_wakes(task), len(items), sum(item.kind == DEAD for item in items), list(task.dispatches), agents)
