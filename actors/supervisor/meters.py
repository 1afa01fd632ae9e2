"""Meters: what each task may use, has used and holds. Pure: no clock, no disk, exact arithmetic.

Every change of state goes through `apply`, live and when the journal is read again, so both end in the same state. What is
held is the worst case of everything under way: used plus held never passes a limit, however parallel branches interleave,
as long as no effect uses more than was held for it. One that does is charged all the same, and the task gets nothing more
while it is over a limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Context, Decimal, Inexact, InvalidOperation, Overflow, localcontext
from sys import intern
from typing import Any

from interlock.actors.supervisor.journal import Change
from interlock.schemas.budget import Amount, Amounts, parse_amounts
from interlock.schemas.errors import BudgetExceeded, Fenced, Refused, Stopped
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.ports import Grant, Reservation

_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow])
# Within these, sums stay exact and whole numbers stay in the journal's 64 bits.
_MOST, _MOST_WHOLE, _FINEST = Decimal(10) ** 40, 2**53, -80
_GRAIN, _FLOOR = Decimal(1).scaleb(_FINEST), Context(prec=200, rounding=ROUND_FLOOR, traps=[InvalidOperation])
_LIMITS_KEPT = 1000


@dataclass(slots=True)
class _Held:
    """One reservation: what it holds, once `settled` what it cost. Its id stays known, so that a repeated request or settlement changes
    nothing."""

    units: int
    amounts: dict[str, Amount]
    settled: bool = False
    cost: dict[str, Amount] = field(default_factory=dict)


@dataclass(slots=True)
class _Task:
    limits: dict[str, Amount]
    accepted: int
    epoch: int = 0
    type: str = ""
    tenant: str = DEFAULT_TENANT
    used: dict[str, Amount] = field(default_factory=dict)
    reserved: dict[str, Amount] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    fenced: str = ""
    released: bool = False
    closed: bool = False


class Meters:
    """The state of all open tasks. `reserve`, `settle` and `close` apply what they decide and return what to journal.

    `forgotten` collects the tasks that are over; whoever makes use of it empties it.
    """

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self._tasks: dict[str, _Task] = {}
        self._limits: dict[str, dict[str, Amount]] = {}  # by their own words: those of many tasks are the same
        self._owner: dict[str, str] = {}

    def open(self, task: str, limits: Amounts, accepted: int, epoch: int = 0, type: str = "", tenant: str = DEFAULT_TENANT) -> list[Change]:
        """A task begins, or begins again: what nobody has reserved anything of was never accepted, for its answer was lost, so the last
        one stands. Once something was reserved only a later orchestrator may take it over, with what was used of it."""
        known, bounded = self._tasks.get(task), _bounded(limits)
        if known is not None:
            later = epoch > known.epoch
            anew = epoch == known.epoch and not known.held and (known.limits, known.accepted) != (bounded, accepted)
            if known.closed or not (later or anew):
                return []
        data = {"limits": bounded, "accepted": accepted, "epoch": epoch, "type": type, "tenant": tenant}
        return self._decide(Change("open", task, data))

    def reserve(self, asked: Reservation) -> tuple[Grant, list[Change]]:
        """Hold `base` plus as many units as fit; a refusal holds nothing. The first answer stands for a repeated id, until the task
        is fenced."""
        task = self._tasks.get(asked.task)
        if task is None or task.closed:
            return Grant(asked.id, 0, Fenced(task=asked.task, why="it is not open")), []
        if task.fenced:
            return Grant(asked.id, 0, Fenced(task=asked.task, why=task.fenced)), []
        known = task.held.get(asked.id)
        if known is not None:
            return Grant(asked.id, known.units), []
        with localcontext(_EXACT):
            try:
                base, unit = _exact(asked.base), _exact(asked.unit)
            except Refused as error:
                return Grant(asked.id, 0, error), []
            units, refusal = _fit(task, base, unit, asked)
            if refusal is not None:
                return Grant(asked.id, 0, refusal), []
            amounts = {meter: base.get(meter, 0) + units * unit.get(meter, 0) for meter in base | unit}
        data = {"id": asked.id, "units": units, "amounts": amounts}
        return Grant(asked.id, units), self._decide(Change("reserve", asked.task, data))

    def settle(self, id: str, actual: Amounts) -> list[Change]:
        """Charge `actual` and give back what was held; nothing for an id that is settled, or whose task is forgotten."""
        owner = self._owner.get(id)
        if owner is None or self._tasks[owner].held[id].settled:
            return []
        return self._decide(Change("settle", owner, {"id": id, "actual": _exact(actual)}))

    def forfeit(self, task: str, id: str) -> tuple[dict[str, Amount], list[Change]]:
        """Whoever held `id` and its continuations (`id/2` and so on) is gone: what is held is used. All that they cost."""
        known = self._tasks.get(task)
        mine = [one for one in known.held if one == id or one.startswith(f"{id}/")] if known is not None else []
        cost: dict[str, Amount] = {}
        changes: list[Change] = []
        for one in mine:
            assert known is not None
            changes += self.settle(one, known.held[one].amounts)
            _add(cost, known.held[one].cost)
        return cost, changes

    def close(self, task: str) -> list[Change]:
        known = self._tasks.get(task)
        if known is None or known.closed:
            return []
        return self._decide(Change("close", task, {}))

    def fence(self, task: str, why: str) -> None:
        """Grant the task nothing more. What is under way stays known until `release`, also if the task is closed before."""
        known = self._tasks.get(task)
        if known is not None and not known.fenced:
            known.fenced = why

    def release(self, task: str) -> None:
        """The order that fenced the task is carried out: it may be forgotten once it is closed."""
        known = self._tasks.get(task)
        if known is not None:
            known.released = True
            self._forget_if_done(task, known)

    def held(self, task: str) -> list[str]:
        """Ids of all reservations of a task, settled or not."""
        known = self._tasks.get(task)
        return list(known.held) if known else []

    def under_way(self, task: str) -> list[str]:
        """Ids of reservations that are not settled: effects of which nobody has said how they ended."""
        known = self._tasks.get(task)
        return sorted(id for id, held in known.held.items() if not held.settled) if known else []

    def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        """Per meter: used, reserved, limit; empty for a task that is not open."""
        known = self._tasks.get(task)
        if known is None:
            return {}
        meters = sorted({*known.limits, *known.used, *known.reserved})
        return {meter: (known.used.get(meter, 0), known.reserved.get(meter, 0), known.limits.get(meter)) for meter in meters}

    def granting(self) -> list[str]:
        """Tasks that are open and not fenced."""
        return [name for name, task in self._tasks.items() if not task.fenced and not task.closed]

    def opened_before(self, epoch: int) -> list[str]:
        """Those of them that an earlier orchestrator has opened."""
        return [task for task in self.granting() if self._tasks[task].epoch < epoch]

    def knows(self, task: str) -> bool:
        return task in self._tasks

    def limit(self, task: str, meter: str) -> Amount | None:
        """None where there is none, or the task is not open."""
        known = self._tasks.get(task)
        return known.limits.get(meter) if known else None

    def accepted(self, task: str) -> int:
        """When the task began, in microseconds; 0 where it is not open."""
        known = self._tasks.get(task)
        return known.accepted if known else 0

    def apply(self, kind: str, task: str, data: Mapping[str, Any]) -> None:
        """Take one journalled change into the state; kinds that are not about meters change nothing."""
        match kind:
            case "open":
                limits = _bounded(data["limits"])
                if len(self._limits) >= _LIMITS_KEPT:
                    self._limits.clear()
                limits = self._limits.setdefault(repr(limits), limits)
                opened = self._tasks.setdefault(task, _Task(limits, data["accepted"]))
                opened.limits, opened.accepted, opened.epoch = limits, data["accepted"], data.get("epoch", 0)
                # Not there in journals that were written before there was such a thing. One string each for all their tasks.
                opened.type, opened.tenant = intern(data.get("type", "")), intern(data.get("tenant", DEFAULT_TENANT))
            case "reserve":
                self._hold(task, data["id"], _Held(data["units"], parse_amounts(data["amounts"])))
            case "settle":
                self._charge(task, data["id"], parse_amounts(data["actual"]))
            case "close":
                known = self._tasks[task]
                known.closed = True
                self._forget_if_done(task, known)

    def _decide(self, change: Change) -> list[Change]:
        change = change.sealed()
        self.apply(change.kind, change.task, change.data)
        return [change]

    def _hold(self, name: str, id: str, held: _Held) -> None:
        task = self._tasks[name]
        task.held[id] = held
        self._owner[id] = name
        _add(task.reserved, held.amounts)

    def _charge(self, name: str, id: str, actual: Amounts) -> None:
        task = self._tasks[name]
        held = task.held[id]
        _add(task.reserved, {meter: -amount for meter, amount in held.amounts.items()})
        _add(task.used, actual)
        held.settled, held.amounts, held.cost = True, {}, dict(actual)

    def _forget_if_done(self, name: str, task: _Task) -> None:
        if task.closed and (task.released or not task.fenced):
            del self._tasks[name]
            self.forgotten.append(name)
            for id in task.held:
                del self._owner[id]


def _exact(amounts: Amounts) -> dict[str, Amount]:
    """The amounts, exact. Raises `Refused` for what no meter can count."""
    exact = parse_amounts(amounts)
    for meter, amount in exact.items():
        if not _is_countable(amount):
            raise Refused(detail=f"{str(amount)[:60]} {meter} cannot be counted: an amount is a number of zero or more, within reason.")
    return exact


def _is_countable(amount: Amount) -> bool:
    if isinstance(amount, int):
        return 0 <= amount <= _MOST_WHOLE
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= _FINEST and 0 <= amount <= _MOST


def _bounded(limits: Amounts) -> dict[str, Amount]:
    """Limits as meters can hold effects against them: one beyond all that can be counted is the most that can."""
    parsed = parse_amounts(limits)
    if all(map(_is_countable, parsed.values())):
        return parsed
    bounded: dict[str, Amount] = {}
    for meter, limit in parsed.items():
        if isinstance(limit, int):
            bounded[meter] = min(limit, _MOST_WHOLE)
        else:
            with localcontext(_FLOOR):
                bounded[meter] = min(limit, _MOST).quantize(_GRAIN) if not _is_countable(limit) else limit
    return _exact(bounded)


def _add(to: dict[str, Amount], amounts: Amounts) -> None:
    with localcontext(_EXACT):
        for meter, amount in amounts.items():
            to[meter] = to.get(meter, 0) + amount


def _fit(task: _Task, base: Amounts, unit: Amounts, asked: Reservation) -> tuple[int, Stopped | None]:
    """How many units fit under every limit; the error of the first meter where not even the least does."""
    units = max(asked.wanted, asked.least)
    for meter, limit in sorted(task.limits.items()):
        left = limit - task.used.get(meter, 0) - task.reserved.get(meter, 0)
        each = unit.get(meter, 0)
        least = base.get(meter, 0) + asked.least * each
        if left < least:
            return 0, BudgetExceeded(
                limit=meter,
                allowed=str(limit),
                used=str(task.used.get(meter, 0)),
                reserved=str(task.reserved.get(meter, 0)),
                asked=str(least),
            )
        if each:
            units = min(units, int((left - base.get(meter, 0)) // each))
    return units, None
