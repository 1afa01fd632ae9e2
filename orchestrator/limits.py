"""Limits: what an operator says of them, what is left of them, and those that the orchestrator keeps itself.

The supervisor holds the meters that effects are reserved against; what he is told here is durable in his journal before it is an entry.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from interlock.orchestrator.state import TaskState
from interlock.orchestrator.working import out_of_time, worked, works_until
from interlock.schemas import entries as e
from interlock.schemas.budget import MESSAGES, WORKING, Amount, asked_amounts, wire_amounts
from interlock.schemas.errors import AlreadyEnded, UnknownTask
from interlock.schemas.limits import asked_limits, is_scope
from interlock.schemas.record import Outcome

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

_ALARM, _ALARM_NEAR = "working seconds", "working seconds nearly over"

Meter = tuple[Amount, Amount, Amount | None]
"""Used, reserved, limit."""


class Limits:
    """The engine's desk for limits."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._said: dict[tuple[str, str, str], str] = {}  # of a scope's limit: in which window it was said last that it is nearly used up

    # --- what an operator says -------------------------------------------------------------------------------------------

    async def change(self, id: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        """Raise or lower a live task's limits, durably; null lifts one. Raises `UnknownTask`, `AlreadyEnded`, `Fenced` or
        `BadDeclaration`."""
        engine = self._engine
        engine.check_ledger()
        said = _said(asked_amounts({meter: amount for meter, amount in limits.items() if amount is not None}), limits)
        self._live(id)
        await engine.budgets.change(id, said, by, why)
        task = self._live(id)
        engine.record(task, e.BudgetChanged(said, by, why))
        self.watch(task)
        await engine.durable()
        used = await self.used(task)
        for meter in said:
            self._look(task, meter, *used.get(meter, (0, 0, None)))

    def _live(self, id: str) -> TaskState:
        task = self._engine.task(id)
        if task is None:
            raise UnknownTask(task=id)
        if task.outcome:
            raise AlreadyEnded(task=id, outcome=task.outcome)
        return task

    async def limit(self, scope: str, per: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        """Set what a scope may use, durably; null lifts a limit. Raises `BadDeclaration`."""
        engine = self._engine
        engine.check_ledger()
        asked = asked_limits(scope, per, limits)
        said = _said({meter: amount for meter, amount in asked.items() if amount is not None}, limits)
        await engine.budgets.limit(scope, per, said, by, why)
        engine.record(None, e.LimitChanged(scope, per, said, by, why))
        await engine.durable()

    # --- what is left ------------------------------------------------------------------------------------------------------

    async def used(self, task: TaskState) -> dict[str, Meter]:
        """Per meter of a live task: used, reserved, limit."""
        used = dict(await self._engine.budgets.used(task.id))
        seconds = round(Decimal(worked(task, self._engine.clock.now())), 3)
        for meter, amount in ((MESSAGES, task.messages), (WORKING, seconds)):
            limit = task.limits.get(meter)
            used[meter] = (amount, 0, None if limit is None else asked_amounts({meter: limit})[meter])
        return used

    def neared(self, about: str, meter: str, used: str, limit: str) -> None:
        """The supervisor says that four fifths of a limit are used, of a task or of a scope in a window; he may say so again."""
        if is_scope(about):
            scope, per, window = about.rsplit("/", 2)
            fact = e.LimitNeared(scope, per, window, meter, used, limit)
            if self.know(fact):
                self._engine.record(None, fact)
            return
        task = self._engine.tasks.get(about)
        if task is not None and not task.outcome and meter not in task.neared:
            self._engine.record(task, e.BudgetNeared(meter, used, limit))

    def sent(self, task: TaskState) -> None:
        """Its workflow has sent one more message."""
        limit = task.limits.get(MESSAGES)
        self._look(task, MESSAGES, task.messages, 0, None if limit is None else int(limit))

    def _look(self, task: TaskState, meter: str, used: Amount, reserved: Amount, limit: Amount | None) -> None:
        """Say that four fifths of a limit are used, where they are; of one that is used up its end says more."""
        if limit is not None and not task.outcome and limit > used and used * 5 >= limit * 4 and meter not in task.neared:
            self._engine.record(task, e.BudgetNeared(meter, str(used), str(limit)))

    def know(self, fact: e.LimitNeared) -> bool:
        """Take up that it was said; false where it was before."""
        said = (fact.scope, fact.per, fact.meter), fact.window
        known, self._said[said[0]] = self._said.get(said[0]) == said[1], said[1]
        return not known

    # --- working seconds -----------------------------------------------------------------------------------------------------

    def watch(self, task: TaskState) -> None:
        """Set the alarms at which its working seconds are nearly over, and over; none while they stand still."""
        until = works_until(task)
        if until and not task.outcome:
            self._engine.timers.set(task.id, _ALARM, until, partial(self._ring, task))
            if WORKING not in task.neared:
                self._engine.timers.set(task.id, _ALARM_NEAR, works_until(task, 0.8), partial(self._ring_near, task))
        else:
            self.forget(task)

    def forget(self, task: TaskState) -> None:
        self._engine.timers.cancel(task.id, _ALARM)
        self._engine.timers.cancel(task.id, _ALARM_NEAR)

    def _ring_near(self, task: TaskState) -> None:
        if works_until(task, 0.8) > self._engine.clock.now():
            self.watch(task)
        elif works_until(task):
            used = round(Decimal(worked(task, self._engine.clock.now())), 3)
            self._look(task, WORKING, used, 0, Decimal(str(task.limits[WORKING])))

    def _ring(self, task: TaskState) -> None:
        until = works_until(task)
        if until > self._engine.clock.now():  # an alarm may fire a hair early against the wall clock
            self.watch(task)
        elif until and not task.outcome:
            error = out_of_time(task)
            self._engine.end(task, Outcome.BUDGET_EXCEEDED, str(error), error=error.to_wire())


def _said(amounts: dict[str, Amount], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Limits as they are told and recorded: exact, null where one is lifted."""
    wire = wire_amounts(amounts)
    return {meter: wire.get(meter) for meter in limits}


def meters_to_wire(meters: Mapping[str, Meter]) -> dict[str, dict[str, Any]]:
    """Per meter `used`, `reserved`, `limit` and `left` as plain JSON; the last two null where there is no limit."""
    return {
        meter: {
            **wire_amounts({"used": used, "reserved": reserved}),
            "limit": None if limit is None else wire_amounts({meter: limit})[meter],
            "left": None if limit is None else wire_amounts({meter: max(limit - used - reserved, limit * 0)})[meter],
        }
        for meter, (used, reserved, limit) in meters.items()
    }
