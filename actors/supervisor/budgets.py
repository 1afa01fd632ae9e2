"""Budgets as everyone sees them: meters that are durable, and the wall clock.

A grant is in the journal before anyone hears of it, and whoever no longer owns the journal answers nothing. `seconds` is no meter that
effects are held against: it runs by itself from a task's acceptance, also while the supervisor is dead, and ends in an order of its own.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from interlock.actors.supervisor.journal import Change, Journal, Order, Row, can_be_kept, order_in
from interlock.actors.supervisor.meters import Meters
from interlock.actors.supervisor.rates import Rates
from interlock.schemas.alarms import Alarms
from interlock.schemas.budget import SECONDS, Amount, Amounts
from interlock.schemas.errors import Fenced, Refused
from interlock.schemas.ids import DEFAULT_TENANT
from interlock.schemas.limits import asked_limits
from interlock.schemas.ports import Clock, Grant, Reservation
from interlock.schemas.stops import Closures
from interlock.schemas.undo import is_undoing
from interlock.schemas.words import clean, told

_MICRO = 1_000_000
# A timer may fire a hair early against the wall clock; it then waits again, at least this long.
_LEAST_WAIT = 0.001
# Each becomes an order at once, with a commit of its own; in between others are heard.
_AT_ONCE = 10


class SupervisorBudgets:
    """`Budgets` over a journal. `out_of_time(task, why)` is called once when a task's seconds have run out.

    Feed every old row to `apply`, then `start`; until then nothing is reserved.
    """

    def __init__(self, journal: Journal, clock: Clock, out_of_time: Callable[[str, str], None]) -> None:
        self._journal = journal
        self._clock = clock
        self._out_of_time = out_of_time
        self.meters = Meters()
        self.rates = Rates()
        self.nearing = asyncio.Event()
        self._calls = self._make_calls()
        self.closures = Closures()
        self._ends = Alarms()
        self._timer: asyncio.TimerHandle | None = None  # for the first of them

    def apply(self, row: Row) -> None:
        """Take one row of the journal into the state, as it was when the row was written."""
        if row.kind == "order":
            self.fence(order_in(row))
        elif row.kind == "receipt":
            self.meters.release(row.task)
        else:
            self.meters.apply(row.kind, row.task, row.data)
            self.meters.note(row.kind, row.task, row.at)

    def start(self) -> None:
        """Set the clock of every open task; what ran out meanwhile ends at once."""
        for task in self.meters.granting():
            self._watch(task)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._ends = Alarms()

    async def open(self, task: str, limits: Amounts, accepted: int, epoch: int = 0, type: str = "", tenant: str = DEFAULT_TENANT) -> None:
        await self._alone("open", task, limits, accepted, epoch, type, tenant)

    async def reserve(self, reservations: Sequence[Reservation]) -> list[Grant]:
        grants: list[Grant] = await self._alone("reserve", reservations)
        return grants

    async def settle(self, id: str, actual: Amounts) -> None:
        await self._alone("settle", id, actual)

    async def forfeit(self, task: str, id: str) -> dict[str, Amount]:
        cost: dict[str, Amount] = await self._alone("forfeit", task, id)
        return cost

    async def close(self, tasks: list[str], epoch: int) -> None:
        await self._alone("close", tasks, epoch)

    async def overran(self, endpoint: str, model: str, answered: int, allowed: int) -> None:
        await self._alone("overran", endpoint, model, answered, allowed)

    async def turn(self, lane: str, id: str, task: str, tokens: int, limits: tuple[int | None, int | None]) -> float:
        wait: float = await self._alone("turn", lane, id, task, tokens, limits)
        return wait

    async def came_to(self, lane: str, id: str, tokens: int) -> None:
        await self._alone("came_to", lane, id, tokens)

    async def leave(self, lane: str, id: str) -> None:
        await self._alone("leave", lane, id)

    async def shut(self, lane: str, seconds: float) -> None:
        await self._alone("shut", lane, seconds)

    async def called_at(self, task: str, call: str) -> list[str]:
        gateways: list[str] = await self._alone("called_at", task, call)
        return gateways

    async def calls_of(self, task: str) -> list[str]:
        calls: list[str] = await self._alone("calls_of", task)
        return calls

    async def close_forgotten(self, epoch: int, kept: Sequence[str]) -> list[str]:
        calling: list[str] = await self._alone("close_forgotten", epoch, kept)
        return calling

    async def used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        used: dict[str, tuple[Amount, Amount, Amount | None]] = await self._alone("used", task)
        return used

    async def limited(self, task: str) -> list[str]:
        meters: list[str] = await self._alone("limited", task)
        return meters

    async def declare(self, limits: Sequence[Sequence[Any]]) -> None:
        await self._alone("declare", limits)

    async def limit(self, scope: str, per: str, limits: Mapping[str, Amount | None], by: str, why: str) -> None:
        await self._alone("limit", scope, per, limits, by, why)

    async def change(self, task: str, limits: Mapping[str, Amount | None], by: str, why: str) -> None:
        await self._alone("change", task, limits, by, why)

    async def scopes(self) -> list[dict[str, Any]]:
        scopes: list[dict[str, Any]] = await self._alone("scopes")
        return scopes

    async def together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Calls by their names, decided one after another and durable together: per call its result, or the error it would raise."""
        orders = self._journal.firsts("order", [call[1] for call in calls if call[0] == "open"])
        done: list[Any] = []
        for call in calls:
            try:
                done.append(self._decide(orders, *call))
            except Exception as error:  # noqa: BLE001 - one call's fault is its caller's, not that of all in the batch
                done.append(error)
        await self._journal.durable()
        if self.meters.neared:
            self.nearing.set()
        return done

    async def _alone(self, *call: Any) -> Any:
        (done,) = await self.together([call])
        if isinstance(done, Exception):
            raise done
        return done

    def _decide(self, orders: Mapping[str, Row], name: str, *args: Any) -> Any:
        """Carry out one call in memory, and stage what has to be durable before anyone hears of it."""
        if name == "open":
            return self._open(orders.get(args[0]) if can_be_kept(args[0]) else None, *args)
        if name not in self._calls:
            raise LookupError(f"budgets have no {name}")
        return self._calls[name](*args)

    def _make_calls(self) -> dict[str, Callable[..., Any]]:
        return {
            "close": self._close,
            "reserve": lambda reservations: [self._grant(reservation) for reservation in reservations],
            "settle": lambda *args: self._stage(self.meters.settle(*args)),
            "forfeit": self._forfeit,
            "overran": self._overran,
            "turn": self._turn,
            "came_to": lambda lane, id, tokens: self.rates.came_to(lane, id, tokens),
            "leave": lambda lane, id: self.rates.leave(lane, id),
            "shut": lambda lane, seconds: self.rates.shut(lane, seconds, _now()),
            "called_at": self._called_at,
            "calls_of": self._calls_of,
            "close_forgotten": self._close_forgotten,
            "used": self._used,
            "limited": self.meters.limited,
            "declare": lambda limits: self._journal.stage(*self.meters.decide(self.meters.scopes.declared(limits))),
            "limit": self._limit,
            "change": self._change,
            "scopes": lambda: self.meters.scopes.shown(self._clock.now()),
        }

    def _open(
        self, order: Row | None, task: str, limits: Amounts, accepted: int, epoch: int = 0, type: str = "", tenant: str = DEFAULT_TENANT
    ) -> None:
        if order is not None:
            raise Fenced(task=task, why=_why(order_in(order)))
        if not can_be_kept(task):
            raise Refused(detail=f"A task cannot be called {clean(repr(task), 100)}; nothing was opened.")
        if not self.meters.knows(task) and not is_undoing(task):
            self.closures.check_task(type, tenant)
        changes = self.meters.open(task, limits, accepted, epoch, type, tenant)
        self._journal.stage(*changes)
        if changes:
            self._unwatch(task)  # its seconds may count from another moment now
            self._watch(task)

    def _close(self, tasks: Sequence[str], epoch: int) -> None:
        for task in tasks:
            if changes := self.meters.close(task, epoch):
                self._unwatch(task)
                self._journal.stage(*changes)

    def _limit(self, scope: str, per: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        self._journal.stage(*self.meters.decide(self.meters.scopes.ordered(scope, per, asked_limits(scope, per, limits), by, why)))

    def _change(self, task: str, limits: Mapping[str, Any], by: str, why: str) -> None:
        """An operator's word about one task. Its clock is set anew, and what is over by it ends at once."""
        self._journal.stage(*self.meters.change(task, limits, by, why))
        self._unwatch(task)
        self._watch(task)

    def _overran(self, endpoint: str, model: str, answered: int, allowed: int) -> None:
        self._journal.stage(*self.meters.decide(self.meters.caps.overran(endpoint, model, answered, allowed)))

    def _turn(self, lane: str, id: str, task: str, tokens: int, limits: tuple[int | None, int | None]) -> float:
        return self.rates.turn(lane, id, task, self.meters.account(task), tokens, limits, _now())

    def _called_at(self, task: str, call: str) -> list[str]:
        held = (id.partition("@") for id in self.meters.held(task))
        return list(dict.fromkeys(place.partition("/")[0] for name, _, place in held if name == call and place))

    def _calls_of(self, task: str) -> list[str]:
        held = (id.partition("@") for id in self.meters.held(task, in_vain=False))
        return list(dict.fromkeys(f"{name}@{place.partition('/')[0]}" for name, _, place in held if place))

    def _close_forgotten(self, epoch: int, kept: Sequence[str]) -> list[str]:
        known = frozenset(kept)
        forgotten = [task for task in self.meters.opened_before(epoch) if task not in known]
        calling = [task for task in forgotten if self._calls_of(task)]
        self._close([task for task in forgotten if task not in calling], epoch)
        return calling

    def _grant(self, reservation: Reservation) -> Grant:
        """There is an answer also for one that nobody can count: who hears none would not know what the others of his call hold."""
        try:
            return self._reserve(reservation)
        except (TypeError, ValueError, ArithmeticError) as error:
            return Grant(reservation.id, 0, Refused(detail=f"This cannot be reserved ({told(error)}); nothing is held for it."))

    def _reserve(self, reservation: Reservation) -> Grant:
        grant, changes = self.meters.reserve(reservation, self._clock.now())
        self._stage(changes)
        return grant

    def _forfeit(self, task: str, id: str) -> dict[str, Amount]:
        cost, changes = self.meters.forfeit(task, id)
        self._stage(changes)
        return cost

    def _stage(self, changes: Sequence[Change]) -> None:
        self._journal.stage(*changes)
        for change in changes:
            self.meters.note(change.kind, change.task, self._clock.now())

    def _used(self, task: str) -> dict[str, tuple[Amount, Amount, Amount | None]]:
        used = self.meters.used(task)
        if SECONDS in used:
            accepted, limit = self.meters.accepted(task), used[SECONDS][2]
            used[SECONDS] = (Decimal(self._clock.now() - accepted) / _MICRO, Decimal(0), limit)
        return used

    def fence(self, order: Order) -> None:
        """Grant the order's task nothing more, from this moment on."""
        self._unwatch(order.task)
        self.meters.fence(order.task, _why(order))

    def under_way(self, task: str) -> list[str]:
        return self.meters.under_way(task)

    def release(self, task: str) -> None:
        """The order against the task is carried out; its meters may go."""
        self.meters.release(task)

    def _watch(self, task: str) -> None:
        seconds = self.meters.limit(task, SECONDS)
        if seconds is not None and task not in self._ends:
            accepted, now = self.meters.accepted(task), self._clock.now()
            near, ends = accepted + int(seconds * _MICRO * 4 / 5), accepted + int(seconds * _MICRO)
            if near <= now < ends:
                self.meters.neared.append((task, SECONDS, str(Decimal(now - accepted) / _MICRO), str(seconds)))
                self.nearing.set()
            moment = near if now < near else ends
            self._ends.set(task, moment)
            if self._ends.first() == moment:
                self._arm()

    def _unwatch(self, task: str) -> None:
        self._ends.drop(task)

    def _arm(self) -> None:
        """One timer for all, until the first of them has used up its seconds, or four fifths of them."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._ends.first():
            pause = self._ends.pause(self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(max(pause, _LEAST_WAIT) if pause else 0.0, self._ring)

    def _ring(self) -> None:
        loop, now = asyncio.get_running_loop(), self._clock.now()
        for task in self._ends.due(now, _AT_ONCE):
            self._ends.drop(task)
            limit = self.meters.limit(task, SECONDS)
            if limit is not None and now < self.meters.accepted(task) + int(limit * _MICRO):
                self._watch(task)  # it is near its end, and not there
            else:
                loop.call_soon(self._out_of_time, task, f"its limit on seconds is reached: {limit} allowed")
        self._arm()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _why(order: Order) -> str:
    return f"{order.what} by {order.by}: {order.why}"
