"""Meters: what each task may use, has used and holds. Pure: no clock, no disk, exact arithmetic.

Every change of state goes through `apply`, live and when the journal is read again, so both end in the same state. What is
held is the worst case of everything under way: used plus held never passes a limit, however parallel branches interleave,
as long as no effect uses more than was held for it. One that does is charged all the same, and the task gets nothing more
while it is over a limit. What limits tasks together is in `scopes.py`: an effect is held in all scopes of its task at once, or in none.
"""

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from interlock.actors.supervisor.amounts import add, bounded, exact, fit, nears, take, worst
from interlock.actors.supervisor.caps import Caps
from interlock.actors.supervisor.journal import Change
from interlock.actors.supervisor.scopes import Counter, Part, Scopes, key_of, parts_of
from interlock.schemas.budget import STEPS, Amount, Amounts, asked_amounts, parse_amounts
from interlock.schemas.errors import BudgetExceeded, Fenced, Refused
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.ports import Grant, Reservation

_LIMITS_KEPT = 1000

_Used = dict[str, dict[str, Amount]]
"""Amounts by counter."""


@dataclass(slots=True)
class _Held:
    """One reservation: what it holds, once `settled` what it cost. Its id stays known, so that a repeated request or settlement changes
    nothing."""

    units: int
    amounts: dict[str, Amount]
    settled: bool = False
    cost: dict[str, Amount] = field(default_factory=dict)
    counters: Sequence[str] = ()


@dataclass(slots=True)
class _Task:
    """`shared`: what of it is used in each scope's counter; `owing`: how many of its reservations there are not settled. `granted` and
    `settled`: when something was granted, and when an effect ended, the last time (microseconds; 0: never)."""

    limits: dict[str, Amount]
    accepted: int
    epoch: int = 0
    type: str = ""
    tenant: str = DEFAULT_TENANT
    granted: int = 0
    settled: int = 0
    used: dict[str, Amount] = field(default_factory=dict)
    reserved: dict[str, Amount] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    shared: _Used | None = None
    owing: int = 0
    fenced: str = ""
    released: bool = False
    closed: bool = False


class Meters:
    """The state of all open tasks. `reserve`, `settle` and `close` apply what they decide and return what to journal.

    `forgotten` collects the tasks that are over, `neared` what is nearly used up (task or counter, meter, used, limit); whoever makes use
    of them empties them.
    """

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.neared: list[tuple[str, str, str, str]] = []
        self._tasks: dict[str, _Task] = {}
        self._limits: dict[str, dict[str, Amount]] = {}  # by their own words: those of many tasks are the same
        self._owner: dict[str, str] = {}
        self.scopes = Scopes()
        self.caps = Caps()
        self._owing: dict[str, None] = {}
        self._to_carry: dict[str, list[_Used]] = {}  # of forgotten tasks whose rows are still there

    def open(self, task: str, limits: Amounts, accepted: int, epoch: int = 0, type: str = "", tenant: str = DEFAULT_TENANT) -> list[Change]:
        """A task begins, or begins again: what nobody has reserved anything of was never accepted, for its answer was lost, so the last
        one stands. Once something was reserved only a later orchestrator may take it over, with what was used of it."""
        known, allowed = self._tasks.get(task), bounded(limits)
        if known is not None:
            later = epoch > known.epoch
            anew = epoch == known.epoch and not known.held and (known.limits, known.accepted) != (allowed, accepted)
            if known.closed or not (later or anew):
                return []
        data = {"limits": allowed, "accepted": accepted, "epoch": epoch, "type": type, "tenant": tenant}
        return self._decide(Change("open", task, data))

    def account(self, task: str) -> tuple[str, str]:
        """A task's type and tenant; of one that is not open nobody knows them any more."""
        known = self._tasks.get(task)
        return (known.type, known.tenant) if known is not None else ("", DEFAULT_TENANT)

    def reserve(self, asked: Reservation, now: int = 0) -> tuple[Grant, list[Change]]:
        """Hold `base` plus as many units as fit; a refusal holds nothing. The first answer stands for a repeated id, until the task
        is fenced. `now` (microseconds) says which windows of the task's scopes it belongs to."""
        task = self._tasks.get(asked.task)
        if task is None or task.closed:
            return Grant(asked.id, 0, Fenced(task=asked.task, why="it is not open")), []
        if task.fenced:
            return Grant(asked.id, 0, Fenced(task=asked.task, why=task.fenced)), []
        known = task.held.get(asked.id)
        if known is not None:
            return Grant(asked.id, known.units), []
        if asked.way is not None and (unbound := self.caps.unbound(*asked.way, asked.base, self.limited(asked.task))) is not None:
            return Grant(asked.id, 0, unbound), []
        try:
            base, unit = exact(asked.base), exact(asked.unit)
        except Refused as error:
            return Grant(asked.id, 0, error), []
        units, refusal = fit(task.limits, task.used, task.reserved, asked, base, unit, max(asked.wanted, asked.least))
        data: dict[str, Any] = {"id": asked.id}
        if refusal is None and (parts := self.scopes.of(task.type, task.tenant)):
            data["in"] = [key_of(part.scope, part.per, now) for part in parts]
            units, refusal = self._fit_all(parts, data["in"], asked, base, unit, units)
        if refusal is not None:
            return Grant(asked.id, 0, refusal), []
        data |= {"units": units, "amounts": worst(base, unit, units)}
        return Grant(asked.id, units), self._decide(Change("reserve", asked.task, data))

    def _fit_all(
        self, parts: Sequence[Part], keys: Sequence[str], asked: Reservation, base: Amounts, unit: Amounts, units: int
    ) -> tuple[int, BudgetExceeded | None]:
        """How many units fit into every scope; the error of the first into which not even the least does. A limit that this effect does not
        use is no reason against it."""
        for part, key in zip(parts, keys, strict=True):
            counter = self.scopes.counters.get(key) or Counter()
            limits = {meter: limit for meter, limit in part.limits.items() if base.get(meter) or unit.get(meter)}
            units, refusal = fit(limits, counter.used, counter.reserved, asked, base, unit, units)
            if refusal is not None:
                return 0, _of_scope(refusal, part)
        return units, None

    def settle(self, id: str, actual: Amounts) -> list[Change]:
        """Charge `actual` and give back what was held; nothing for an id that is settled, or whose task is forgotten."""
        owner = self._owner.get(id)
        if owner is None or self._tasks[owner].held[id].settled:
            return []
        return self._decide(Change("settle", owner, {"id": id, "actual": exact(actual)}))

    def forfeit(self, task: str, id: str) -> tuple[dict[str, Amount], list[Change]]:
        """Whoever held `id` and its continuations (`id/2` and so on) is gone: what is held is used. All that they cost."""
        known = self._tasks.get(task)
        mine = [one for one in known.held if one == id or one.startswith(f"{id}/")] if known is not None else []
        cost: dict[str, Amount] = {}
        changes: list[Change] = []
        for one in mine:
            assert known is not None
            changes += self.settle(one, known.held[one].amounts)
            add(cost, known.held[one].cost)
        return cost, changes

    def close(self, task: str, epoch: int) -> list[Change]:
        """The orchestrator of that epoch needs it no more; nothing where a later one has opened it."""
        known = self._tasks.get(task)
        if known is None or known.closed or known.epoch > epoch:
            return []
        return self._decide(Change("close", task, {}))

    def change(self, task: str, limits: Mapping[str, Any], by: str, why: str) -> list[Change]:
        """An operator's word about a task's limits; none lifts one. Raises `Fenced` where nothing more is granted to it anyhow."""
        known = self._tasks.get(task)
        if known is None or known.closed or known.fenced:
            raise Fenced(task=task, why=known.fenced if known is not None and known.fenced else "it is not open")
        asked = asked_amounts({meter: amount for meter, amount in limits.items() if amount is not None})
        said = {meter: bounded({meter: asked[meter]})[meter] if meter in asked else None for meter in limits}
        return self._decide(Change("change", task, {"limits": said, "by": by, "why": why}))

    def decide(self, changes: Sequence[Change]) -> list[Change]:
        """Take changes into the state; what to journal of them."""
        return [done for change in changes for done in self._decide(change)]

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

    def carry(self, tasks: Sequence[str]) -> list[Change]:
        """What to journal in the same moment in which the rows about these forgotten tasks go: their share of what is used in scopes."""
        return self.scopes.carry([used for task in tasks for used in self._to_carry.pop(task, ())])

    def owing(self) -> list[str]:
        """Tasks that are over and not forgotten: of some effect in a scope nobody has said how it ended."""
        return list(self._owing)

    def limited(self, task: str) -> list[str]:
        """The meters that any limit is on, of the task or of a scope that it is in."""
        known = self._tasks.get(task)
        if known is None:
            return []
        return sorted({*known.limits, *(meter for part in self.scopes.of(known.type, known.tenant) for meter in part.limits)})

    def held(self, task: str, in_vain: bool = True) -> list[str]:
        """Ids of all reservations of a task, settled or not. Those that were settled and cost no more than a step were `in_vain`."""
        known = self._tasks.get(task)
        return [id for id, one in known.held.items() if in_vain or not one.settled or _came_to_something(one)] if known else []

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

    def note(self, kind: str, task: str, at: int) -> None:
        """Remember when a change was made."""
        known = self._tasks.get(task)
        if known is not None and kind == "reserve":
            known.granted = at
        elif known is not None and kind == "settle":
            known.settled = at

    def lasts(self, task: str) -> tuple[int, int]:
        """When something was granted and when an effect ended for the last time; 0: never, or it is not known any more."""
        known = self._tasks.get(task)
        return (known.granted, known.settled) if known else (0, 0)

    def belonging(self, type: str = "", tenant: str = "") -> list[str]:
        """Tasks of that type, or of that tenant, that are open and not fenced."""
        known = self._tasks
        return [task for task in self.granting() if type in ("", known[task].type) and tenant in ("", known[task].tenant)]

    def granting(self) -> list[str]:
        """Tasks that are open and not fenced."""
        return [name for name, task in self._tasks.items() if not task.fenced and not task.closed]

    def grants(self, task: str) -> bool:
        """Whether the task is open and not fenced."""
        known = self._tasks.get(task)
        return known is not None and not known.fenced and not known.closed

    def opened_before(self, epoch: int) -> list[str]:
        """Open tasks, fenced or not, that an earlier orchestrator has opened."""
        return [name for name, task in self._tasks.items() if not task.closed and task.epoch < epoch]

    def knows(self, task: str) -> bool:
        return task in self._tasks

    def by_tenant(self) -> dict[str, int]:
        """How many tasks each tenant has that are open and not fenced, the most first."""
        return dict(collections.Counter(self._tasks[task].tenant for task in self.granting()).most_common())

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
                limits = self._shared(bounded(data["limits"]))
                opened = self._tasks.setdefault(task, _Task(limits, data["accepted"]))
                opened.limits, opened.accepted, opened.epoch = limits, data["accepted"], data.get("epoch", 0)
                # Not there in journals that were written before there was such a thing. One string each for all their tasks.
                opened.type, opened.tenant = intern(data.get("type", "")), intern(data.get("tenant", DEFAULT_TENANT))
            case "change":
                known, said = self._tasks[task], data["limits"]
                raised = parse_amounts({meter: amount for meter, amount in said.items() if amount is not None})
                known.limits = self._shared({meter: amount for meter, amount in known.limits.items() if meter not in said} | raised)
            case "reserve":
                self._hold(task, data["id"], _Held(data["units"], parse_amounts(data["amounts"]), counters=tuple(data.get("in", ()))))
            case "settle":
                self._charge(task, data["id"], parse_amounts(data["actual"]))
            case "close":
                known = self._tasks[task]
                known.closed = True
                self._forget_if_done(task, known)
            case "overrun":
                self.caps.apply(data)
            case "limits" | "limit" | "carried":
                self.scopes.apply(kind, task, data)

    def _shared(self, limits: dict[str, Amount]) -> dict[str, Amount]:
        limits = dict(sorted(limits.items()))
        if len(self._limits) >= _LIMITS_KEPT:
            self._limits.clear()
        return self._limits.setdefault(repr(limits), limits)

    def _decide(self, change: Change) -> list[Change]:
        change = change.sealed()
        self.apply(change.kind, change.task, change.data)
        return [change]

    def _hold(self, name: str, id: str, held: _Held) -> None:
        task = self._tasks[name]
        task.held[id] = held
        self._owner[id] = name
        add(task.reserved, held.amounts)
        if held.counters:
            task.owing += 1
            for key in held.counters:
                add(self.scopes.counter(key).reserved, held.amounts)

    def _charge(self, name: str, id: str, actual: Amounts) -> None:
        task = self._tasks[name]
        held = task.held[id]
        take(task.reserved, held.amounts)
        add(task.used, actual)
        self._look(name, task, actual)
        if held.counters:
            self._charge_scopes(task, held, actual)
        held.settled, held.amounts, held.cost = True, {}, dict(actual)
        if held.counters:
            self._forget_if_done(name, task)

    def _look(self, name: str, task: _Task, actual: Amounts) -> None:
        """Note each limit of which four fifths are used by now and were not before; one that is used up at once has nothing to warn of."""
        for meter, amount in actual.items():
            if (limit := task.limits.get(meter)) and nears(limit, task.used[meter], amount):
                self.neared.append((name, meter, str(task.used[meter]), str(limit)))

    def _charge_scopes(self, task: _Task, held: _Held, actual: Amounts) -> None:
        task.owing -= 1
        task.shared = task.shared or {}
        limits = {(part.scope, part.per): part.limits for part in self.scopes.of(task.type, task.tenant)}
        for key in held.counters:
            counter = self.scopes.counter(key)
            take(counter.reserved, held.amounts)
            add(counter.used, actual)
            add(task.shared.setdefault(key, {}), actual)
            for meter, limit in limits.get(parts_of(key)[:2], {}).items():
                if (amount := actual.get(meter)) and nears(limit, counter.used[meter], amount):
                    self.neared.append((key, meter, str(counter.used[meter]), str(limit)))

    def _forget_if_done(self, name: str, task: _Task) -> None:
        """What it holds in scopes is held until somebody says how that ended: others must not get it meanwhile."""
        if task.closed and task.owing:
            self._owing[name] = None
        elif task.closed and (task.released or not task.fenced):
            del self._tasks[name]
            self._owing.pop(name, None)
            self.forgotten.append(name)
            if task.shared:
                self._to_carry.setdefault(name, []).append(task.shared)
            for id in task.held:
                del self._owner[id]


def _came_to_something(held: _Held) -> bool:
    return any(amount for meter, amount in held.cost.items() if meter != STEPS)


def _of_scope(refusal: BudgetExceeded, part: Part) -> BudgetExceeded:
    """The refusal in words about the scope."""
    per = f" per {part.per}" if part.per else ""
    change = f"`interlock budget {part.scope} {refusal.limit}=...{f' --per {part.per}' if part.per else ''}`"
    wait = f"Submit it again when the next {part.per} has begun (UTC), or" if part.per else "Submit it again after"
    remedy = f"{wait} {'raise' if part.per else 'raising'} it with {change}."
    facts = {name: refusal.facts[name] for name in ("limit", "allowed", "used", "reserved", "asked")}
    return BudgetExceeded(scope=part.scope, whose=f"The limit of {part.scope}{per}", remedy=remedy, **facts)
