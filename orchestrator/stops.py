"""Orders as the engine carries them out: a task that is killed has its outcome, an agent that is stopped gets nothing more.

Every method may be called again, by any incarnation of the supervisor and to any epoch: what is recorded already is not recorded twice.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from interlock.orchestrator.ledger.undos import standing, unknown_writes
from interlock.orchestrator.state import DispatchState, TaskState
from interlock.schemas import entries as e
from interlock.schemas.errors import Closed
from interlock.schemas.ports import Left, TaskOrder
from interlock.schemas.record import Outcome, Receipt
from interlock.schemas.stops import Closures, Selection, StopOrder

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

_AT_ONCE = 50
"""So many tasks end in one turn of the event loop: others are heard in between."""


class Stops:
    """The engine's desk for the supervisor's orders."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._closures = Closures()
        self._known: set[str] = set()  # stops that are on the ledger
        self._carried_out: set[str] = set()  # those whose receipts are
        self._receipts: set[str] = set()  # of tasks, recorded and not durable yet

    def restore(self, fact: e.StopOrdered | e.StopCarriedOut) -> None:
        """Take up what an engine before this one has recorded."""
        if isinstance(fact, e.StopCarriedOut):
            self._carried_out.add(fact.order)
        else:
            self._take(StopOrder(fact.order, fact.what, fact.scope, fact.name, fact.by, fact.why, fact.requested, fact.undo))

    def _take(self, stop: StopOrder) -> None:
        self._known.add(stop.id)
        self._closures.take(stop)

    def check(self, agent: str) -> None:
        """Raises `Closed` where the agent gets nothing until somebody opens it."""
        self._closures.check_agent(agent)

    def agents(self) -> list[str]:
        """Those that get nothing."""
        return self._closures.agents()

    def is_closed(self, selection: Selection) -> bool:
        """Whether exactly this was stopped and has not been opened since."""
        return any(stop.selection == selection for stop in self._closures)

    # --- from the supervisor -----------------------------------------------------------------------------------------------------

    async def order(self, orders: Sequence[TaskOrder]) -> Left:
        """These tasks have their outcomes, durably, when this returns; and what is left of them."""
        engine, gone = self._engine, []
        for number, order in enumerate(orders, 1):
            await engine.admission.settled(order.task)
            live = engine.task(order.task)
            if live is None:
                gone.append(order.task)
            elif not live.outcome:
                self._end(live, order)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await engine.durable()
        for task in gone:
            engine.owed.close_older(task)  # the orchestrator that gave it its outcome may have died before
        return self._left([order.task for order in orders])

    def _end(self, task: TaskState, order: TaskOrder) -> None:
        self._engine.record(task, e.OrderRecorded(order.id, order.what, order.by, order.why, order.undo))
        if order.what == "budget":
            self._engine.end(task, Outcome.BUDGET_EXCEEDED, order.why)
        else:
            self._engine.end(task, Outcome.KILLED, f"{order.by} killed it: {order.why}", undo=order.undo)

    def _left(self, tasks: Sequence[str]) -> Left:
        """What is left of these tasks, as the ledger has it: writes that were granted and of which nobody knows the end, and what is
        registered to take back what they did."""
        left = Left([], [])
        for task, entries in self._engine.store.entries_of(tasks).items():
            facts = [entry.open() for entry in entries if entry.kind in _ABOUT_WRITES]
            labels = {fact.dispatch: fact.label for fact in facts if isinstance(fact, e.MessageSent)}
            left.half_done.extend(
                {"task": task, "effect": one.effect, "tool": one.tool, "label": labels.get(one.dispatch, "")}
                for one in unknown_writes(facts)
            )
            if any(isinstance(fact, e.UndoRegistered) for fact in facts):
                left.undos.extend(standing(task, [entry.open() for entry in entries], []))  # that begins once there is a receipt
        return left

    async def stop(self, stop: StopOrder, orders: Sequence[TaskOrder]) -> Left:
        """Keep a stop or a resume, once; end the tasks that it has orders against, fail what an agent that it names works on."""
        engine = self._engine
        if stop.id not in self._known:
            self._take(stop)
            engine.record(None, e.StopOrdered(stop.id, stop.what, stop.scope, stop.name, stop.by, stop.why, stop.requested, stop.undo))
        if stop.scope == "agent":
            await self._fail_all(stop.name)
        return await self.order(orders)

    async def _fail_all(self, agent: str) -> None:
        """Fail what the agent works on, and what of it waits for a human, also in tasks that are not in memory."""
        self._fail_some(agent, list(self._engine.dispatches.live.values()))
        for number, id in enumerate(self._engine.parking.of_agent(agent), 1):
            self._engine.attempt(id, self._fail_parked, agent, id)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _fail_parked(self, agent: str, id: str) -> None:
        if (task := self._engine.parking.fetch(id)) is not None:
            self._fail_some(agent, list(task.dispatches.values()))

    def _fail_some(self, agent: str, dispatches: Sequence[DispatchState]) -> None:
        try:
            self.check(agent)
        except Closed as error:
            for dispatch in [one for one in dispatches if one.agent == agent]:
                self._engine.dispatches.release(dispatch, str(error))
                self._engine.dispatches.fail(dispatch, error)

    def _kept(self, task: str) -> None:
        self._receipts.discard(task)
        self._engine.undos.ended(task)

    async def receipts(self, receipts: Sequence[Receipt]) -> None:
        """Keep the proof of what was stopped, once."""
        engine = self._engine
        kept = engine.store.entries_of([receipt.task for receipt in receipts])
        for number, receipt in enumerate(receipts, 1):
            task = receipt.task
            if receipt.selection:
                if receipt.order not in self._carried_out:
                    self._carried_out.add(receipt.order)
                    engine.record(None, e.StopCarriedOut(receipt.order, receipt))
            elif task not in self._receipts and not any(entry.kind == e.ReceiptRecorded.KIND for entry in kept.get(task, ())):
                self._receipts.add(task)
                engine.record(None, e.ReceiptRecorded(receipt), partial(self._kept, task), task_id=task)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await engine.durable()


_ABOUT_WRITES = (e.EffectUnknown.KIND, e.EffectEnded.KIND, e.MessageSent.KIND, e.UndoRegistered.KIND)
