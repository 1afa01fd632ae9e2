"""Undoing: what takes back the effects of a task that did not succeed, as a task of its own that every bus can run.

It has its own name, budget and fence, so it goes on where the task that it is for may do nothing more, it outlives every crash as any task
does, and whoever wants it to stop kills it. Its name follows from that task's: there is one for each at the most.
"""

import hashlib
from typing import Any

from pydantic import Field

from interlock.schemas.budget import Budget
from interlock.schemas.message import Message, contract_of
from interlock.schemas.specs import ContractRef, Escalate, WorkflowSpec

UNDO = "interlock.undo"
_NAMES = "tsk_undo-"
BUDGET = Budget(tokens=None, steps=100, seconds=None)
"""What undoing may use where its workflow declares nothing: each undo is a step. Tools have time limits of their own, and so have those
who are asked."""


def undoing_of(task: str) -> str:
    """The task that undoes what this one did."""
    return _NAMES + hashlib.sha256(task.encode()).hexdigest()[:26]


def is_undoing(task: str) -> bool:
    """Whether that is the name of such a task; nobody may submit one."""
    return task.startswith(_NAMES)


class UndoTask(Message, contract="interlock.undo.task", version="1.0.0"):
    """Which task it is for, and of what type that was."""

    task: str
    type: str


class Undo(Message, contract="interlock.undo.call", version="1.0.0"):
    """One undo, for an agent that has its tool: `n` is the command of the workflow that registered it."""

    n: int
    tool: str
    arguments: dict[str, Any]


class UndoPlan(Message, contract="interlock.undo.plan", version="1.0.0"):
    """What is to be undone, in this order. `doubt`: why something of the task may still be at work, for a human to decide."""

    undos: list[Undo]
    doubt: str = ""


class Undone(Message, contract="interlock.undo.done", version="1.0.0"):
    """What the tool returned."""

    value: Any = Field(default=None)


class UndoReport(Message, contract="interlock.undo.report", version="1.0.0"):
    """Which undos were done, and which a human left as they are, by their numbers."""

    undone: list[int]
    left: list[int]


SPEC = WorkflowSpec(
    name=UNDO,
    version="1.0.0",
    request=ContractRef(*contract_of(UndoTask)),
    result=ContractRef(*contract_of(UndoReport)),
    limits=BUDGET.limits(),
    escalate=Escalate(to="operators"),
    receives=(ContractRef(*contract_of(UndoPlan)),),
)
MESSAGES = (UndoTask, Undo, UndoPlan, Undone, UndoReport)
