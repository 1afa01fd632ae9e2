"""Dispatches: one message's way to a replica and back.

ask: resolve → validate → label → record → hand to the least loaded replica.
reply: current? → validate → label → record → hand to the runner.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.failing import FAILURES_AT_MOST, Failing
from interlock.orchestrator.history import happened, reply_event
from interlock.orchestrator.letters import LOST_AT_MOST
from interlock.orchestrator.replies import reply_envelope, used_label
from interlock.orchestrator.router import Pool
from interlock.orchestrator.state import DispatchState, TaskState
from interlock.schemas import entries as e
from interlock.schemas.canonical import Fragment, decode, encode
from interlock.schemas.envelope import Envelope, head_of, joined
from interlock.schemas.errors import AgentFailed, Closed, InterlockError, Refused, StaleAttempt
from interlock.schemas.frames import SPENT, Command, Dispatch, DispatchFailure, Drop, LetGo, Replied
from interlock.schemas.ids import derived, traceparent
from interlock.schemas.labels import Label
from interlock.schemas.specs import ContractRef
from interlock.schemas.times import rfc3339

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

RESTARTED = "the orchestrator was started again"

_LAST_WORDS = (e.MessageReceived.KIND, e.DispatchFailed.KIND, e.ReplyRefused.KIND)


class Dispatches:
    """The engine's desk for replicas."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.live: dict[str, DispatchState] = {}
        self._released: dict[tuple[str, str], Channel] = {}  # dropped, not yet let go
        self.spent: Callable[[str, str], None] = lambda replica, why: None
        """Told of a replica whose process shall end, and why where that is a fault; set it to whoever ends processes."""
        self._failing = Failing()
        self._unclear: list[DispatchState] = []  # perhaps still written for by a replica that has not answered yet

    # --- out: a workflow's ask ---------------------------------------------------------------------------------------

    def ask(self, task: TaskState, command: Command) -> None:
        """Send a workflow's message; raises where the bus refuses it."""
        engine = self._engine
        pool, migrated = engine.undos.route(task, command)
        engine.stops.check(pool.agent.name)
        value = decode(command.data)
        engine.catalog.validate(command.name, command.version, value)
        label = task.label.join(engine.label_of(command.name, command.version, value))
        dispatch = self._record_sent(task, command, pool.agent.name, label, migrated)
        self._place(pool, dispatch)

    def refuse(self, task: TaskState, command: Command, error: InterlockError) -> None:
        """Record an ask that the bus does not send, and its failure, so that a replay sees the same."""
        dispatch = self._record_sent(task, command, "", task.label, [])
        self.fail(dispatch, error)

    def _record_sent(self, task: TaskState, command: Command, agent: str, label: Label, migrated: list[str]) -> DispatchState:
        engine = self._engine
        id, attempt = derived("dsp", task.id, command.n), engine.next_attempt()
        head = head_of(
            ContractRef(command.name, command.version),
            id=id,
            source=f"/workflows/{task.type}",
            subject=task.id,
            time=rfc3339(engine.clock.now()),
            traceparent=traceparent(task.id),
            correlationid=id,
            causationid=task.id,
            label=label.encode(),
            attempt=attempt,
            deadline=engine.deadline_of(task),
        )
        fact = e.MessageSent(command.n, id, attempt, agent, command.returns, label.encode(), Fragment(joined(head, command.data)), migrated)
        engine.record(task, fact)
        dispatch = self.live[id] = task.dispatches[id]
        dispatch.head, dispatch.data, dispatch.envelope, dispatch.ours = head, command.data, None, task.rested > task.known
        return dispatch

    def _place(self, pool: Pool, dispatch: DispatchState) -> None:
        if dispatch.lost >= LOST_AT_MOST - 1:
            pool.suspects.append(dispatch)
            self._place_alone(pool)
            return
        replica = pool.pick()
        if replica is None or self._engine.stalls(partial(self.refill, pool.agent.name)):
            task = self._engine.tasks[dispatch.task]
            pool.queue.put(dispatch.id, dispatch, task.type, task.tenant, task.priority)
            self._engine.demand.pressed()
        else:
            self._hand(replica, dispatch)

    def _place_alone(self, pool: Pool) -> None:
        """Hand out what may cost its replica its life: to one that has nothing else to do, and gets nothing else meanwhile."""
        while pool.suspects and not self._may_place(pool.suspects[0]):
            pool.suspects.popleft()
        if pool.aside not in pool.channels:
            pool.aside = None
        if pool.suspects and pool.aside is None:
            pool.aside = min((one for one in pool.channels if one.open), key=lambda one: one.load, default=None)
        if pool.aside is None or pool.aside.load > 0:
            return
        if pool.suspects and self._engine.stalls(partial(self.refill, pool.agent.name)):
            return
        if pool.suspects:
            self._hand(pool.aside, pool.suspects.popleft())
        else:
            pool.aside = None

    def _hand(self, replica: Channel, dispatch: DispatchState) -> None:
        records = [[one.id, one.ok, one.value, one.differs] for one in dispatch.effects.values() if one.status == "ended"]
        dispatch.replica = replica
        replica.load += 1
        self._engine.demand.handed(replica.pool)
        aim = self._engine.router.aim(self._engine.tasks[dispatch.task])
        parts = (dispatch.id, dispatch.task, dispatch.attempt, dispatch.agent, dispatch.head, dispatch.data, dispatch.returns, records)
        replica.send(Dispatch(*parts, *aim, dispatch.migrated))

    def again(self, dispatch: DispatchState, why: str, *, lost: bool = False) -> None:
        """Hand it out under a new attempt, with what was recorded so far; once that is durable."""
        engine = self._engine
        task = engine.tasks[dispatch.task]
        attempt = engine.next_attempt()
        dispatch.replica = None
        engine.record(task, e.DispatchAttempted(dispatch.id, attempt, why, lost), partial(self._place_again, dispatch, attempt))

    def _place_again(self, dispatch: DispatchState, attempt: str) -> None:
        if not self._may_place(dispatch) or dispatch.attempt != attempt:
            return
        pool = self._engine.router.pools.get(dispatch.agent)
        if pool is None:
            self._fail_undeployed(dispatch)
            return
        try:
            self._engine.stops.check(dispatch.agent)
        except Closed as error:  # it was parked, or nobody had it, when its agent was stopped
            self.fail(dispatch, error)
        else:
            self._place(pool, dispatch)

    def disband(self, pool: Pool) -> None:
        """Nobody declares this agent any more: what its replicas work on they finish, what waits for them has failed."""
        for dispatch in filter(self._may_place, (*pool.queue, *pool.suspects)):
            self._fail_undeployed(dispatch)

    def _fail_undeployed(self, dispatch: DispatchState) -> None:
        problem = "no app that is deployed declares it any more"
        self.fail(dispatch, AgentFailed(agent=dispatch.agent, contract="its message", problem=problem))

    def _may_place(self, dispatch: DispatchState) -> bool:
        """Whether it waits for a replica: open, with nobody, and with nothing that waits for a human."""
        return self.live.get(dispatch.id) is dispatch and dispatch.replica is None and not dispatch.suspended

    # --- back: what the replica says -----------------------------------------------------------------------------------

    def current(self, replica: Channel, id: str, attempt: str) -> DispatchState | None:
        """The dispatch if this is its current attempt; else none, and the replica is told to let go."""
        dispatch = self.live.get(id)
        if dispatch is not None and dispatch.attempt == attempt and not dispatch.suspended:
            return dispatch
        replica.send(Drop(id, attempt, "it is not the current attempt"))
        return None

    def replied(self, replica: Channel, frame: Replied) -> None:
        dispatch = self._finish(replica, frame)
        if dispatch is None:
            return
        task, contract = self._engine.tasks[dispatch.task], ContractRef(frame.contract, frame.version)
        try:
            value = decode(frame.data)
            migrated = self._check_reply(dispatch, contract, value)
        except InterlockError as error:
            self.fail(dispatch, AgentFailed(agent=dispatch.agent, contract=str(contract), problem=str(error)))
            return
        self._failing.answered(replica)
        data = encode(value)  # as a replay will read it, in whatever order its keys came
        label = used_label(self._engine.router, dispatch).join(self._engine.label_of(contract.name, contract.version, value))
        envelope = Fragment(reply_envelope(task, dispatch, contract, data, label, self._engine.clock.now()))
        fact = e.MessageReceived(dispatch.n, dispatch.id, frame.attempt, replica.name, frame.degraded, label.encode(), envelope, migrated)
        evidence = dispatch.evidence()
        self._close(dispatch, "its agent answered before it ended")
        number = task.events + 1
        engine = self._engine

        def deliver() -> None:
            engine.workflows.deliver(task, reply_event(task.id, number, fact, contract, data, at, evidence))

        at = engine.record(task, fact, deliver)
        engine.inbox.closed(task, dispatch.id)

    def _check_reply(self, dispatch: DispatchState, contract: ContractRef, value: object) -> list[str]:
        """The migrations by which its workflow reads the reply; raises where it cannot."""
        self._engine.catalog.validate(contract.name, contract.version, value)
        migrated = self._engine.router.way_back(contract, dispatch.returns)
        if migrated is None:
            raise AgentFailed(agent=dispatch.agent, contract=str(contract), problem=f"the workflow awaits {' or '.join(dispatch.returns)}")
        return migrated

    def failed(self, replica: Channel, frame: DispatchFailure) -> None:
        dispatch = self._finish(replica, frame)
        if dispatch is not None:
            error: dict[str, Any] = decode(frame.error)
            if self._failing.failed(replica, error["facts"].get("cause", "")):
                self._spend(replica, f"{FAILURES_AT_MOST} dispatches in a row have failed in it")
            elif (pool := self._engine.router.pools.get(replica.pool)) is not None and replica in pool.channels:
                pool.channels.sort(key=lambda one: one is replica)  # the last of those that have as little to do
            self._fail_wire(dispatch, error)

    def fail(self, dispatch: DispatchState, error: InterlockError) -> None:
        """The dispatch has failed; its workflow hears the error as the result of its ask."""
        self._fail_wire(dispatch, error.to_wire())

    def _fail_wire(self, dispatch: DispatchState, error: dict[str, object]) -> None:
        engine, task = self._engine, self._engine.tasks[dispatch.task]
        evidence = dispatch.evidence()
        self._close(dispatch, "its agent failed before it ended")
        fact = e.DispatchFailed(dispatch.n, dispatch.id, dispatch.attempt, error, used_label(engine.router, dispatch).encode())
        number = task.events + 1

        def deliver() -> None:
            event = happened(task.id, number, fact, at, evidence)
            if event is not None:
                engine.workflows.deliver(task, event)

        at = engine.record(task, fact, deliver)
        engine.inbox.closed(task, dispatch.id)

    def _finish(self, replica: Channel, frame: Replied | DispatchFailure) -> DispatchState | None:
        """The dispatch that this replica has just finished, none (and a record of it) where it is not the current one. One that was
        finished before this orchestrator came is nobody's, and no less finished."""
        id, attempt = frame.dispatch, frame.attempt
        dispatch = self.live.get(id)
        if dispatch is None and self._engine.parking.fetch_owner(id) is not None:
            dispatch = self.live.get(id)
        if dispatch is not None and dispatch.attempt == attempt and not dispatch.suspended and dispatch.replica in (replica, None):
            if dispatch.replica is replica:
                self._free(replica)
            return dispatch
        if self._released.pop((id, attempt), None) is replica:
            self._free(replica)
        if not self._is_known(frame):
            current = dispatch.attempt if dispatch is not None else "none: it has ended"
            error = StaleAttempt(attempt=attempt, dispatch=id, current=current).to_wire()
            self._engine.record(self._engine.tasks.get(frame.task), e.ReplyRefused(id, attempt, error), task_id=frame.task)
        return None

    def _is_known(self, frame: Replied | DispatchFailure) -> bool:
        """Whether an earlier orchestrator recorded this word, taken or refused, and the replica has not heard since that it is durable."""
        if frame.attempt.startswith(f"{self._engine.store.epoch}-"):
            return False
        return any(
            fact.attempt == frame.attempt and fact.dispatch == frame.dispatch
            for entry in self._engine.store.entries(frame.task)
            if entry.kind in _LAST_WORDS and isinstance(fact := entry.open(), e.MessageReceived | e.DispatchFailed | e.ReplyRefused)
        )

    def is_held(self, ids: Collection[str], replica: Channel) -> bool:
        """Whether a replica has, or has not let go of, one of these dispatches."""
        released = any(id in ids and held is replica for (id, _), held in self._released.items())
        return released or any(dispatch.id in ids and dispatch.replica is replica for dispatch in self.live.values())

    def is_letting_go(self, id: str, attempt: str) -> bool:
        """Whether a replica was told to let go of this attempt, and has not said yet that nothing of it runs any more."""
        return (id, attempt) in self._released

    def let_go(self, replica: Channel, frame: LetGo) -> None:
        if self._released.pop((frame.dispatch, frame.attempt), None) is replica:
            self._free(replica)

    def _free(self, replica: Channel) -> None:
        replica.load -= 1
        pool = self._engine.router.pools.get(replica.pool)
        if pool is not None and pool.agent.exclusive and not replica.load:
            self._spend(replica, "")
        self.refill(replica.pool)

    def _spend(self, replica: Channel, why: str) -> None:
        """It gets nothing more: it was for one dispatch, or fails (`why`). Its process ends once what it has said is durable."""
        pool = self._engine.router.pools.get(replica.pool)
        if pool is not None and replica in pool.channels:
            pool.channels.remove(replica)
        self._engine.store.barrier(partial(self.spent, replica.name, why))

    def refill(self, agent: str) -> None:
        """Hand what waits in a pool's queue to replicas with room."""
        pool = self._engine.router.pools.get(agent)
        if pool is not None and (pool.queue or pool.suspects) and self._engine.stalls(partial(self.refill, agent)):
            return
        if pool is not None and (pool.suspects or pool.aside is not None):
            self._place_alone(pool)
        while pool is not None and pool.queue:
            replica = pool.pick()
            if replica is None:
                return
            dispatch = pool.queue.take()
            if self._may_place(dispatch):
                self._engine.bounds.handed(agent)
                self._hand(replica, dispatch)

    # --- ends ------------------------------------------------------------------------------------------------------------

    def _close(self, dispatch: DispatchState, why: str) -> None:
        self.live.pop(dispatch.id, None)
        if dispatch.replica is None:
            self._engine.router.wait_no_more(dispatch, self._engine.tasks[dispatch.task])
        self._engine.effects.abandon(dispatch, why)

    def drop(self, dispatch: DispatchState, why: str) -> None:
        """Nobody wants its reply any more: the replica lets go of it and its late words are refused."""
        self.release(dispatch, why)
        self._close(dispatch, why)

    def release(self, dispatch: DispatchState, why: str) -> None:
        """Take it from its replica; it stays open."""
        replica, dispatch.replica = dispatch.replica, None
        if replica is not None:
            self._released[dispatch.id, dispatch.attempt] = replica
            replica.send(Drop(dispatch.id, dispatch.attempt, why))

    # --- replicas come and go ----------------------------------------------------------------------------------------------

    def opened(self, replica: Channel, holds: list[str]) -> None:
        """A replica is there. What it runs that is current stays there; it lets go of everything else."""
        works = [held for held in holds if held != SPENT]
        for held in works:
            id, attempt = held.split()
            dispatch = self.live.get(id)
            if dispatch is None or dispatch.attempt != attempt or dispatch.suspended or dispatch.replica is not None:
                self._released[id, attempt] = replica
                replica.load += 1
                replica.send(Drop(id, attempt, "it is not the current attempt"))
            else:
                dispatch.replica = replica
                replica.load += 1
        pool = self._engine.router.pools.get(replica.pool)
        if SPENT in holds and not works:
            self._spend(replica, "")
        elif pool is not None:
            pool.channels.append(replica)
            self.refill(replica.pool)

    def closed(self, replica: Channel) -> None:
        """A replica's process has ended: what ran there is handed out again with what was recorded so far."""
        pool = self._engine.router.pools.get(replica.pool)
        self._failing.forget(replica)
        if pool is not None and replica in pool.channels:
            pool.channels.remove(replica)
        for key in [key for key, channel in self._released.items() if channel is replica]:
            del self._released[key]
        for dispatch in [one for one in self.live.values() if one.replica is replica]:
            dispatch.replica = None
            self.lost(dispatch, replica.name, f"its replica {replica.name} ended")

    def lost(self, dispatch: DispatchState, replica: str, why: str) -> None:
        """Whoever worked on it is gone for certain."""
        if not self._engine.effects.orphaned(dispatch, why):
            self._engine.inbox.advance(dispatch)
        elif dispatch.lost + 1 >= LOST_AT_MOST:
            self._engine.letters.lettered(dispatch, replica, why)
        else:
            self.again(dispatch, why, lost=True)

    def resume(self, dispatch: DispatchState) -> None:
        """A new orchestrator has heard from every peer: what nobody works on, and nothing waits for, is handed out again."""
        if dispatch.replica is not None or (dispatch.suspended and not dispatch.writing) or self.live.get(dispatch.id) is not dispatch:
            return
        if not dispatch.agent:
            self.fail(dispatch, self._refusal(dispatch))
        elif dispatch.writing and self._engine.peers.expects(dispatch.agent):
            self._unclear.append(dispatch)
        elif dispatch.lost >= LOST_AT_MOST and not dispatch.waits:
            self._engine.letters.ask(dispatch)
        elif self._engine.effects.orphaned(dispatch, RESTARTED):
            self.again(dispatch, RESTARTED)
        else:
            self._engine.inbox.advance(dispatch)

    def greeted(self, agent: str) -> None:
        """A replica of `agent` was slow to answer this orchestrator: what it may have been writing is clear once all have."""
        unclear, self._unclear = self._unclear, []
        for dispatch in unclear:
            self.resume(dispatch)

    def _refusal(self, dispatch: DispatchState) -> InterlockError:
        """Why an earlier orchestrator did not send this message; it died before it could say so."""
        sent = Envelope.of(dispatch.head, dispatch.data)
        try:
            self._engine.router.route(sent.contract.name, sent.contract.version, dispatch.returns)
            self._engine.catalog.validate(sent.contract.name, sent.contract.version, decode(sent.data))
        except InterlockError as error:
            return error
        return Refused(detail=f"The bus did not send this {sent.contract}; what was in the way has gone meanwhile. Ask again.")
