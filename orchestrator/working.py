"""What the orchestrator itself counts of a task: the messages that its workflow sends, what is to be undone, and its working seconds.

Both are folds of its entries, so they are the same after every crash. The clock of the working seconds stands still while something of the
task waits for a human and nothing else is at work for it; the wall clock (`seconds`) is the supervisor's, and goes on.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from interlock.schemas import entries as e
from interlock.schemas.budget import MESSAGES, WORKING
from interlock.schemas.errors import BudgetExceeded
from interlock.schemas.times import after

if TYPE_CHECKING:
    from interlock.orchestrator.state import TaskState

_MICRO = 1_000_000


def count_wait(task: "TaskState", at: int) -> None:
    """After each fact about a task that ever asked a human: does its clock stand still from here on?"""
    waits = not task.outcome and bool(task.open_items) and all(dispatch.waits for dispatch in task.dispatches.values())
    if waits and not task.waits_from:
        task.waits_from = at
    elif task.waits_from and not waits:
        task.waited += at - task.waits_from
        task.waits_from = 0


def _budget_changed(task: "TaskState", fact: e.BudgetChanged, at: int) -> None:
    kept = {meter: amount for meter, amount in task.limits.items() if meter not in fact.limits}
    task.limits = kept | {meter: amount for meter, amount in fact.limits.items() if amount is not None}
    task.deadline = ""
    task.neared = tuple(meter for meter in task.neared if meter not in fact.limits)  # the new limit is another one to be near to


def _undo_registered(task: "TaskState", fact: e.UndoRegistered, at: int) -> None:
    task.commands = fact.n
    task.undos += 1


def _budget_neared(task: "TaskState", fact: e.BudgetNeared, at: int) -> None:
    task.neared += (fact.meter,)


COUNTED: dict[type[e.Fact], Callable[["TaskState", Any, int], None]] = {
    e.BudgetChanged: _budget_changed,
    e.BudgetNeared: _budget_neared,
    e.UndoRegistered: _undo_registered,
}
"""Steps of the fold of a task."""


def works_until(task: "TaskState", share: float = 1.0) -> int:
    """When its working seconds are over, or a share of them, as things stand; 0 where they are not limited, or stand still."""
    limit = task.limits.get(WORKING)
    return 0 if limit is None or task.waits_from else after(task.accepted + task.waited, float(limit) * share)


def worked(task: "TaskState", now: int) -> float:
    """Its working seconds so far."""
    return max(0, (task.waits_from or now) - task.accepted - task.waited) / _MICRO


def one_more_message(task: "TaskState") -> BudgetExceeded | None:
    """Why its workflow may send no other message; none where it may."""
    limit = task.limits.get(MESSAGES)
    return _over(MESSAGES, limit, task.messages, "1") if limit is not None and task.messages >= int(limit) else None


def out_of_time(task: "TaskState") -> BudgetExceeded:
    limit = task.limits[WORKING]
    return _over(WORKING, limit, limit, "more")


def _over(meter: str, limit: Any, used: Any, asked: str) -> BudgetExceeded:
    return BudgetExceeded(limit=meter, allowed=str(limit), used=str(used), reserved="0", asked=asked)
