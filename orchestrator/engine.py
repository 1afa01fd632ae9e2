"""The engine: holds the state of every live task and routes every message. It runs no user code and knows nothing of Ray.

Whatever happens is recorded with `record`: folded into the task at once, appended to the ledger, and acted upon (`then`) when it is
durable. The desks do the work: admission and posts (drivers), workflows (runners), dispatches (replicas), effects (tools), deeds (writes
that touch each other), calls (models), inbox (humans), stops (the supervisor's orders). A new engine on the same store is the same
engine: it folds what is stored, asks every peer what it holds, and goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVarTuple

from interlock.orchestrator.admission import Admission
from interlock.orchestrator.bounds import Bounds
from interlock.orchestrator.calls import Calls
from interlock.orchestrator.deeds import Deeds
from interlock.orchestrator.demand import Demands
from interlock.orchestrator.dispatches import Dispatches
from interlock.orchestrator.effects import Effects
from interlock.orchestrator.inbox import Inbox
from interlock.orchestrator.letters import Letters
from interlock.orchestrator.limits import Limits
from interlock.orchestrator.marks import Marks
from interlock.orchestrator.owed import Owed
from interlock.orchestrator.parking import Parking
from interlock.orchestrator.peers import PeerRef, Peers
from interlock.orchestrator.posts import Posts
from interlock.orchestrator.router import Router
from interlock.orchestrator.state import TaskState, apply, fold
from interlock.orchestrator.stops import Stops
from interlock.orchestrator.suspects import Suspects
from interlock.orchestrator.timers import Timers
from interlock.orchestrator.undo import Undos
from interlock.orchestrator.workflows import Workflows
from interlock.schemas import entries as e
from interlock.schemas import frames as f
from interlock.schemas.budget import SECONDS, WORKING, wire_amounts
from interlock.schemas.canonical import Fragment, decode
from interlock.schemas.errors import InterlockError, InvalidMessage, LedgerStalled, StaleEpoch, StoreAway, StoreFailed
from interlock.schemas.labels import Label
from interlock.schemas.ports import Budgets, Clock, Failed, Inquire, Lost, Stall, Store, Told, nobody_knows
from interlock.schemas.record import Outcome
from interlock.schemas.registry.builtin import builtin
from interlock.schemas.registry.catalog import Catalog
from interlock.schemas.specs import AppSpec
from interlock.schemas.times import after, rfc3339
from interlock.schemas.words import told

VERSION = "0.1.0"

RETRY_AFTER_SECONDS = 5

Ts = TypeVarTuple("Ts")

_LOG = logging.getLogger("interlock.engine")


def ledger_stalled(stalled: Stall) -> LedgerStalled:
    """What somebody hears who comes while it lasts."""
    return LedgerStalled(since=rfc3339(stalled.since), problem=stalled.why, retry_after=RETRY_AFTER_SECONDS)


class Engine:
    """One epoch's orchestrator. Call `open` first.

    `lost(name, why)` is told of every peer process that has ended or does not answer, `gone(name)` ends what may be left of one and says
    whether a warden has seen that nothing is. `failed(error)` is told that this engine has stopped itself: it met a newer epoch or a fault
    of its own, and only a new engine on the same store may go on. `told` hears of every task's end, but for a crash just then. `inquire`
    says what a lost runner was doing. `tasks` are those in memory; `parking` has the others that live.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        budgets: Budgets,
        lost: Lost,
        gone: Callable[[str], Awaitable[bool]],
        failed: Failed,
        told: Told = lambda *_: None,
        inquire: Inquire = nobody_knows,
    ) -> None:
        self.store, self.clock, self.budgets, self.gone, self.inquire = store, clock, budgets, gone, inquire
        self._failed, self._told = failed, told
        self.tasks: dict[str, TaskState] = {}
        self.catalog, self.router, self.timers = Catalog(), Router(), Timers(clock, self.attempt)
        self.registered: list[tuple[str, str, dict[str, Any]]] = []
        self._marks = Marks(self.catalog)
        self.workflows, self.suspects, self.dispatches = Workflows(self), Suspects(self), Dispatches(self)
        self.effects, self.inbox, self.admission, self.posts = Effects(self), Inbox(self), Admission(self), Posts(self)
        self.letters, self.parking, self.stops, self.demand = Letters(self), Parking(self), Stops(self), Demands(self)
        self.limits, self.undos, self.bounds = Limits(self), Undos(self), Bounds(self)
        self.calls, self.owed, self.deeds, self.peers = Calls(self), Owed(self), Deeds(self), Peers(self, lost)
        self.detached = False
        self.resumed = False
        self._attempts = 0
        self._background: set[asyncio.Future[None]] = set()
        self._waiting: dict[str, list[Callable[[e.TaskEnded], None]]] = {}
        self._watching: dict[str, set[asyncio.Future[None]]] = {}
        self._over: list[str] = []  # they have their outcome, and nobody has heard yet that their budgets may be closed

    # --- starting ------------------------------------------------------------------------------------------------------------

    async def open(self, peers: Iterable[PeerRef]) -> None:
        """Take up what is stored, greet the peers, resume. Returns when every live task goes on."""
        restored = self._restore()
        self.record(None, e.EpochStarted(self.store.epoch, VERSION))
        await self.peers.greet(peers)
        self._resume(restored)

    def _restore(self) -> list[TaskState]:
        for name, version, schema in builtin():
            self.catalog.restore(name, version, schema)
        for entry in self.store.entries(""):
            fact = entry.open()
            if isinstance(fact, e.ContractRegistered):
                self.catalog.restore(fact.contract, fact.version, fact.schema)
                self.registered.append((fact.contract, fact.version, fact.schema))
            elif isinstance(fact, e.AppDeployed):
                self.router.deploy(AppSpec.from_wire(fact.spec))
            elif isinstance(fact, e.StopOrdered | e.StopCarriedOut):
                self.stops.restore(fact)
            elif isinstance(fact, e.LimitNeared):
                self.limits.know(fact)
        self.parking.restore(self.store.parked())
        awake = [id for id in self.store.live_tasks() if id not in self.parking]
        entries = self.store.entries_of(awake)
        for id in awake:
            task = self.tasks[id] = fold(id, entries.pop(id))
            task.known = task.events
            self.dispatches.live.update(task.dispatches)
            for dispatch in task.dispatches.values():
                self.deeds.restore(dispatch)
            self.inbox.know(task)
        self.owed.older.update(awake)
        return list(self.tasks.values())

    def _resume(self, restored: list[TaskState]) -> None:
        self.resumed = True
        for task in restored:
            self.attempt(task.id, self._resume_task, task)
        self.workflows.give_waiting()
        self.calls.call_waiting()
        self.parking.watch()
        self.background(self.owed.close_forgotten())

    def _resume_task(self, task: TaskState) -> None:
        self.inbox.resume(task)
        if task.outcome:
            return
        self.workflows.resume(task)
        self.undos.resume(task)
        for dispatch in list(task.dispatches.values()):
            self.deeds.resume(dispatch)
            self.dispatches.resume(dispatch)

    def is_live(self, id: str) -> bool:
        """Whether the task has begun and has no outcome yet, in memory or parked."""
        return id in self.tasks or id in self.parking

    def task(self, id: str) -> TaskState | None:
        """The live task, in memory again where it was parked."""
        return self.tasks.get(id) or self.parking.fetch(id)

    def background(self, work: Awaitable[None], id: str = "") -> None:
        """Do something beside, for the task `id` where it is for one; a failure of it ends that task, else this engine."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(partial(self._background_done, id))

    def _background_done(self, id: str, task: "asyncio.Future[None]") -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stumble(id, error)

    def attempt(self, id: str, work: Callable[[*Ts], None], *args: *Ts) -> None:
        """Do something for one task: whatever goes wrong there ends that task, never this engine and all others with it."""
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this task's own
            self.stumble(id, error)

    def stumble(self, id: str, error: BaseException) -> None:
        """Something went wrong with one task: it has failed, and says so. Where it is nobody's, or the store's, the engine ends."""
        if self.detached:
            return
        if not id or isinstance(error, StoreFailed | StoreAway | StaleEpoch) or not isinstance(error, Exception):
            self.fault(error)
            return
        _LOG.error("the bus could not carry out what task %s asked for", id, exc_info=error)
        task = self.tasks.get(id)
        if task is None or not task.type:
            return
        detail = f"The bus could not carry out what this task asked for ({told(error)}). It ends here; no other task is touched."
        failed = InterlockError(detail=detail)
        try:
            self.end(task, Outcome.FAILED, str(failed), error=failed.to_wire())
        except Exception as fault:  # noqa: BLE001 - not even that: only a new engine, from the ledger, is right again
            self.fault(fault)

    def fault(self, error: BaseException) -> None:
        """Stop: state may be half changed, and only a new engine, from the ledger, is right again."""
        if not self.detached:
            self.detach()
            self._failed(error)

    def detach(self) -> None:
        """Stop at once and for ever, as a crash would: nothing is sent, nothing is recorded, nobody is told."""
        self.detached = True
        self.timers.cancel_all()
        self.admission.detach()
        self.peers.detach()

    # --- recording -----------------------------------------------------------------------------------------------------------

    def record(self, task: TaskState | None, fact: e.Fact, then: Callable[[], None] | None = None, *, task_id: str = "") -> int:
        """Append a fact and fold it into its task; `then` runs once it is durable. Returns its time in microseconds.

        `task_id` names the task of a fact that comes after the task has left memory.
        """
        if task is None and task_id in self.parking:
            task = self.parking.fetch(task_id)
        id = task.id if task is not None else task_id
        at = self.store.append(id, fact, partial(self.attempt, id, then) if then is not None else None)
        if task is not None:
            apply(task, fact, at)
            if task.items and WORKING in task.limits:
                self.limits.watch(task)
        if id in self._watching:
            self.store.barrier(lambda: self._notify(id))
        return at

    def check_ledger(self) -> None:
        """Raises `LedgerStalled` where what comes from outside now could not be recorded: nothing is taken that would only pile up."""
        stalled = self.store.stalled
        if stalled is not None:
            raise ledger_stalled(stalled)

    def stalls(self, then: Callable[[], None]) -> bool:
        """Whether the ledger is stalled, so that nobody is given work; then `then` is called once it goes on."""
        if self.store.stalled is None:
            return False
        self.store.barrier(partial(self.attempt, "", then))
        return True

    def next_attempt(self) -> str:
        """A name for one handing out of one message, never used again: (epoch, n)."""
        self._attempts += 1
        return f"{self.store.epoch}-{self._attempts}"

    def label_of(self, contract: str, version: str, value: Any) -> Label:
        """The label of a message's own content: fields marked `Untrusted` are."""
        return self._marks.label(contract, version, value)

    def deadline_of(self, task: TaskState) -> str:
        """When the task's seconds are over, RFC 3339; empty where they are not limited."""
        seconds = task.limits.get(SECONDS)
        if seconds is not None and not task.deadline:
            task.deadline = rfc3339(after(task.accepted, float(seconds)))
        return task.deadline

    # --- what is deployed --------------------------------------------------------------------------------------------------------

    async def deploy(self, app: AppSpec, by: str) -> None:
        """Take an app's declarations, durably; its contracts are registered before. Raises `UnknownContract` where one is not."""
        self.check_ledger()
        for name in app.schemas:
            self.catalog.get(*name.split(" "))
        await self.budgets.declare([[one.scope, one.per, wire_amounts(one.limits)] for one in app.limits])
        self.record(None, e.AppDeployed(app.name, app.version, app.to_wire(), by))
        for pool in self.router.deploy(app):
            self.dispatches.disband(pool)
        await self.durable()

    async def admit(self, contract: str, version: str, schema: dict[str, Any], by: str, revision: int) -> bool:
        """Record a contract version that the registry has proved against `revision`, durably; false where that is not the last one."""
        self.check_ledger()
        if revision != len(self.registered):
            return False
        self.catalog.restore(contract, version, schema)
        self.registered.append((contract, version, schema))
        self.record(None, e.ContractRegistered(contract, version, schema, by))
        await self.durable()
        return True

    # --- ends ----------------------------------------------------------------------------------------------------------------------

    def succeed(self, task: TaskState, command: f.Command) -> None:
        """A workflow returned: its result is checked like any message, then the task has its outcome."""
        try:
            self.catalog.validate(command.name, command.version, decode(command.data))
        except InvalidMessage as error:
            self.end(task, Outcome.FAILED, str(error), error=error.to_wire())
            return
        self.end(task, Outcome.SUCCESS, "", result=command)

    def end(
        self, task: TaskState, outcome: Outcome, reason: str, *, result: f.Command | None = None, error: Any = None, undo: bool = True
    ) -> None:
        """Give a task its one outcome: everything that works for it lets go, then who waits is told; and what it did is undone where it
        did not succeed, but for who does not want it to be."""
        if task.outcome:
            return
        undoing = self.undos.accept(task, outcome, undo)
        for dispatch in list(task.dispatches.values()):
            self.dispatches.drop(dispatch, f"the task ended: {outcome}")
        for n in task.timers:
            self.timers.cancel(task.id, f"timer {n}")
        self.inbox.forget(task)
        self.limits.forget(task)
        fact = e.TaskEnded(
            outcome=outcome.value,
            reason=reason,
            result=Fragment(result.data) if result is not None else None,
            contract=result.name if result is not None else "",
            contract_version=result.version if result is not None else "",
            error=error,
            label=task.label.encode(),
            undo=undoing,
        )
        at = self.record(task, fact, lambda: self._ended(task, at))

    def _ended(self, task: TaskState, at: int) -> None:
        self.workflows.forget(task)
        self.tasks.pop(task.id, None)
        self.bounds.ended()
        self.owed.close(task.id)
        if task.undos:
            self.undos.ended(task.id)
        assert task.ended is not None
        self._told(task.id, task.type, task.accepted, at, task.ended.outcome)
        for then in self._waiting.pop(task.id, ()):
            then(task.ended)
        self._notify(task.id)

    def close_budget(self, id: str) -> None:
        """Together with those of all other tasks that end in this turn of the event loop."""
        self._over.append(id)
        if len(self._over) == 1:
            self.background(self._close_budgets())

    async def _close_budgets(self) -> None:
        over, self._over = self._over, []
        await self.budgets.close(over, self.store.epoch)

    async def innocent(self, tasks: Sequence[str], peers: Sequence[str]) -> list[str]:
        """Those of these peers that have nothing of tasks that are over, not even unread; see `Orders`."""
        await self.durable()
        coming = self.admission.coming()
        if any(self.is_live(task) or task in coming for task in tasks):
            return []
        return await self.peers.innocent(tasks, peers)

    async def decide(self, item: str, *, approve: bool, by: str, note: str = "") -> None:
        """Take a human's decision, durably."""
        self.check_ledger()
        self.inbox.decide(item, approve=approve, by=by, note=note)
        await self.durable()

    # --- watching --------------------------------------------------------------------------------------------------------------------

    async def durable(self) -> None:
        """Wait until all that was recorded so far is durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.store.barrier(lambda: done.set_result(None) if not done.done() else None)
        await done

    def when_ended(self, id: str, then: Callable[[e.TaskEnded], None]) -> None:
        """Call `then` with a live task's end once it is durable."""
        self._waiting.setdefault(id, []).append(then)

    async def changed(self, id: str) -> None:
        """Wait until something more of a live task is durable than was when this was called."""
        if self.store.pending:
            await self.durable()
        elif self.is_live(id):
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watching.setdefault(id, set()).add(waiting)
            try:
                await waiting
            finally:
                if id in self._watching:
                    self._watching[id].discard(waiting)
                    if not self._watching[id]:
                        del self._watching[id]

    def _notify(self, id: str) -> None:
        for waiting in self._watching.pop(id, ()):
            if not waiting.done():
                waiting.set_result(None)
