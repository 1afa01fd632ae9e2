"""Admission: how a task comes in.

submit: known already? → decode → validate → lower the budget → entry condition → open the budget → record → activate.
Nothing is promised before `task.accepted` is durable; a submit that is repeated under its id meets the same task.
"""

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.state import TaskState, raw
from interlock.schemas import entries as e
from interlock.schemas.budget import SECONDS, STEPS, TOKENS, USD, Amount, asked_amounts, lowered
from interlock.schemas.canonical import Fragment, decode, encode
from interlock.schemas.errors import (
    BudgetTooSmall,
    EntryRefused,
    InvalidMessage,
    JournalStalled,
    Overloaded,
    Refused,
    StorePaused,
    TaskConflict,
    UnknownTaskType,
)
from interlock.schemas.frames import CheckEntry, EntryChecked
from interlock.schemas.specs import WorkflowSpec

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

LIVE_AT_MOST = 100_000
"""Tasks that are in memory."""
OPEN_AT_MOST = 1_000_000
"""Those that are parked as well: each takes a few hundred bytes here and at the supervisor."""
RETRY_AFTER_SECONDS = 5
TOKENS_AT_LEAST = 100
"""No model call with its instructions and an answer is smaller."""
ENTRY_SECONDS = 10.0
"""How long an entry condition may take; one that takes longer hangs, and its runner with it."""
RUNNERS_AT_MOST = 3
"""How many runners may end on one entry condition before it is taken for the cause."""


class Submission(NamedTuple):
    """What a driver sends: the id is the client's, `limits` may only lower, `version` is the request's contract version (empty: the
    workflow's own)."""

    id: str
    type: str
    version: str
    request: bytes
    limits: dict[str, Any]
    by: str


class Admission:
    """The engine's desk for drivers."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._coming: dict[str, asyncio.Future[str]] = {}
        self._checks: dict[str, tuple[Channel, asyncio.Future[EntryChecked | None]]] = {}

    async def submit(self, submission: Submission) -> str:
        """Accept a task, durably, and return its id. Raises `Refused` errors; a refusal of a known type is recorded."""
        await self.settled(submission.id)
        if self._known(submission):
            return submission.id
        spec = self._engine.router.workflows.get(submission.type)
        self._engine.check_ledger()
        if spec is None:
            raise UnknownTaskType(task_type=submission.type, known=", ".join(sorted(self._engine.router.workflows)) or "none")
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._coming[submission.id] = done
        try:
            return await self._admit(submission, spec)
        except JournalStalled:
            raise  # one of them a second and driver must not fill the ledger, whose disk that may be
        except Refused as error:
            fact = e.TaskRefused(submission.id, submission.type, error.to_wire(), submission.by)
            self._engine.record(None, fact, task_id=submission.id)
            raise
        finally:
            del self._coming[submission.id]
            done.set_result(submission.id)

    def _known(self, submission: Submission) -> bool:
        """Whether this task was accepted before; `TaskConflict` where it was another one."""
        task = self._engine.tasks.get(submission.id)
        if task is None:
            entries = self._engine.store.entries(submission.id)
            if not entries:
                return False
            first = next((fact for entry in entries if isinstance(fact := entry.open(), e.TaskAccepted)), None)
            if first is None:  # an order came before it was accepted
                return False
            before = (first.type, raw(first.request))
        else:
            before = (task.type, task.request)
        if before[0] != submission.type or not _same(before[1], submission.request):
            raise TaskConflict(task=submission.id)
        return True

    async def _admit(self, submission: Submission, spec: WorkflowSpec) -> str:
        engine = self._engine
        for live, bound in ((len(engine.tasks), LIVE_AT_MOST), (len(engine.tasks) + len(engine.parking), OPEN_AT_MOST)):
            if live >= bound:
                raise Overloaded(live=live, bound=bound, retry_after=RETRY_AFTER_SECONDS)
        submission = submission._replace(version=submission.version or spec.request.version)
        value = self._valid(submission, spec)
        submission = submission._replace(request=encode(value))  # as a replay will read it, in whatever order its keys came
        limits = lowered(spec.limits, asked_amounts(submission.limits))
        _check_start(limits, models=engine.router.uses_models(spec.name))
        if spec.entry:
            await self._check_entry(submission, spec)
        await self._open_budget(submission.id, limits)
        label = engine.label_of(spec.request.name, submission.version, value)
        fact = e.TaskAccepted(
            type=spec.name,
            workflow_version=spec.version,
            contract=spec.request.name,
            contract_version=submission.version,
            request=Fragment(submission.request),
            limits={meter: str(amount) if isinstance(amount, Decimal) else amount for meter, amount in limits.items()},
            label=label.encode(),
            by=submission.by,
        )
        await self._record(submission.id, fact)
        return submission.id

    async def _open_budget(self, id: str, limits: dict[str, Amount]) -> None:
        try:
            await self._engine.budgets.open(id, limits, self._engine.clock.now(), self._engine.store.epoch)
        except StorePaused as pause:
            raise JournalStalled(problem=pause.problem, retry_after=RETRY_AFTER_SECONDS) from None

    def _valid(self, submission: Submission, spec: WorkflowSpec) -> Any:
        try:
            value = decode(submission.request)
        except ValueError as error:
            raise InvalidMessage(
                contract=spec.request.name, version=submission.version, pointer="(root)", problem=f"it is not JSON ({error})"
            ) from None
        self._engine.catalog.validate(spec.request.name, submission.version, value)
        return value

    async def _record(self, id: str, fact: e.TaskAccepted) -> None:
        engine = self._engine
        task = engine.tasks[id] = TaskState(id)
        engine.parking.watch()
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def accepted() -> None:
            durable.set_result(None)
            engine.workflows.start(task)

        try:
            engine.record(task, fact, accepted)
        except Exception:
            del engine.tasks[id]
            raise
        await durable

    def coming(self) -> list[str]:
        """Tasks that are being accepted or refused right now."""
        return list(self._coming)

    async def settled(self, id: str) -> None:
        """Wait until a task that may be coming in is accepted or refused."""
        coming = self._coming.get(id)
        if coming is not None:
            await asyncio.shield(coming)

    # --- the entry condition is user code: a runner evaluates it -----------------------------------------------------------

    async def _check_entry(self, submission: Submission, spec: WorkflowSpec) -> None:
        """Raises `EntryRefused`. A runner that ends meanwhile costs nothing but time: another one is asked."""
        for _ in range(RUNNERS_AT_MOST):
            answer = await self._ask_runner(submission, spec)
            if answer is None:
                continue
            if not answer.ok:
                raise EntryRefused(task_type=spec.name, condition=spec.entry, problem=answer.problem)
            return
        problem = f"was not answered: each of the {RUNNERS_AT_MOST} runners that evaluated it ended"
        raise EntryRefused(task_type=spec.name, condition=spec.entry, problem=problem)

    async def _ask_runner(self, submission: Submission, spec: WorkflowSpec) -> EntryChecked | None:
        """What a runner says of the condition; none where it ended before it could."""
        runner = await self._engine.peers.some_runner()
        check: asyncio.Future[EntryChecked | None] = asyncio.get_running_loop().create_future()
        self._checks[submission.id] = runner, check
        runner.send(CheckEntry(submission.id, spec.name, submission.request))
        try:
            async with asyncio.timeout(ENTRY_SECONDS):
                return await check
        except TimeoutError:
            self._engine.peers.give_up(runner)
            problem = f"gave no answer within {ENTRY_SECONDS:g} seconds; the runner that evaluated it is replaced"
            raise EntryRefused(task_type=spec.name, condition=spec.entry, problem=problem) from None
        finally:
            del self._checks[submission.id]

    def checked(self, frame: EntryChecked) -> None:
        _, check = self._checks.get(frame.task, (None, None))
        if check is not None and not check.done():
            check.set_result(frame)

    def runner_closed(self, runner: Channel) -> None:
        """A runner has gone, perhaps with checks: those who wait ask another one."""
        for asked, check in self._checks.values():
            if asked is runner and not check.done():
                check.set_result(None)


def _same(before: bytes, request: bytes) -> bool:
    try:
        return bool(decode(before) == decode(request))
    except ValueError:  # what was accepted is JSON
        return False


def _check_start(limits: dict[str, Amount], *, models: bool) -> None:
    """Refuse what cannot even begin; `models`: the app's agents call models, which cost tokens and money."""
    for limit in (STEPS, TOKENS, SECONDS, *((USD,) if models else ())):
        amount = limits.get(limit)
        if amount is not None and amount <= 0:
            raise BudgetTooSmall(limit=limit, allowed=str(amount), needed="more than 0")
    tokens = limits.get(TOKENS)
    if models and tokens is not None and tokens < TOKENS_AT_LEAST:
        raise BudgetTooSmall(limit=TOKENS, allowed=str(tokens), needed=f"{TOKENS_AT_LEAST} or more, for its agents call a model")
