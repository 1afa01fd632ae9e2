"""What a workflow may do: ask agents, ask a human, receive messages, sleep, and learn the time, chance and ids that are the same in every
replay."""

import asyncio
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar, overload

from interlock.actors.desk import Desk
from interlock.actors.migrations import Migrations, Readers
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import BadDeclaration, WorkFailed, from_wire
from interlock.schemas.frames import Happened
from interlock.schemas.message import Message, contract_of, read_message
from interlock.schemas.specs import ContractRef
from interlock.tools.describe import json_args
from interlock.tools.tool import Tool

M = TypeVar("M", bound=Message)
A = TypeVar("A", bound=Message)
B = TypeVar("B", bound=Message)
C = TypeVar("C", bound=Message)
T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Answer(NamedTuple):
    """What a human said to `ask_human`, and who it was."""

    approved: bool
    note: str
    by: str


class WorkflowContext:
    """A workflow's only way to the world. Everything that it returns is recorded, or follows from what is recorded."""

    def __init__(self, desk: Desk, receives: tuple[type[Message], ...] = (), migrations: Migrations | None = None) -> None:
        self._desk = desk
        self._receives = receives
        self._migrations = migrations or Migrations()
        self._chance: random.Random | None = None
        self._uuids = 0

    @property
    def task(self) -> str:
        """The task's id."""
        return self._desk.task

    @property
    def evidence(self) -> list[dict[str, Any]]:
        """What tools answered to the agents asked so far: `{"tool", "ok", "value"}` each, in order of delivery."""
        return list(self._desk.evidence)

    @property
    def degraded(self) -> bool:
        """Whether any reply so far was built on failed or cut tool results."""
        return self._desk.degraded

    @overload
    async def ask(self, message: Message, *, returns: type[M]) -> M: ...
    @overload
    async def ask(self, message: Message, *, returns: tuple[type[A], type[B]]) -> A | B: ...
    @overload
    async def ask(self, message: Message, *, returns: tuple[type[A], type[B], type[C]]) -> A | B | C: ...
    @overload
    async def ask(self, message: Message, *, returns: tuple[type[M], ...]) -> M: ...
    async def ask(self, message: Message, *, returns: type[Message] | tuple[type[Message], ...]) -> Message:
        """Send `message` to the agent that takes its contract, and await a reply of one of the classes in `returns`.

        Raises what became of it instead: `AgentFailed`, `NoRoute`, `BudgetExceeded` and the others in `schemas/errors.py`.
        Cancelling the ask lets go of the agent's work.
        """
        if not isinstance(message, Message):
            raise BadDeclaration(what="ctx.ask(...)", problem=f"{type(message).__name__} is no Message", remedy="Send a Message class.")
        awaited = _awaited(returns)
        name, version = contract_of(type(message))
        return await self._command("ask", name, version, message.encoded(), awaited.contracts, partial(awaited.read, self._migrations))

    async def ask_human(self, text: str, /, **details: Any) -> Answer:
        """Put a question into the inbox and await the answer. `details` (JSON values) are shown with it."""
        return await self._command("human", "", "", encode({"text": text, "details": details}), [], _read_answer)

    async def receive(self, cls: type[M], /) -> M:
        """The next message of this class that somebody sends into the task (`task.send`), in the order in which they came.

        Messages are kept until they are received. The class stands in `receives=` of the workflow's declaration. Wait with a limit by
        `async with asyncio.timeout(...)`: a receive that is cancelled takes no message.
        """
        self._desk.check()
        name, version = contract_of(cls)
        if cls not in self._receives:
            problem = f"its workflow does not declare that it receives {cls.__name__}"
            remedy = f"Add it to the declaration: @app.workflow(..., receives=({cls.__name__},))."
            raise BadDeclaration(what=f"ctx.receive({cls.__name__})", problem=problem, remedy=remedy)
        return read_message(cls, await self._desk.arrived(name, version).get())

    def on_undo(self, tool: Tool[..., Any], of: Tool[..., Any] | None = None, /, **arguments: Any) -> None:
        """Should the task not succeed, have `tool` called with these arguments, to take back an effect.

        Registered before the effect it holds whatever happens; after it, only once the workflow has come so far. With `of`, the tool whose
        effect it is, it is done only where a call of that tool was granted in this task, and may have happened: it goes by the tool, not
        by the call, so an undo must bear that a call failed and there is nothing to take back. What is registered is undone last first,
        each once, by an agent that has the tool, when the task was killed, has failed, was rejected, has expired or is over its budget.
        """
        self._desk.check()
        for one in (tool, of) if of is not None else (tool,):
            if not isinstance(one, Tool) or one.spec.effect == "read":
                what = one.spec.name if isinstance(one, Tool) else repr(one)
                raise BadDeclaration(what="ctx.on_undo(...)", problem=f"{what} is no tool that writes", remedy="Name a tool that does.")
        self._desk.say("undo", tool.spec.name, of.spec.name if of is not None else "", encode(json_args(tool, arguments)))

    async def sleep(self, seconds: float) -> None:
        """Wait durably: the task may leave memory meanwhile. `asyncio.sleep` and `asyncio.timeout` do the same."""
        self._desk.check()
        await asyncio.sleep(seconds)

    def now(self) -> datetime:
        """The time (UTC) of the event that the workflow is working on."""
        self._desk.check()
        return _EPOCH + timedelta(microseconds=self._desk.at)

    def random(self) -> random.Random:
        """The task's source of chance, seeded by its id: one per task, so that every draw is another one."""
        self._desk.check()
        if self._chance is None:
            self._chance = random.Random(self._desk.task)
        return self._chance

    def uuid(self) -> uuid.UUID:
        """A new id, the same in every replay."""
        self._desk.check()
        self._uuids += 1
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self._desk.task}#{self._uuids}")

    async def _command(self, kind: str, name: str, version: str, data: bytes, returns: list[str], read: Callable[[Happened], T]) -> T:
        future: asyncio.Future[T] = asyncio.Future(loop=asyncio.get_running_loop())
        number = self._desk.give(kind, name, version, data, returns, partial(_settle, future, read))
        try:
            return await future
        finally:
            self._desk.withdraw(number)


def _settle(future: asyncio.Future[T], read: Callable[[Happened], T], event: Happened) -> None:
    if event.kind == "failure":
        future.set_exception(from_wire(decode(event.value)))
        return
    try:
        future.set_result(read(event))
    except WorkFailed as error:
        future.set_exception(error)


class _Awaited:
    """What asks with the same `returns` have in common: the contracts that they await, and how a reply becomes a message."""

    def __init__(self, classes: tuple[type[Message], ...]) -> None:
        self.contracts = [str(ContractRef(*contract_of(cls))) for cls in classes]
        self._readers = Readers(classes)

    def read(self, migrations: Migrations, reply: Happened) -> Message:
        """The reply as the class that reads its version, or the one to which migrations lead."""
        return self._readers.read(migrations, reply.name, reply.version, reply.value, reply.migrated)


@lru_cache(maxsize=1024)
def _awaited(returns: type[Message] | tuple[type[Message], ...]) -> _Awaited:
    return _Awaited(returns if isinstance(returns, tuple) else (returns,))


def _read_answer(event: Happened) -> Answer:
    value = decode(event.value)
    return Answer(bool(value["approved"]), str(value["note"]), str(value["by"]))
