"""Suspects: the tasks in the middle of which a runner ended or was ended.

A workflow may hang, leave its process or use up its memory. Its runner then has to go, and what it was doing at that moment is on its
board: that task is the suspect, all others are innocent. A suspect is resumed last and alone, so that it costs nobody else anything; the
second time in a row its task is `failed: stalled`. One that comes to rest again was hit by chance, and is cleared.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.state import TaskState
from interlock.schemas import entries as e
from interlock.schemas.errors import Stalled
from interlock.schemas.ports import Inquest
from interlock.schemas.record import Outcome
from interlock.schemas.times import after

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

STRIKES_AT_MOST = 2
"""Losses in a row, at one place of a workflow."""
LOSSES_AT_MOST = 5
"""Losses in all: a workflow that uses more memory with each event dies at another place each time."""
INQUEST_SECONDS = 5.0
"""For an answer to what a lost runner was doing; without one nobody is suspected."""
LAST_SECONDS = 5.0
"""How long a suspect waits at the most for a runner that owes nobody else an answer."""
LOOK_SECONDS = 0.1
ENDED = "its process ended"

_ALARM = "suspects"
_LOG = logging.getLogger("interlock.suspects")


class Suspects:
    """What becomes of the tasks that a lost runner owed an answer for."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._asked: set[str] = set()  # of a lost runner: which of them it was is being found out
        self._waiting: dict[str, float] = {}  # suspects, and since when they wait (loop time)
        self._alone = ""  # the one that is being resumed now
        self.runner: Channel | None = None
        """Where that is: nobody else is started there meanwhile."""

    def __len__(self) -> int:
        return len(self._waiting) + bool(self._alone)

    def is_one(self, id: str) -> bool:
        """Whether the task is a suspect now, or may be one."""
        return id in self._asked or id in self._waiting or id == self._alone

    def keeps(self, task: TaskState) -> bool:
        """Whether the task is not to be activated now: it may be a suspect, or is one and waits for its turn."""
        if task.id in self._asked or task.id in self._waiting:
            return True
        if not task.strikes or task.cleared or task.id == self._alone:
            return False
        self._waiting[task.id] = asyncio.get_running_loop().time()
        self._look_soon()
        return True

    def lost(self, runner: str, owed: list[TaskState], at_work: Mapping[str, str] | None) -> None:
        """A runner is gone that owed an answer for these tasks. `at_work` says what it was doing to which of them, where that is known."""
        if not owed:
            return
        ids = [task.id for task in owed]
        self._asked.update(ids)
        if at_work is not None:
            self._engine.store.barrier(lambda: self._sort(runner, ids, at_work))
        else:
            self._engine.background(self._find_out(runner, ids))

    async def _find_out(self, runner: str, ids: list[str]) -> None:
        found = await self.inquest(runner, ids)
        if not self._engine.detached:
            at_work = dict.fromkeys(found.at_work, found.why or ENDED)
            self._engine.store.barrier(lambda: self._sort(runner, ids, at_work))

    async def inquest(self, runner: str, ids: list[str]) -> Inquest:
        """What the runner was doing, by its own note; nothing where nobody can say."""
        try:
            async with asyncio.timeout(INQUEST_SECONDS):
                return await self._engine.inquire(runner, ids)
        except Exception:  # noqa: BLE001 - logged; without evidence nobody is suspected
            _LOG.warning("what %s was doing cannot be found out", runner, exc_info=True)
            return Inquest({})

    def _sort(self, runner: str, ids: list[str], at_work: Mapping[str, str]) -> None:
        """The innocent go on at once, the suspect last."""
        self._asked.difference_update(ids)
        for id in sorted(ids, key=at_work.__contains__):
            task = self._engine.tasks.get(id)
            if task is None or task.outcome or task.diverged or task.runner is not None:
                continue
            if id in at_work:
                self._engine.attempt(id, self._strike, task, runner, at_work[id])
            else:
                self._engine.attempt(id, self._engine.workflows.load, task)

    def _strike(self, task: TaskState, runner: str, why: str) -> None:
        engine = self._engine
        strike = 1 if task.cleared else task.strikes + 1
        engine.record(task, e.RunnerLost(runner, why, task.events, strike), lambda: engine.workflows.load(task))
        if strike >= STRIKES_AT_MOST or task.losses >= LOSSES_AT_MOST:
            error = Stalled(losses=task.losses, workflow=task.type, runner=runner, why=why)
            engine.end(task, Outcome.FAILED, str(error), error=error.to_wire())

    # --- last and alone ----------------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        timers, at = self._engine.timers, after(self._engine.clock.now(), LOOK_SECONDS)
        timers.set("", _ALARM, at, self._look)

    def _look(self) -> None:
        """Resume the next suspect, if there is a runner for it."""
        if not self._waiting:
            return
        if not self._alone:
            id, since = next(iter(self._waiting.items()))
            runner = self._free_runner(overdue=asyncio.get_running_loop().time() - since >= LAST_SECONDS)
            if runner is not None:
                del self._waiting[id]
                self._resume(id, runner)
        self._look_soon()

    def _free_runner(self, *, overdue: bool) -> Channel | None:
        """One that owes nobody an answer; any one if this takes too long."""
        runners = [runner for runner in self._engine.workflows.runners if runner.open]
        owing = {task.runner.name for task in self._engine.tasks.values() if task.runner is not None and task.rested < task.events}
        idle = [runner for runner in runners if runner.name not in owing]
        return min(idle or (runners if overdue else []), key=lambda runner: runner.load, default=None)

    def _resume(self, id: str, runner: Channel) -> None:
        task = self._engine.tasks.get(id)
        if task is None or task.outcome or task.diverged or task.runner is not None:
            return
        self._alone, self.runner = id, runner
        self._engine.attempt(id, self._engine.workflows.load, task, runner)

    def rested(self, task: TaskState) -> None:
        """A task that was struck has come to rest: if that is past the place where it was, it was no fault of its own."""
        task.cleared = task.rested >= task.struck
        self._release(task.id)

    def forget(self, task: TaskState) -> None:
        """The task has ended, or its runner has."""
        self._waiting.pop(task.id, None)
        self._release(task.id)

    def _release(self, id: str) -> None:
        if self._alone == id:
            self._alone, self.runner = "", None
