"""The replica host: a dispatch's life in the process of one agent.

decode → run the agent (its code, or the model loop) → each effect by way of the orchestrator → check the reply → answer.

An effect that an earlier attempt recorded is answered from the record. A tool runs only under a grant that is still good, and its result
is seen only once it is durable. A dropped dispatch is cancelled and says nothing more.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from opentelemetry.trace import Span

from interlock.actors.agent_context import AgentContext
from interlock.actors.definitions import AgentDefinition
from interlock.actors.mailbox import Mailbox
from interlock.actors.migrations import Readers
from interlock.actors.tracing import collected, fail, span
from interlock.actors.undo import take_back
from interlock.schemas import spans
from interlock.schemas.canonical import decode, encode
from interlock.schemas.envelope import Envelope
from interlock.schemas.errors import AgentFailed, Fenced, InterlockError, from_wire
from interlock.schemas.frames import (
    SPENT,
    Answered,
    Dispatch,
    DispatchFailure,
    Drop,
    EffectAsked,
    Granted,
    Lapsed,
    LetGo,
    Noted,
    Probe,
    Probed,
    Replied,
    ToolEnded,
)
from interlock.schemas.ids import derived
from interlock.schemas.message import Message
from interlock.schemas.specs import ContractRef, split_ref
from interlock.schemas.undo import Undo, Undone
from interlock.schemas.words import told, words_of
from interlock.tools.context import ToolContext
from interlock.tools.results import Threads, ToolResult
from interlock.tools.results import run as run_tool
from interlock.tools.tool import Tool


class Notes(Protocol):
    """Where a process notes which tasks it works for (the board)."""

    def enter(self, task: str) -> int: ...

    def leave(self, slot: int) -> None: ...


Heard = Granted | Answered | Probe
Agent = Callable[[Message, AgentContext], Awaitable[Message]]


@dataclass(slots=True, eq=False)
class Work:
    """One dispatch in progress. `asked` holds effects that neither a grant nor an answer has come for; `seen` counts equal effects; `until`
    says when grants lapse; `running` has the threads of its tools; `differing` are the tools that were called before with other arguments
    under the same key, and answered with that result; `notes` is what its agent said of itself; `slot` is its place on the board, `left`
    once none of it runs here."""

    frame: Dispatch
    envelope: Envelope
    records: dict[str, Answered] = field(default_factory=dict)
    asked: dict[str, EffectAsked] = field(default_factory=dict)
    waiting: dict[str, "asyncio.Future[Heard]"] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    seen: dict[tuple[str, str, str], int] = field(default_factory=dict)
    notes: list[Noted] = field(default_factory=list)
    running: dict[str, Threads] = field(default_factory=dict)
    degraded: bool = False
    dropped: bool = False
    answered: bool = False
    left: bool = False
    slot: int = -1
    task: "asyncio.Task[Replied | DispatchFailure | None] | None" = None

    @property
    def threads(self) -> Threads:
        """Those of its tools that still run, waited for or not."""
        return {thread for threads in self.running.values() for thread in threads}


class Replica(Mailbox):
    """One replica of one agent. `agent` runs a request; `secrets` are those that its own tools declare."""

    def __init__(
        self,
        definition: AgentDefinition,
        agent: Agent,
        incarnation: str,
        notes: Notes | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._definition, self._agent, self.incarnation, self._notes = definition, agent, incarnation, notes
        self._secrets = dict(secrets or {})
        self._resources: Mapping[str, Any] = definition.resources() if definition.resources is not None else {}
        self._readers = Readers((*definition.accepts, Undo))
        self._work: dict[str, Work] = {}  # by attempt
        self._answered: set[Work] = set()  # a tool of theirs that was given up on has not ended
        self._killed: set[str] = set()  # tasks that nothing is begun for any more
        self._spent = False  # it has had the one dispatch that it is for

    # --- the mailbox -----------------------------------------------------------------------------------------------------------

    def take(self, frame: Any) -> None:
        match frame:
            case Dispatch():
                self._take_on(frame)
            case Granted() | Answered() | Probe():
                self._hear(frame)
            case Drop():
                self._drop(frame)

    def reopen(self) -> None:
        for work in self._work.values():
            for frame in (*work.notes, *work.asked.values()):
                self.emit(frame)

    def holds(self) -> list[str]:
        held = [f"{work.frame.dispatch} {attempt}" for attempt, work in self._work.items()]
        return [*held, SPENT] if self._spent else held

    def busy(self) -> bool:
        return bool(self._work)

    # --- a dispatch's life -------------------------------------------------------------------------------------------------------

    def _take_on(self, frame: Dispatch) -> None:
        if frame.attempt in self._work:
            return
        if frame.task in self._killed:
            self.emit(LetGo(frame.dispatch, frame.attempt))
            return
        self._spent = self._definition.spec.exclusive
        work = self._work[frame.attempt] = Work(frame, Envelope.of(frame.head, frame.data))
        for effect, ok, value, differs in frame.records:
            work.records[effect] = Answered(frame.dispatch, effect, ok, value, differs)
        if self._notes is not None:
            work.slot = self._notes.enter(frame.task)
        work.task = asyncio.get_running_loop().create_task(self._live(work))
        # Not in the task itself: one that is cancelled before its first step never runs.
        work.task.add_done_callback(partial(self._ended, work))

    async def _live(self, work: Work) -> Replied | DispatchFailure | None:
        """How the dispatch ended; none where it was let go of."""
        try:
            return await self._work_on(work)
        except InterlockError as error:
            return self._failure(work, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the agent's own code: its failure is an answer, not a crash of the replica
            return self._failure(work, InterlockError(detail=told(error)))
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            return self._failure(work, InterlockError(detail="CancelledError: something that it awaited was cancelled"))

    def _ended(self, work: Work, done: "asyncio.Task[Replied | DispatchFailure | None]") -> None:
        """Say how it ended. That it was let go of is said, and its place on the board left, only once no thread of its tools runs."""
        said = None if work.dropped or done.cancelled() else self._outcome(work, done)
        if said is not None:
            del self._work[work.frame.attempt]
            work.answered = True
            self.emit(said)
        if work.threads:
            self._await_threads(work)
        else:
            self._leave(work)

    def _await_threads(self, work: Work) -> None:
        if work.answered:
            self._answered.add(work)
        for thread in work.threads:
            thread.add_done_callback(lambda _: self._leave(work))

    def _outcome(self, work: Work, done: "asyncio.Task[Replied | DispatchFailure | None]") -> Replied | DispatchFailure | None:
        error = done.exception()
        return done.result() if error is None else self._failure(work, InterlockError(detail=told(error)))

    def _leave(self, work: Work) -> None:
        if work.threads or work.left:
            return
        work.left = True
        if self._notes is not None:
            self._notes.leave(work.slot)
        if work.answered:
            self._answered.discard(work)
        else:
            del self._work[work.frame.attempt]
            self.emit(LetGo(work.frame.dispatch, work.frame.attempt))

    async def _work_on(self, work: Work) -> Replied:
        contract, data = work.envelope.contract, work.envelope.data
        request = self._readers.read(self._definition.migrations, contract.name, contract.version, data, work.frame.migrated)
        context = AgentContext(self, work, request, self._definition)
        doing = take_back(request, context) if isinstance(request, Undo) else self._agent(request, context)
        if not collected():
            return self._reply(work, await doing)
        with self._span_of(work):
            reply = await doing
        return self._reply(work, reply)

    def _span_of(self, work: Work) -> AbstractContextManager[Span]:
        frame = work.frame
        attributes = {
            spans.OPERATION: "invoke_agent",
            spans.AGENT_NAME: frame.agent,
            spans.DISPATCH: frame.dispatch,
            spans.ATTEMPT: frame.attempt,
            spans.CONTRACT: str(work.envelope.contract),
        }
        return span(spans.AGENT.format(name=frame.agent), frame.task, own=(frame.attempt,), attributes=attributes)

    def _reply(self, work: Work, reply: object) -> Replied:
        answers: tuple[type[Message], ...] = (*self._definition.returns, Undone)
        if not isinstance(reply, answers):
            declared = " or ".join(cls.__name__ for cls in self._definition.returns)
            raise InterlockError(detail=f"it returned {type(reply).__name__} where it declares {declared}")
        frame = work.frame
        return Replied(frame.dispatch, frame.attempt, reply.contract, reply.contract_version, reply.encoded(), work.degraded, frame.task)

    def _failure(self, work: Work, error: InterlockError) -> DispatchFailure:
        failed = AgentFailed(agent=work.frame.agent, contract=str(work.envelope.contract), problem=words_of(error), cause=error.code)
        return DispatchFailure(work.frame.dispatch, work.frame.attempt, encode(failed.to_wire()), work.frame.task)

    def _drop(self, frame: Drop) -> None:
        work = self._work.get(frame.attempt)
        if work is None:
            self.emit(LetGo(frame.dispatch, frame.attempt))
        else:
            self._let_go(work)

    def _let_go(self, work: Work) -> None:
        work.dropped = True
        work.asked.clear()
        if work.task is not None:
            work.task.cancel()

    async def cancel(self, task: str) -> bool:
        """Let go of everything that is done for a task, now and later; true once it has ended here, false while a tool's thread goes on."""
        self._killed.add(task)
        works = [work for work in self._work.values() if work.frame.task == task]
        for work in works:
            self._let_go(work)
        running = [work.task for work in works if work.task is not None]
        if running:
            await asyncio.wait(running)
        return not any(work.threads for work in [*works, *self._answered] if work.frame.task == task)

    # --- effects -------------------------------------------------------------------------------------------------------------------

    def awaited(self, work: Work) -> list[ContractRef]:
        """The contracts that the asking workflow awaits."""
        return [split_ref(text) for text in work.frame.returns]

    async def model_call(self, work: Work, model: str, request: dict[str, Any], instead_of: str = "") -> dict[str, Any]:
        """One model call as an effect: the raw response, or the error it ended with raised. `instead_of`: the model that gave no answer."""
        body = encode(request)
        id = self._name(work, "model", model, hashlib.sha256(body).hexdigest())
        asked = EffectAsked(work.frame.dispatch, work.frame.attempt, id, "model", model, body, instead_of)
        answer = await self._effect(work, asked, None)
        if not answer.ok:
            raise from_wire(decode(answer.value))
        response: dict[str, Any] = decode(answer.value)
        return response

    async def tool_call(self, work: Work, tool: Tool[..., Any], args: dict[str, Any]) -> Answered:
        """One tool call as an effect: whether it succeeded, and its result or wire error as JSON. `args` are plain JSON."""
        body = encode(args)
        id = self._name(work, tool.spec.effect, tool.spec.name, hashlib.sha256(body).hexdigest())
        asked = EffectAsked(work.frame.dispatch, work.frame.attempt, id, tool.spec.effect, tool.spec.name, body)
        answer = await self._effect(work, asked, tool)
        work.degraded = work.degraded or not answer.ok
        if answer.differs:
            work.differing.add(tool.spec.name)
        return answer

    def note(self, work: Work, kind: str, facts: dict[str, Any]) -> None:
        """Say something of the agent itself, beside its work."""
        work.notes.append(Noted(work.frame.dispatch, work.frame.attempt, len(work.notes) + 1, kind, encode(facts)))
        self.emit(work.notes[-1])

    def _name(self, work: Work, kind: str, name: str, digest: str) -> str:
        """The effect's id: its content and how often the same was asked before, so that every attempt names it alike."""
        nth = work.seen[kind, name, digest] = work.seen.get((kind, name, digest), 0) + 1
        return derived("eff", work.frame.dispatch, kind, name, digest, nth)

    async def _effect(self, work: Work, asked: EffectAsked, tool: Tool[..., Any] | None) -> Answered:
        recorded = work.records.get(asked.effect)
        if recorded is not None:
            return recorded
        answer = await self._ask(work, asked)
        while tool is not None and not isinstance(answer, Answered):
            if isinstance(answer, Probe):
                answer = await self._look(work, asked, tool, answer.key)
            elif asyncio.get_running_loop().time() > work.until.pop(asked.effect):
                self.emit(Lapsed(work.frame.dispatch, work.frame.attempt, asked.effect))
                answer = await self._ask(work, asked)
            else:
                answer = await self._run(work, asked, tool, answer.key)
        assert isinstance(answer, Answered)
        return answer

    async def _ask(self, work: Work, asked: EffectAsked) -> Heard:
        if work.dropped:
            raise Fenced(task=work.frame.task, why="its dispatch was dropped")
        work.asked[asked.effect] = asked
        answer = self._expect(work, asked.effect)
        self.emit(asked)
        return await answer

    def _expect(self, work: Work, effect: str) -> "asyncio.Future[Heard]":
        waiting = work.waiting[effect] = asyncio.get_running_loop().create_future()
        return waiting

    async def _run(self, work: Work, asked: EffectAsked, tool: Tool[..., Any], key: str) -> Heard:
        frame, threads = work.frame, work.running.setdefault(asked.effect, set())
        attributes = {spans.OPERATION: "execute_tool", spans.TOOL_NAME: asked.name, spans.EFFECT: asked.effect}
        with span(spans.TOOL.format(name=asked.name), frame.task, parent=(frame.attempt,), attributes=attributes) as current:
            result = await run_tool(tool, decode(asked.args), self._context(work, tool, key), threads)
            if threads and tool.spec.repeat is not None and (tool.spec.repeat.kind == "natural" or tool.spec.repeat.probe):
                await asyncio.wait(set(threads))  # as long as it may still write, nobody else does, and no probe finds the truth
            if not result.ok:
                fail(current, decode(result.value)["code"])
        answered = self._expect(work, asked.effect)
        work.degraded = work.degraded or result.cut
        said = result.ok, result.value, result.latency_ms, result.cut, result.outage
        self.emit(ToolEnded(frame.task, frame.dispatch, frame.attempt, asked.effect, asked.name, *said))
        if work.dropped:  # the tool made an outcome of its own out of being told to stop: recorded, but nobody answers
            raise Fenced(task=frame.task, why="its dispatch was dropped")
        return await answered

    def _context(self, work: Work, tool: Tool[..., Any], key: str) -> ToolContext:
        frame = work.frame
        return ToolContext(
            task=frame.task,
            dispatch=frame.dispatch,
            attempt=frame.attempt,
            idempotency_key=key,
            message=decode(work.envelope.data),
            secrets={name: self._secrets[name] for name in tool.spec.secrets if name in self._secrets},
            resources=self._resources,
            mark={"INTERLOCK_TASK": frame.task, "INTERLOCK_INCARNATION": self.incarnation},
        )

    async def _look(self, work: Work, asked: EffectAsked, tool: Tool[..., Any], key: str) -> Heard:
        """Have the tool's probe find out whether it has happened, say so, and wait for what comes of it."""
        assert tool.probe is not None, "whoever asks for a probe has read that there is one"
        args, epoch = decode(asked.args), self.epoch
        mine = {name: args[name] for name in tool.probe.spec.parameters["properties"]}
        threads = work.running.setdefault(asked.effect, set())
        found = await run_tool(tool.probe, mine, self._context(work, tool, key), threads)
        if epoch != self.epoch:  # another orchestrator, which may know nothing of this
            return await self._ask(work, asked)
        answer, value = _finding(found)
        work.asked[asked.effect] = asked
        heard = self._expect(work, asked.effect)
        self.emit(Probed(work.frame.dispatch, work.frame.attempt, asked.effect, answer, value))
        return await heard

    def _hear(self, frame: Heard) -> None:
        for work in self._work.values():
            if work.frame.dispatch != frame.dispatch or (not isinstance(frame, Answered) and frame.effect not in work.asked):
                continue  # a grant that comes twice: the tool runs already
            if isinstance(frame, Granted):
                work.until[frame.effect] = asyncio.get_running_loop().time() + frame.seconds
            work.asked.pop(frame.effect, None)
            waiting = work.waiting.pop(frame.effect, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame)


def _finding(found: ToolResult) -> tuple[str, bytes]:
    """What a probe said; one that failed cannot tell."""
    said = decode(found.value)
    if not found.ok or found.cut:
        return "cannot_tell", encode(said["message"] if not found.ok else "what it found is too long")
    return said["answer"], encode(said["result"] if said["answer"] == "happened" else said["why"])


def _is_being_cancelled() -> bool:
    """Whether somebody cancels the task that runs now; else a `CancelledError` is one that the agent let out itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
