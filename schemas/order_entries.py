"""Entries about orders: against a task, or a stop, whose task is "". They are used as all entries are, by `interlock.schemas.entries`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from interlock.schemas.fact import Fact


@dataclass(frozen=True, slots=True)
class OrderRecorded(Fact):
    """`undo`: what the task did shall be undone."""

    KIND: ClassVar[str] = "order.recorded"
    order: str
    what: str
    by: str
    why: str
    undo: bool = True


@dataclass(frozen=True, slots=True)
class ReceiptRecorded(Fact):
    KIND: ClassVar[str] = "receipt.recorded"
    receipt: Any


@dataclass(frozen=True, slots=True)
class StopOrdered(Fact):
    """`what` is `stop` or `resume`: what `scope` and `name` say gets nothing new from now on, or is open again. `requested` in
    microseconds."""

    KIND: ClassVar[str] = "stop.ordered"
    order: str
    what: str
    scope: str
    name: str
    by: str
    why: str
    requested: int
    undo: bool = True


@dataclass(frozen=True, slots=True)
class StopCarriedOut(Fact):
    """The receipt of a stop: what it has ended, with evidence."""

    KIND: ClassVar[str] = "stop.carried_out"
    order: str
    receipt: Any
