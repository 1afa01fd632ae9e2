"""The runner: the peer that executes workflows, one activation per live task.

It holds nothing that cannot be made again: a task comes with its history, and whoever gets it next replays it. Every event is
answered with what the workflow asked for, also when that is nothing: then the orchestrator knows it to be at rest.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from interlock.actors.activation import Activation, as_failure, failed
from interlock.actors.definitions import WorkflowDefinition
from interlock.actors.mailbox import Mailbox
from interlock.schemas.canonical import encode
from interlock.schemas.errors import Diverged, InterlockError, UnknownTaskType, Unreadable
from interlock.schemas.frames import CheckEntry, Command, Commands, EntryChecked, Forget, Happened, Start, tagged
from interlock.schemas.message import read_message
from interlock.schemas.words import told, words_of

log = logging.getLogger("interlock.runner")


class Board(Protocol):
    """Where a process notes which task it works for now, readable by others even if it hangs."""

    def enter(self, task: str) -> int: ...

    def leave(self, slot: int) -> None: ...


class Runner(Mailbox):
    """Runs the workflows of one app version."""

    def __init__(self, workflows: Mapping[str, WorkflowDefinition], board: Board | None = None) -> None:
        super().__init__()
        self._workflows = workflows
        self._board = board
        self._live: dict[str, Activation] = {}
        self._killed: set[str] = set()  # tasks that nothing is begun for any more
        self._takes: dict[type[Any], Callable[[Any], None]] = {
            Start: self._start,
            Happened: self._happened,
            Forget: self._forget,
            CheckEntry: self._check_entry,
        }

    def take(self, frame: Any) -> None:
        """Run user code for one frame, to its end or until it waits, with the task on the board."""
        if self._board is None:
            self._take(frame)
            return
        slot = self._board.enter(frame.task)
        try:
            self._take(frame)
        finally:
            self._board.leave(slot)

    def _take(self, frame: Any) -> None:
        """Whatever goes wrong is one task's failure: an exception that got out of here would stop the channel for all the others."""
        try:
            self._takes[type(frame)](frame)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # user code may raise what is no Exception, as a CancelledError
            log.exception("%s: it cannot go on and fails", frame.task)
            activation = self._live.get(frame.task)
            workflow = frame.workflow if isinstance(frame, Start) else activation.name if activation is not None else ""
            after = frame.event if isinstance(frame, Happened) else 0 if activation is None else activation.last
            self._send(frame.task, after, [failed(as_failure(workflow, error))])
            self._drop(frame.task)

    def reopen(self) -> None:
        """What was acknowledged is durable, what was not is sent again: a new orchestrator only has to hear who is at rest, and where."""
        for task, activation in self._live.items():
            self.emit(Commands(task, activation.last, [], b""))

    def holds(self) -> list[str]:
        return [f"{task} {activation.last}" for task, activation in self._live.items()]

    async def cancel(self, task: str) -> bool:
        self._killed.add(task)
        self._drop(task)
        return True

    def busy(self) -> bool:
        """Never: a workflow moves only when a frame comes in, and then at once."""
        return False

    def close(self) -> None:
        """Drop every task from memory, in silence: this runner is not needed any more."""
        for task in list(self._live):
            self._drop(task)

    def _start(self, frame: Start) -> None:
        self._drop(frame.task)
        if frame.task in self._killed:
            return
        try:
            definition = self._definition(frame.workflow)
            activation = self._live[frame.task] = Activation(definition, frame)
            commands = activation.replay(frame.history)
        except Diverged as error:
            self.emit(Commands(frame.task, activation.last, [], encode(error.to_wire())))
            self._drop(frame.task)
        except (UnknownTaskType, Unreadable) as error:
            self._send(frame.task, 0, [failed(error)])
        else:
            self._send(frame.task, activation.last, commands)
            self._report(frame.task, activation.problems)

    def _happened(self, frame: Happened) -> None:
        activation = self._live.get(frame.task)
        if activation is None or frame.event <= activation.last:
            return
        if frame.event != activation.last + 1:
            log.error("%s: event %d came after event %d and was not delivered", frame.task, frame.event, activation.last)
            return
        self._send(frame.task, frame.event, activation.deliver(frame))
        if activation.problems:
            self._report(frame.task, activation.problems)

    def _forget(self, frame: Forget) -> None:
        self._drop(frame.task)

    def _check_entry(self, frame: CheckEntry) -> None:
        try:
            definition = self._definition(frame.workflow)
            request = read_message(definition.request, frame.request)
            problem = "" if definition.entry is None or definition.entry(request) else "does not hold"
        except InterlockError as error:
            problem = f"could not be checked: {words_of(error)}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a condition raises, it does not hold
            problem = f"raised {told(error)}"
        self.emit(EntryChecked(frame.task, not problem, problem))

    def _definition(self, workflow: str) -> WorkflowDefinition:
        try:
            return self._workflows[workflow]
        except KeyError:
            raise UnknownTaskType(task_type=workflow, known=", ".join(sorted(self._workflows))) from None

    def _send(self, task: str, after: int, commands: list[Command]) -> None:
        self.emit(Commands(task, after, [tagged(command) for command in commands], b""))

    def _report(self, task: str, problems: list[str]) -> None:
        for problem in problems:
            log.warning("%s: nobody looked at what went wrong in its workflow: %s", task, problem)
        problems.clear()

    def _drop(self, task: str) -> None:
        activation = self._live.pop(task, None)
        if activation is not None:
            activation.drop()
