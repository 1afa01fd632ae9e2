"""Workflows: activates them in runners and carries out what they command.

A runner holds the coroutine of a task and nothing that cannot be made again: whoever gets the task next replays its history. Commands
are numbered, so a frame that comes twice, from the same runner or from one that replayed, is recorded once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.history import happened, history
from interlock.orchestrator.state import TaskState
from interlock.orchestrator.working import one_more_message
from interlock.schemas import entries as e
from interlock.schemas.budget import WORKING
from interlock.schemas.canonical import decode
from interlock.schemas.errors import InterlockError, from_wire
from interlock.schemas.frames import Command, Commands, Forget, Happened, Start, untagged
from interlock.schemas.record import Outcome
from interlock.schemas.specs import RUNNERS
from interlock.schemas.times import after
from interlock.schemas.turns import Turns
from interlock.schemas.undo import UNDO

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine


STARTS_AT_MOST = 256
"""Tasks that one runner is given and has not answered for yet; others wait for their turn. A tenth of a second's work."""


class Workflows:
    """The engine's desk for runners."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.runners: list[Channel] = []
        self._turns: Turns[TaskState] = Turns()  # of the tasks that wait for a runner
        self._starting: dict[str, Channel] = {}  # tasks that their runner was given and has not answered for yet
        self._starts: Counter[str] = Counter()  # how many they are, by runner

    @property
    def waiting(self) -> int:
        """How many tasks wait for a runner."""
        return len(self._turns)

    def pick(self) -> Channel | None:
        """The runner with the fewest tasks, none where there is no runner. Where a suspect is at work another one is better."""
        return self._least_loaded([runner for runner in self.runners if runner.open])

    def _least_loaded(self, runners: list[Channel]) -> Channel | None:
        others = [runner for runner in runners if runner is not self._engine.suspects.runner]
        return min(others or runners, key=lambda runner: runner.load, default=None)

    def _with_room(self) -> Channel | None:
        """The same of those who may be given one more task."""
        return self._least_loaded([one for one in self.runners if one.open and self._starts[one.name] < STARTS_AT_MOST])

    def start(self, task: TaskState) -> None:
        """Activate a task that was just accepted."""
        if WORKING in task.limits:
            self._engine.limits.watch(task)
        self._read_and_hand(task, None)

    def load(self, task: TaskState, runner: Channel | None = None) -> None:
        """Give a task that no runner holds to one (or to `runner`), with all that was recorded so far. A suspect waits for its turn."""
        engine = self._engine
        if not task.outcome and not task.diverged and not engine.undos.keeps(task) and not engine.suspects.keeps(task):
            engine.attempt(task.id, self._read_and_hand, task, runner)

    def _read_and_hand(self, task: TaskState, runner: Channel | None) -> None:
        runner = runner or self._with_room()
        if runner is None:
            self._wait(task)
        elif task.commands or task.events:
            frames, _ = history(task.id, self._engine.store.entries(task.id))
            self._give(task, frames, runner)
        else:
            self._give(task, [], runner)

    def _wait(self, task: TaskState) -> None:
        """Let it wait for a runner. Tenants and types take turns, so that a crowd does not keep the task of somebody else waiting."""
        self._turns.put(task.id, task, task.type, task.tenant, task.priority)

    def _wait_no_more(self, task: TaskState) -> None:
        self._turns.remove(task.id, task.type, task.tenant, task.priority)

    def resume(self, task: TaskState) -> None:
        """A new orchestrator: its timers run again, and some runner holds it where it is not known to be at rest."""
        self.arm(task)
        if task.runner is None and task.rested < task.events:
            self.load(task)

    def arm(self, task: TaskState) -> None:
        """Set the timers of a task that was read from the ledger."""
        self._engine.limits.watch(task)
        for n, fires in list(task.timers.items()):
            self._arm(task, n, fires)

    def _give(self, task: TaskState, frames: list[list[Any]], runner: Channel) -> None:
        self._wait_no_more(task)
        self._starting[task.id] = runner
        self._starts[runner.name] += 1
        task.runner, task.rested = runner, -1
        if task.known >= 0:
            task.known = task.events  # what is not recorded of its replay comes as if it followed the last of them
        runner.load += 1
        self._engine.demand.given(RUNNERS, runner)
        runner.send(Start(task.id, task.type, task.request, task.accepted, frames))

    def deliver(self, task: TaskState, event: Happened) -> None:
        """Hand a durable event to the runner that holds the task; wake one up where none does."""
        if task.outcome or task.diverged:
            return
        if task.runner is not None:
            task.runner.send(event)
        else:
            self.load(task)

    def opened(self, runner: Channel, holds: list[str]) -> None:
        """A runner is there: keep the tasks that it holds, bring them up to date, and give it those that wait."""
        self.runners.append(runner)
        for held in holds:
            id, seen = held.split()
            task = self._engine.tasks.get(id)
            if task is None or task.outcome or task.runner is not None:
                runner.send(Forget(id))
                continue
            task.runner = runner
            runner.load += 1
            if int(seen) < task.events:
                self._engine.attempt(id, self._catch_up, task, runner, int(seen))
        self.give_waiting()

    def give_waiting(self) -> None:
        """Give tasks that wait to runners with room, in their turns."""
        while self._engine.resumed and self._turns and self._with_room() is not None:
            task = self._turns.take()
            if self._engine.tasks.get(task.id) is task and task.runner is None:
                self.load(task)

    def _started(self, task: TaskState) -> None:
        """Its runner has come to rest with it for the first time, or has it no more: there is room for another."""
        runner = self._starting.pop(task.id, None)
        if runner is not None:
            self._starts[runner.name] -= 1
            self.give_waiting()

    def _catch_up(self, task: TaskState, runner: Channel, seen: int) -> None:
        frames, _ = history(task.id, self._engine.store.entries(task.id))
        for wire in frames:
            frame = untagged(wire)
            if isinstance(frame, Happened) and frame.event > seen:
                runner.send(frame)

    def closed(self, runner: Channel, at_work: Mapping[str, str] | None = None) -> None:
        """A runner is gone: what it owed an answer for is activated elsewhere as soon as it is known in the middle of which task that was
        (`at_work`, where it is known already), the rest with its next event."""
        if runner in self.runners:
            self.runners.remove(runner)
        held = [task for task in self._engine.tasks.values() if task.runner is runner]
        for task in held:
            task.runner = None
            self._started(task)
            self._engine.suspects.forget(task)
        self._starts.pop(runner.name, None)
        self._engine.suspects.lost(runner.name, self.owed(held), at_work)

    def owed(self, tasks: Iterable[TaskState]) -> list[TaskState]:
        """Those of the tasks that their runner has not come to rest with."""
        return [task for task in tasks if task.rested < task.events]

    def move_away(self, runner: Channel) -> None:
        """A runner is about to leave: its tasks go to another one with their next event, those that it works on now at once."""
        for task in [task for task in self._engine.tasks.values() if task.runner is runner]:
            runner.send(Forget(task.id))
            runner.load -= 1
            task.runner = None
            self._started(task)
            self._engine.suspects.forget(task)
            if task.rested < task.events:
                self._engine.store.barrier(partial(self._load_again, task))

    def _load_again(self, task: TaskState) -> None:
        if task.runner is None:
            self.load(task)

    def forget(self, task: TaskState) -> None:
        """The task has ended."""
        self._wait_no_more(task)
        self._engine.suspects.forget(task)
        if task.runner is not None:
            task.runner.load -= 1
            task.runner.send(Forget(task.id))
            task.runner = None
            self._started(task)

    def commanded(self, runner: Channel, frame: Commands) -> None:
        """What a workflow asked for after an event: each command is recorded once and set going."""
        task = self._engine.tasks.get(frame.task)
        if task is None or task.outcome or task.diverged or task.runner is not runner:
            return
        self._started(task)
        task.rested = max(task.rested, frame.after)
        if task.strikes:
            self._engine.suspects.rested(task)
        if frame.diverged:
            self._diverged(task, runner, decode(frame.diverged))
            return
        for wire in frame.commands:
            self._carry_out(task, untagged(wire))
            if task.ended is not None:
                return

    def _diverged(self, task: TaskState, runner: Channel, error: dict[str, Any]) -> None:
        """The code is not the one that began the task: nothing is sent, a human decides."""
        runner.load -= 1
        task.runner = None
        self._engine.record(task, e.TaskDiverged(error))
        self._engine.inbox.ask_diverged(task)

    def _carry_out(self, task: TaskState, command: Command) -> None:
        engine = self._engine
        if command.kind == "done":
            engine.succeed(task, command)
        elif command.kind == "failed":
            error = decode(command.data)
            engine.end(task, Outcome.FAILED, error["message"], error=error)
        elif command.kind == "cancel":
            self._cancel(task, command.n)
        elif command.n > task.commands:
            self._begin(task, command)

    def _begin(self, task: TaskState, command: Command) -> None:
        engine = self._engine
        if command.kind == "ask":
            if task.type == UNDO:
                engine.undos.begin(task, command)
            if (refusal := one_more_message(task)) is not None:
                return engine.end(task, Outcome.BUDGET_EXCEEDED, str(refusal), error=refusal.to_wire())
            try:
                if command.refused:
                    raise from_wire(decode(command.refused))
                engine.dispatches.ask(task, command)
                engine.limits.sent(task)
            except InterlockError as error:  # the bus refuses the message: the workflow hears it, as a failure of this ask
                engine.dispatches.refuse(task, command, error)
        elif command.kind == "sleep":
            self._sleep(task, command.n, decode(command.data))
        elif command.kind == "undo":
            engine.undos.register(task, command)
        else:
            engine.inbox.question(task, command.n, decode(command.data))

    def _sleep(self, task: TaskState, n: int, seconds: float) -> None:
        fires = after(self._engine.clock.now(), seconds)
        self._engine.record(task, e.TimerSet(n, seconds, fires))
        self._arm(task, n, fires)

    def _arm(self, task: TaskState, n: int, fires: int) -> None:
        self._engine.timers.set(task.id, f"timer {n}", fires, lambda: self._fire(task, n))

    def _fire(self, task: TaskState, n: int) -> None:
        if task.outcome or n not in task.timers:
            return
        fact, number = e.TimerFired(n), task.events + 1

        def deliver() -> None:
            event = happened(task.id, number, fact, at)
            if event is not None:
                self.deliver(task, event)

        at = self._engine.record(task, fact, deliver)

    def _cancel(self, task: TaskState, n: int) -> None:
        if n in task.cancelled:
            return
        dispatch = task.asks.get(n)
        self._engine.timers.cancel(task.id, f"timer {n}")
        if dispatch is not None:
            self._engine.dispatches.drop(dispatch, "the workflow cancelled it")
        self._engine.record(task, e.CommandCancelled(n, dispatch.id if dispatch is not None else ""))
