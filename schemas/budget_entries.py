"""Entries about limits: who changed one, and what was noticed of them.

They are used as all entries are, by `interlock.schemas.entries`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from interlock.schemas.fact import Fact


@dataclass(frozen=True, slots=True)
class BudgetChanged(Fact):
    """An operator's word about a live task's limits: per meter the amount that holds from here on, null where there is none any more."""

    KIND: ClassVar[str] = "budget.changed"
    limits: dict[str, Any]
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class BudgetNeared(Fact):
    """Four fifths of a limit of the task are used; said once per meter."""

    KIND: ClassVar[str] = "budget.neared"
    meter: str
    used: str
    limit: str


@dataclass(frozen=True, slots=True)
class LimitNeared(Fact):
    """Four fifths of what a scope may use in a window are used (of the bus: its task is ""); said once per window and meter."""

    KIND: ClassVar[str] = "limit.neared"
    scope: str
    per: str
    window: str
    meter: str
    used: str
    limit: str


@dataclass(frozen=True, slots=True)
class EstimateExceeded(Fact):
    """An endpoint reports more than was held for the call: per meter what was `reserved` and what is `reported`, and charged."""

    KIND: ClassVar[str] = "estimate.exceeded"
    effect: str
    dispatch: str
    model: str
    meters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LimitChanged(Fact):
    """An operator's word about a scope (of the bus: its task is ""); as `BudgetChanged`."""

    KIND: ClassVar[str] = "limit.changed"
    scope: str
    per: str
    limits: dict[str, Any]
    by: str
    why: str
