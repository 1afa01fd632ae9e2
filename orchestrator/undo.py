"""Undo: what a task's workflow registered to take back its effects is done where the task did not succeed.

end: accept the undoing task, then record the end → all that worked for the task is gone → post what is to be undone → its workflow runs.

The undoing task is accepted before the end is recorded, so no crash loses it; it begins only once that end is durable, an order's receipt
says that the task's processes are gone, and whoever may have done a write that nobody knows of lets go. From then on it is a task like
any other, with a budget of its own: each undo is one dispatch to an agent that has the tool, and one effect.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.deeds import Holder
from interlock.orchestrator.history import happened
from interlock.orchestrator.ledger.undos import due, standing, unknown_writes
from interlock.orchestrator.router import Pool, Route
from interlock.orchestrator.state import TaskState
from interlock.schemas import entries as e
from interlock.schemas.budget import parse_amounts, wire_amounts
from interlock.schemas.canonical import Fragment, decode
from interlock.schemas.envelope import Envelope
from interlock.schemas.errors import Fenced, InterlockError, StorePaused, ToolRefused
from interlock.schemas.frames import Command
from interlock.schemas.ids import derived, traceparent
from interlock.schemas.message import Message, contract_of
from interlock.schemas.record import Outcome
from interlock.schemas.specs import ContractRef, Escalate
from interlock.schemas.times import rfc3339
from interlock.schemas.undo import SPEC, UNDO, Undo, UndoPlan, UndoTask, undoing_of

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

BY = "the bus"
AGAIN_SECONDS = 0.5


class Undos:
    """The engine's desk for undoing."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._preparing: set[str] = set()

    # --- registering -----------------------------------------------------------------------------------------------------

    def register(self, task: TaskState, command: Command) -> None:
        """A workflow says what takes back an effect, before or after it; refused, the task ends: it could not be kept."""
        engine = self._engine
        if self._find(command.name) is None:
            error = _nobody_has(command.name)
            engine.end(task, Outcome.FAILED, str(error), error=error.to_wire())
        else:
            engine.record(task, e.UndoRegistered(command.n, command.name, command.version, Fragment(command.data)))

    def _find(self, tool: str) -> Pool | None:
        """The pool of an agent that has this tool, where there is one; of one that is not stopped rather than of one that is."""
        router, stopped = self._engine.router, self._engine.stops.agents()
        agents = sorted((agent in stopped, agent) for agent, name in router.tools if name == tool)
        return router.pools[agents[0][1]] if agents else None

    # --- a task ends -------------------------------------------------------------------------------------------------------

    def accept(self, task: TaskState, outcome: Outcome, wanted: bool) -> str:
        """A task is about to end: the task that undoes what it did, accepted; empty where nothing is to be undone."""
        if outcome == Outcome.SUCCESS or not task.undos or not wanted:
            return ""
        engine, id = self._engine, undoing_of(task.id)
        if engine.task(id) is None:
            request = UndoTask(task=task.id, type=task.type)
            fact = e.TaskAccepted(
                type=UNDO,
                workflow_version=SPEC.version,
                contract=SPEC.request.name,
                contract_version=SPEC.request.version,
                request=Fragment(request.encoded()),
                limits=wire_amounts(engine.router.undo_limits(task.type)),
                label=task.label.encode(),
                by=BY,
                tenant=task.tenant,
                priority=task.priority,
            )
            undoing = engine.tasks[id] = TaskState(id)
            engine.parking.watch()
            engine.record(undoing, fact)
        return id

    def keeps(self, task: TaskState) -> bool:
        """Whether an undoing task has not begun: no runner gets it yet."""
        return task.type == UNDO and not task.posts

    def escalate(self, task: TaskState) -> Escalate:
        """Whom a task asks, and how long it waits; an undoing task those whom the other one would."""
        return self._engine.router.escalate(decode(task.request)["type"] if task.type == UNDO else task.type)

    # --- beginning -----------------------------------------------------------------------------------------------------------

    def ended(self, task: str) -> None:
        """A task's end, or the receipt of the order against it, is durable: what is to be undone is undone from now on."""
        undoing = self._engine.tasks.get(undoing_of(task))
        if undoing is not None:
            self.resume(undoing)

    def resume(self, undoing: TaskState) -> None:
        """Begin where it has not begun, as soon as it may."""
        if self.keeps(undoing) and not undoing.outcome and undoing.id not in self._preparing:
            self._preparing.add(undoing.id)
            self._engine.background(self._prepare(undoing), undoing.id)

    async def _prepare(self, undoing: TaskState) -> None:
        request = UndoTask.model_validate_json(undoing.request)
        try:
            doubt = await self._doubt(request.task)
            if doubt is not None and await self._open(undoing, request.type):
                self._post(undoing, self._plan(undoing, request.task, doubt))
        finally:
            self._preparing.discard(undoing.id)

    async def _doubt(self, task: str) -> str | None:
        """Why something of the task may still be at work, in words, empty where nothing is; none where it is not over yet."""
        engine = self._engine
        facts = self._facts(task)
        receipts = [fact.receipt for fact in facts if isinstance(fact, e.ReceiptRecorded)]
        ordered = any(isinstance(fact, e.OrderRecorded) for fact in facts)
        if engine.is_live(task) or not any(isinstance(fact, e.TaskEnded) for fact in facts) or (ordered and not receipts):
            return None
        if not all(receipt["verified"] for receipt in receipts):
            return "not all of its processes were seen to stop"
        for fact in unknown_writes(facts):
            if not await engine.deeds.is_quiet(Holder(fact.replica, fact.dispatch, fact.attempt)):
                return f"nobody can confirm that nothing is left of {fact.replica or 'the process that had it'}"
        return ""

    def _facts(self, task: str) -> list[e.Fact]:
        return [entry.open() for entry in self._engine.store.entries(task)]

    async def _open(self, undoing: TaskState, type: str) -> bool:
        """Open its budget, as one of the other task's type; false where it was killed before it began."""
        engine = self._engine
        limits = parse_amounts(undoing.limits)
        while not engine.detached and not undoing.outcome:
            try:
                await engine.budgets.open(undoing.id, limits, engine.clock.now(), engine.store.epoch, type, undoing.tenant)
            except StorePaused:
                await asyncio.sleep(AGAIN_SECONDS)
            except Fenced:  # the order comes here too
                return False
            else:
                return not engine.detached and not undoing.outcome
        return False

    def _plan(self, undoing: TaskState, task: str, doubt: str) -> UndoPlan:
        facts = self._facts(task)
        ended = next(fact for fact in facts if isinstance(fact, e.TaskEnded))
        undos = due(facts) if ended.undo == undoing.id else []  # another crash, another end
        return UndoPlan(undos=[Undo(n=one.n, tool=one.tool, arguments=one.arguments) for one in undos], doubt=doubt)

    def _post(self, undoing: TaskState, plan: Message) -> None:
        engine, (name, version) = self._engine, contract_of(type(plan))
        id, number, contract = derived("msg", undoing.id), undoing.events + 1, ContractRef(name, version)
        envelope = Envelope(
            id=id,
            source="/undo",
            contract=contract,
            subject=undoing.id,
            time=rfc3339(engine.clock.now()),
            data=plan.encoded(),
            traceparent=traceparent(undoing.id),
            correlationid=id,
            causationid=undoing.id,
            label=undoing.label.encode(),
        )
        fact = e.MessagePosted(id, str(contract), BY, undoing.label.encode(), Fragment(envelope.encode()))

        def deliver() -> None:
            event = happened(undoing.id, number, fact, at)
            if event is not None:
                engine.workflows.deliver(undoing, event)

        at = engine.record(undoing, fact, deliver)

    # --- at work ---------------------------------------------------------------------------------------------------------------

    def begin(self, undoing: TaskState, command: Command) -> None:
        """Its workflow asks for the next undo, or for the same once more: which one that is, is said before it goes out."""
        asked = decode(command.data)
        self._engine.record(undoing, e.UndoBegun(asked["n"], asked["tool"], derived("dsp", undoing.id, command.n)))

    def route(self, task: TaskState, command: Command) -> Route:
        """Who takes what a workflow asks: of an undo an agent that has its tool, and raises `ToolRefused`."""
        if task.type != UNDO:
            return self._engine.router.route(command.name, command.version, command.returns)
        tool = decode(command.data)["tool"]
        pool = self._find(tool)
        if pool is None:
            raise _nobody_has(tool)
        return Route(pool, [])

    def refusal(self, tool: str, error: InterlockError) -> ToolRefused:
        """A limit that an undo runs into ends nothing: it has failed, and a human may raise the limit and have it tried again."""
        return ToolRefused(tool=tool, problem=str(error), remedy="Raise the limit before you approve another try.")

    # --- what is said of it ------------------------------------------------------------------------------------------------------

    def standing(self, task: str) -> list[dict[str, Any]]:
        """How the undos of a task stand; see `orchestrator/ledger/undos.py`."""
        return standing(task, self._facts(task), self._facts(undoing_of(task)))


def _nobody_has(tool: str) -> ToolRefused:
    remedy = "Declare it in tools= of an agent, and deploy that."
    return ToolRefused(tool=tool, problem="no agent that is deployed has it, so nobody can undo anything by it", remedy=remedy)
