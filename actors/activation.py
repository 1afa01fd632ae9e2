"""One workflow, live in memory: from its start, through each event, to how it ends; and its replay against the record.

An activation takes events one at a time and answers each with the commands that the workflow made until it was at rest again. It
never raises what the workflow raised: that is a command too, `failed`.
"""

from collections.abc import Iterator
from contextvars import Context
from typing import Any, NoReturn

from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition, condition_name
from interlock.actors.desk import Desk
from interlock.actors.replay import ReplayLoop
from interlock.actors.rounds import AskRounds
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import Diverged, ExitFailed, InterlockError, Stopped, WorkflowFailed
from interlock.schemas.frames import Command, Happened, Start, untagged
from interlock.schemas.message import read_message
from interlock.schemas.words import clean, told, words_of

_ERROR_BYTES = 65_536
_SIDE_BYTES = 20_000
"""How much of a command is shown to whoever decides about a task that diverged."""


class Activation:
    """`last` is the number of the event delivered last, `problems` are exceptions in the workflow's own tasks that nobody looked at.

    Raises `Unreadable` for a request that the workflow's class refuses.
    """

    def __init__(self, definition: WorkflowDefinition, start: Start) -> None:
        self.last = 0
        self._definition = definition
        self._desk = Desk(start.task, start.at, AskRounds(f"workflow {definition.name}", definition.repeats))
        self._loop = ReplayLoop(self._desk)
        self.problems = self._loop.problems
        self._request = read_message(definition.request, start.request)

    @property
    def name(self) -> str:
        """Of the workflow."""
        return self._definition.name

    def begin(self) -> list[Command]:
        """Start the workflow; its first commands."""
        coro = self._definition.function(self._request, WorkflowContext(self._desk, self._definition.receives, self._definition.migrations))
        self._main = self._loop.create_task(coro, context=Context())
        return self._run()

    def deliver(self, event: Happened) -> list[Command]:
        """What the workflow asks for after `event`; nothing once it has ended."""
        self.last = event.event
        if self._desk.closed:
            return []
        self._desk.hear(event)
        return self._run()

    def replay(self, history: list[list[Any]]) -> list[Command]:
        """Begin and deliver what was recorded. Returns the commands beyond the record; raises `Diverged` at the first difference."""
        frames = [untagged(wire) for wire in history]
        record = _Record(self._desk, [frame for frame in frames if isinstance(frame, Command)])
        fresh = list(record.compare(self.begin()))
        for event in frames:
            if isinstance(event, Happened):
                record.expect(event.n)
                fresh.extend(record.compare(self.deliver(event)))
        record.finish()
        return fresh

    def drop(self) -> None:
        """Leave memory."""
        self._loop.detach()

    def _run(self) -> list[Command]:
        self._loop.drive()
        commands = self._desk.take()
        if self._main.done():
            commands.append(self._end())
            self.drop()
        return commands

    def _end(self) -> Command:
        try:
            result = self._main.result()
            if not isinstance(result, self._definition.result):
                raise TypeError(f"it returned {type(result).__name__} where {self._definition.result.__name__} is declared")
            self._check_exit(result)
            return Command(0, "done", result.contract, result.contract_version, result.encoded(), [])
        except BaseException as error:  # noqa: BLE001 - whatever a workflow raises is its outcome
            return failed(as_failure(self._definition.name, error))

    def _check_exit(self, result: Any) -> None:
        condition = condition_name(self._definition.exit)
        try:
            holds = self._definition.exit_holds(self._request, result, self._desk.evidence, self._desk.degraded)
        except (Exception, SystemExit) as error:
            raise ExitFailed(condition=f"{condition} (it raised {told(error)})") from error
        if not holds:
            raise ExitFailed(condition=condition)


class _Record:
    """The recorded commands, to hold a replay against.

    Numbered commands must be equal one by one. A recorded cancellation must come again; one that was not recorded is a new one,
    for the bus does not record it where the command had ended already.
    """

    def __init__(self, desk: Desk, commands: list[Command]) -> None:
        self._desk = desk
        self._numbered = {command.n: command for command in commands if command.kind != "cancel"}
        self._cancelled = {command.n for command in commands if command.kind == "cancel"}

    def compare(self, commands: list[Command]) -> Iterator[Command]:
        """Those of `commands` that are new."""
        for command in commands:
            if command.kind == "cancel":
                if command.n in self._cancelled:
                    self._cancelled.discard(command.n)
                else:
                    yield command
                continue
            recorded = self._numbered.get(command.n)
            if recorded is None:
                yield command
            elif not _equal(command, recorded):
                same = _say(command) == _say(recorded)
                found = _say(command) + (" with other content" if same else "")
                self._diverged(command.n, found, _say(recorded), command, recorded)

    def expect(self, n: int) -> None:
        """An event is about command `n`, so it was made before."""
        if n > self._desk.count:
            self._missing(n)

    def finish(self) -> None:
        missing = [n for n in self._numbered if n > self._desk.count]
        if missing:
            self._missing(min(missing))
        if self._cancelled:
            n = min(self._cancelled)
            self._diverged(n, "for it still", f"cancel {n}", self._numbered.get(n), Command(n, "cancel", "", "", b"null", []))

    def _missing(self, n: int) -> NoReturn:
        recorded = self._numbered.get(n)
        self._diverged(n, "nothing", f"command {n}" if recorded is None else _say(recorded), None, recorded)

    def _diverged(self, n: int, found: str, recorded: str, now: Command | None, before: Command | None) -> NoReturn:
        sides = {"command": n, "recorded": _whole(before), "now": _whole(now)}
        raise Diverged(task=self._desk.task, n=n, found=found, recorded=recorded, sides=sides)


def failed(error: InterlockError) -> Command:
    """The command of a workflow that ended in `error`."""
    return Command(0, "failed", "", "", encode(error.to_wire()), [])


def _equal(one: Command, other: Command) -> bool:
    if (one.kind, one.name, one.version, one.returns) != (other.kind, other.name, other.version, list(other.returns)):
        return False
    return one.data == other.data or encode(decode(one.data)) == encode(decode(other.data))


def _say(command: Command) -> str:
    """A command as a person reads it."""
    if command.kind == "ask":
        return f"{command.name} {command.version} for {' or '.join(command.returns)}"
    return f"{command.kind} {command.data.decode()}"


def _whole(command: Command | None) -> dict[str, Any] | None:
    """A command with all that it says, for whoever decides; a very long one is cut."""
    if command is None:
        return None
    data = decode(command.data) if len(command.data) <= _SIDE_BYTES else f"{clean(command.data.decode(), _SIDE_BYTES)} ..."
    told = {"kind": command.kind, "contract": f"{command.name} {command.version}".strip(), "returns": list(command.returns), "data": data}
    return {name: value for name, value in told.items() if value not in ("", [], None)}


def as_failure(workflow: str, error: BaseException) -> InterlockError:
    """What a workflow raised, as the error that its task ends with: an error of the bus as itself, anything else wrapped."""
    leaves = list(_leaves(error))
    stopped = [leaf for leaf in leaves if isinstance(leaf, Stopped)]
    cause = stopped[0] if stopped else leaves[0] if len(leaves) == 1 else error
    if isinstance(cause, InterlockError) and _travels(cause):
        return cause
    problem = clean("; ".join(map(told, leaves))) if cause is error and len(leaves) > 1 else words_of(cause) or "it says no more"
    return WorkflowFailed(workflow=workflow, error=type(cause).__name__, problem=problem)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _travels(error: InterlockError) -> bool:
    """Whether the error comes out of its wire form as itself."""
    try:
        return len(encode(error.to_wire())) <= _ERROR_BYTES
    except Exception:  # noqa: BLE001 - a subclass of the user's own may refuse to be told in any way
        return False
