"""Admission: how a task comes in.

submit: known already? → decode → validate → lower the budget → entry condition → open the budget → record → activate.
Nothing is promised before `task.accepted` is durable; a submit that is repeated under its id meets the same task.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.state import TaskState, raw
from interlock.schemas import entries as e
from interlock.schemas.budget import INPUT, OUTPUT, SECONDS, STEPS, TOKENS, USD, WORKING, Amount, asked_amounts, lowered, wire_amounts
from interlock.schemas.canonical import Fragment, decode, encode
from interlock.schemas.errors import (
    BadPriority,
    BadTaskId,
    BadTenant,
    BudgetTooSmall,
    EntryRefused,
    Erased,
    InterlockError,
    InvalidMessage,
    JournalStalled,
    Refused,
    StorePaused,
    TaskConflict,
    TryAgain,
    UnknownTaskType,
)
from interlock.schemas.frames import CheckEntry, EntryChecked
from interlock.schemas.ids import DEFAULT_TENANT, is_id, is_tenant
from interlock.schemas.specs import WorkflowSpec
from interlock.schemas.turns import PRIORITIES
from interlock.schemas.undo import UNDO, is_undoing
from interlock.schemas.words import clean, told

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

RETRY_AFTER_SECONDS = 5
TOKENS_AT_LEAST = 100
"""No model call with its instructions and an answer is smaller."""
ENTRY_SECONDS = 10.0
"""How long an entry condition may take; one that takes longer hangs, and its runner with it."""
RUNNERS_AT_MOST = 3
"""How many runners may end on one entry condition before it is taken for the cause."""


class Submission(NamedTuple):
    """What a driver sends: the id is the client's, `limits` may only lower, `version` is the request's contract version (empty: the
    workflow's own), `tenant` is on whose account it is, `priority` goes before the workflow's where it is named."""

    id: str
    type: str
    version: str
    request: bytes
    limits: dict[str, Any]
    by: str
    tenant: str = DEFAULT_TENANT
    priority: str = ""


class _Arrival(NamedTuple):
    """A submission that is in order, the `number`-th of its call: its request as it is recorded and decoded, the limits that hold."""

    number: int
    submission: Submission
    spec: WorkflowSpec
    value: Any
    limits: dict[str, Amount]


_UNWRITABLE = (TypeError, ValueError, ArithmeticError)
_REFUSALS = (InterlockError, *_UNWRITABLE)


class Admission:
    """The engine's desk for drivers."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._coming: dict[str, asyncio.Future[None]] = {}
        self._checks: dict[str, tuple[Channel, asyncio.Future[EntryChecked | None]]] = {}
        self._closed: set[str] = set()  # ids that are just being erased
        self._in_doubt: dict[str, asyncio.Task[None]] = {}  # refused ones whose budget may be open all the same, being closed

    async def submit(self, submissions: Sequence[Submission]) -> list[InterlockError | None]:
        """Accept tasks together, durably; per submission none, or why it is refused. A refusal of a known type is recorded."""
        answers: list[InterlockError | None] = [None] * len(submissions)
        left: list[tuple[int, Submission]] = []
        for number, submission in enumerate(submissions):
            if is_id("tsk", submission.id) and not is_undoing(submission.id):
                left.append((number, submission))
            else:
                answers[number] = BadTaskId(id=clean(repr(submission.id), 100))
        while left:
            again = []
            arrivals: list[_Arrival] = []
            fresh = self._unheard_of(submission.id for _, submission in left)
            try:
                for number, submission in left:
                    if submission.id in self._coming:
                        again.append((number, submission))
                    else:
                        answers[number] = self._arrive(number, submission, submission.id in fresh, arrivals)
            except BaseException:
                self._settle(arrivals)
                raise
            for number, refusal in await self._let_in(arrivals):
                answers[number] = refusal
            for _, submission in again:
                await self.settled(submission.id)
            left = again
        return answers

    def _unheard_of(self, ids: Iterable[str]) -> set[str]:
        """Those ids of which the ledger says nothing, looked up together; where that cannot be read each is looked up by itself."""
        asked = [id for id in ids if id not in self._engine.tasks]
        try:
            return set(asked) - self._engine.store.entries_of(asked).keys() if len(asked) > 1 else set()
        except InterlockError:
            return set()

    def _arrive(self, number: int, submission: Submission, fresh: bool, arrivals: "list[_Arrival]") -> InterlockError | None:
        """Add a submission to those that may come in, but for one whose task was accepted before; why it may not."""
        spec = None
        try:
            if self._known(submission, fresh):
                return None
            self._engine.check_ledger()
            spec = self._spec(submission)
            arrivals.append(self._checked(number, submission, spec))
        except _REFUSALS as error:
            return self._refused(submission, error, known_type=spec is not None)
        self._coming[submission.id] = asyncio.get_running_loop().create_future()
        return None

    async def _let_in(self, arrivals: "Sequence[_Arrival]") -> list[tuple[int, InterlockError]]:
        """Those who are refused after all. Whose entry condition has to be asked for goes by himself: nobody waits for that with him."""
        at_once = [arrival for arrival in arrivals if not arrival.spec.entry]
        parties = [at_once] if at_once else []
        parties += [[arrival] for arrival in arrivals if arrival.spec.entry]
        return [one for refused in await asyncio.gather(*map(self._take, parties)) for one in refused]

    async def _take(self, arrivals: "Sequence[_Arrival]") -> list[tuple[int, InterlockError]]:
        """Open the budgets, then record the tasks; those that are refused."""
        refused, in_vain = [], []
        try:
            opened = await asyncio.gather(*map(self._open, arrivals), return_exceptions=True)
            for arrival, error in zip(arrivals, opened, strict=True):
                try:
                    if error is not None:
                        raise error
                    self._record(arrival)
                except _REFUSALS as problem:
                    refused.append((arrival.number, self._refused(arrival.submission, problem, known_type=True)))
                    if isinstance(problem, StorePaused):
                        self._doubt(arrival.submission.id)
                    elif error is None:
                        in_vain.append(arrival.submission.id)
            if in_vain:
                await self._engine.budgets.close(in_vain, self._engine.store.epoch)
            if len(refused) < len(arrivals):
                await self._engine.durable()
        finally:
            self._settle(arrivals)
        return refused

    def _settle(self, arrivals: "Sequence[_Arrival]") -> None:
        for arrival in arrivals:
            self._coming.pop(arrival.submission.id).set_result(None)

    def _open(self, arrival: "_Arrival") -> Awaitable[None]:
        return self._open_checked(arrival) if arrival.spec.entry else self._open_budget(arrival)

    async def _open_checked(self, arrival: "_Arrival") -> None:
        await self._check_entry(arrival.submission, arrival.spec)
        await self._open_budget(arrival)

    def _open_budget(self, arrival: "_Arrival") -> Awaitable[None]:
        engine = self._engine
        if (closing := self._in_doubt.pop(arrival.submission.id, None)) is not None:
            closing.cancel()  # what it has asked for comes before this
        submission, epoch = arrival.submission, engine.store.epoch
        return engine.budgets.open(submission.id, arrival.limits, engine.clock.now(), epoch, submission.type, submission.tenant)

    def _doubt(self, id: str) -> None:
        """The journal may have kept a budget and failed to say so: it is closed as soon as the journal goes on, if no retry takes it
        before."""
        closing = self._in_doubt[id] = asyncio.ensure_future(self._close(id))
        self._engine.background(closing)

    def detach(self) -> None:
        """This engine counts as dead: the next one closes what it has opened in vain."""
        for closing in self._in_doubt.values():
            closing.cancel()

    async def _close(self, id: str) -> None:
        await self._engine.budgets.close([id], self._engine.store.epoch)
        if self._in_doubt.get(id) is asyncio.current_task():
            del self._in_doubt[id]

    def _refused(self, submission: Submission, error: Exception, *, known_type: bool) -> InterlockError:
        """What the driver is told; recorded where it was more than a wrong name."""
        if isinstance(error, StorePaused):
            error = JournalStalled(problem=error.problem, retry_after=RETRY_AFTER_SECONDS)
        if isinstance(error, TryAgain):
            # Not recorded: one of them a second and driver must not fill the ledger, whose disk may be what is short.
            return error
        try:
            if isinstance(error, Refused) and known_type:
                fact = e.TaskRefused(submission.id, submission.type, error.to_wire(), submission.by)
                self._engine.record(None, fact, task_id=submission.id)
            if isinstance(error, InterlockError):
                return error
        except _UNWRITABLE as problem:
            error = problem
        # One that cannot be written down must not fail those beside it.
        return Refused(detail=f"This submit is nothing that can be recorded ({told(error)}). Nothing was started; correct it.")

    def _known(self, submission: Submission, fresh: bool) -> bool:
        """Whether this task was accepted before; `TaskConflict` where it was another one, `Erased` where nobody can say. `fresh`: the
        ledger is known to say nothing of it."""
        task = self._engine.tasks.get(submission.id)
        if task is None:
            entries = [] if fresh else self._engine.store.entries(submission.id)
            if submission.id in self._closed or any(entry.kind == e.TaskErased.KIND for entry in entries):
                raise Erased(task=submission.id)
            if not entries:
                return False
            first = next((fact for entry in entries if isinstance(fact := entry.open(), e.TaskAccepted)), None)
            if first is None:  # an order came before it was accepted
                return False
            before = (first.type, raw(first.request), first.tenant)
        else:
            before = (task.type, task.request, task.tenant)
        if (before[0], before[2]) != (submission.type, submission.tenant) or not _same(before[1], submission.request):
            raise TaskConflict(task=submission.id)
        return True

    def _spec(self, submission: Submission) -> WorkflowSpec:
        workflows = self._engine.router.workflows
        spec = workflows.get(submission.type)
        if spec is None or spec.name == UNDO:
            raise UnknownTaskType(task_type=submission.type, known=", ".join(self._engine.router.types) or "none")
        return spec

    def _checked(self, number: int, submission: Submission, spec: WorkflowSpec) -> "_Arrival":
        engine = self._engine
        if not is_tenant(submission.tenant):
            raise BadTenant(tenant=clean(repr(submission.tenant), 100))
        if submission.priority and submission.priority not in PRIORITIES:
            raise BadPriority(priority=clean(repr(submission.priority), 100))
        engine.bounds.check(spec.name, submission.tenant, len(self._coming))
        version = submission.version or spec.request.version
        value = self._valid(submission, version, spec)
        limits = lowered(spec.limits, asked_amounts(submission.limits))
        _check_start(limits, models=engine.router.uses_models(spec.name))
        # As a replay will read it, in whatever order its keys came.
        return _Arrival(number, submission._replace(version=version, request=encode(value)), spec, value, limits)

    def _valid(self, submission: Submission, version: str, spec: WorkflowSpec) -> Any:
        try:
            value = decode(submission.request)
        except ValueError as error:
            problem = f"it is not JSON ({error})"
            raise InvalidMessage(contract=spec.request.name, version=version, pointer="(root)", problem=problem) from None
        self._engine.catalog.validate(spec.request.name, version, value)
        return value

    def _record(self, arrival: "_Arrival") -> None:
        engine, (_, submission, spec, value, limits) = self._engine, arrival
        label = engine.label_of(spec.request.name, submission.version, value)
        fact = e.TaskAccepted(
            type=spec.name,
            workflow_version=spec.version,
            contract=spec.request.name,
            contract_version=submission.version,
            request=Fragment(submission.request),
            limits=wire_amounts(limits),
            label=label.encode(),
            by=submission.by,
            tenant=submission.tenant,
            priority=submission.priority or spec.priority,
        )
        task = engine.tasks[submission.id] = TaskState(submission.id)
        engine.parking.watch()
        try:
            engine.record(task, fact, partial(engine.workflows.start, task))
        except Exception:
            del engine.tasks[submission.id]
            raise

    def coming(self) -> list[str]:
        """Tasks that are being accepted or refused right now."""
        return list(self._coming)

    @contextmanager
    def closed_to(self, id: str) -> Iterator[None]:
        """Nobody comes in under this id meanwhile."""
        self._closed.add(id)
        try:
            yield
        finally:
            self._closed.discard(id)

    async def settled(self, id: str) -> None:
        """Wait until a task that may be coming in is accepted or refused, and the same submit again that waited behind it."""
        while (coming := self._coming.get(id)) is not None:
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
    for limit in (STEPS, TOKENS, SECONDS, WORKING, *((INPUT, OUTPUT, USD) if models else ())):
        amount = limits.get(limit)
        if amount is not None and amount <= 0:
            raise BudgetTooSmall(limit=limit, allowed=str(amount), needed="more than 0")
    tokens = limits.get(TOKENS)
    if models and tokens is not None and tokens < TOKENS_AT_LEAST:
        raise BudgetTooSmall(limit=TOKENS, allowed=str(tokens), needed=f"{TOKENS_AT_LEAST} or more, for its agents call a model")
