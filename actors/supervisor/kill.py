"""The kill: a ladder of steps, each of which works when everything after it hangs.

Durable (nobody can lose the order) → fenced (nothing more is granted) → told (the engine, again and again until it confirms)
and, at the same time, stopped everywhere (`sweep`) → receipt. An order is carried out to its end by whichever incarnation of
the supervisor lives; a task has one order and one receipt for ever, and a second kill gets the first one's. Orders against a
budget go the same way. A stop gives an order to every task that it names, and carries them out together; what it names is `Stops`'s.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.case import Case
from interlock.actors.supervisor.journal import Change, Journal, Order, Row, order_in
from interlock.actors.supervisor.receipt import build, part
from interlock.actors.supervisor.stops import Stops
from interlock.actors.supervisor.sweep import Eviction, Pace, Sweep
from interlock.schemas.errors import StorePaused, SupervisorGone
from interlock.schemas.ports import Clock, Hosts, Left, Orders, Processes, TaskOrder
from interlock.schemas.record import Receipt
from interlock.schemas.stops import RESUME, Selection

_LOG = logging.getLogger(__name__)
_LOOK_FOR_ORDERS = 0.25
_TRY, _FIRST_PAUSE, _LAST_PAUSE = 5.0, 0.05, 2.0
_AT_ONCE = 100
"""So many tasks the engine is told of in one call, which it answers in far less than a second."""

T = TypeVar("T")


class Ladder:
    """Gives and carries out orders. Feed every old row to `apply`, then `fence`, then `run`; orders given before wait for that.

    `acknowledged` collects the orders that are over, by what they are about; whoever makes use of it empties it.
    """

    def __init__(
        self,
        journal: Journal,
        budgets: SupervisorBudgets,
        stops: Stops,
        orders: Orders,
        hosts: Hosts,
        processes: Processes,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._journal = journal
        self._budgets = budgets
        self._stops = stops
        self._orders = orders
        self._hosts = hosts
        self._processes = processes
        self._clock = clock
        self._pace = pace or Pace()
        self._open: dict[str, Case] = {}
        self._of_task: dict[str, Case] = {}
        self.acknowledged: list[str] = []
        self._group: asyncio.TaskGroup | None = None

    def apply(self, row: Row) -> None:
        """Take one row of the journal: what an earlier incarnation has done for an order that is still open."""
        match row.kind:
            case "order":
                self._enter(order_in(row), row)
            case "selected":
                case = self._open[row.task]
                case.selected, case.members = True, row.data["members"]
            case "dated":
                case = self._open[row.task]
                case.order = case.order._replace(requested=row.data["requested"])
                self._stops.take(case.order)
            case "holding":
                found = self._open[row.task].found
                found.update({name: {"incarnation": name, "how": ""} for name in row.data["incarnations"] if name not in found})
            case "stopped":
                self._open[row.task].found[row.data["incarnation"]] = row.data
            case "receipt" if row.task in self._open:
                self._open[row.task].receipt.set_result(Receipt(**row.data))
            case "acknowledged":
                self._close(row.task)

    def fence(self) -> None:
        """After the old rows and before anybody is served: nothing is granted that an open order is about. What a stop names that was
        written while no supervisor lived, or whose supervisor died right after, is settled here."""
        for case in self._open.values():
            self._fence(case)

    def _enter(self, order: Order, row: Row) -> Case:
        if order.stop in self._open:
            case = self._open[order.stop]
        else:
            case = self._open[order.task] = Case(order, row.at, asyncio.get_running_loop().create_future())
            self._stops.take(order)
        if order.as_stop is None:
            case.orders.append(order)
            self._of_task[order.task] = case
        return case

    async def kill(self, task: str, by: str, why: str, undo: bool = True) -> Receipt:
        """Stop a task, whatever hangs; the receipt comes within a minute. Killing twice returns the first one's receipt: a call that is
        made again, by whomever, stops nothing that the first one began, and undoing is killed by its own name."""
        self.give(Order.made(task, "kill", by, why, self._clock.now(), undo))
        return await self.receipt(task)

    async def stop(self, id: str, what: str, selection: Selection, by: str, why: str, undo: bool = True) -> Receipt:
        """Carry out a stop or a resume under its client's id; the same id again is the same one. Raises `UnknownReplica`."""
        if self._journal.find("order", id) is None:
            self._stops.check(what, selection)
        requested = max(self._clock.now(), self._budgets.closures.latest + 1)
        self.give(Order.of_selection(id, what, selection, by, why, requested, undo))
        return await self.receipt(id)

    def out_of_time(self, task: str, why: str) -> None:
        """The wall clock has used up the task's seconds."""
        try:
            self.give(Order(task, "budget", "supervisor", why, self._clock.now()))
        except StorePaused as pause:  # this incarnation is over; the next one looks at the clock first of all
            _LOG.warning("%s is out of time and cannot be stopped yet: %s", task, pause)

    def give(self, order: Order) -> Order:
        """Make an order durable, fence its task and begin to carry it out. Returns the order that stands: the task's first."""
        if order.task not in self._open and self._journal.find("order", order.task) is None:
            self._journal.append(order.change())
        row = self._journal.find("order", order.task)
        assert row is not None
        self._take(row)
        return order_in(row)

    async def receipt(self, about: str) -> Receipt:
        """The receipt of the order against a task, or of a stop, once there is one."""
        case = self._of_task.get(about) or self._open.get(about)
        if case is not None:
            whole = await asyncio.shield(case.receipt)
            if case.order.task == about:
                return whole
        row = self._journal.find("receipt", about)
        if row is None:
            raise LookupError(f"no order was given against {about}")
        return Receipt(**row.data)

    async def run(self) -> None:
        """Carry out all orders, those from outside too, until cancelled; raises where the journal fails: then start again."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for case in list(self._open.values()):
                    self._begin(case)
                await self._obey_outsiders()
        finally:
            self._group = None
            for about, case in self._open.items():
                if not case.receipt.done():
                    case.receipt.set_exception(SupervisorGone(task=about))
                    # Nobody may be waiting for it.
                    case.receipt.exception()

    async def _obey_outsiders(self) -> None:
        while self._journal.has_outsiders:
            for row in self._journal.foreign():
                self._take(row)
            await asyncio.sleep(_LOOK_FOR_ORDERS)
        await asyncio.Event().wait()

    def _take(self, row: Row) -> None:
        known = row.task in self._open or row.task in self._of_task
        if known or self._journal.find("receipt", row.task) is not None:
            return
        self._begin(self._enter(order_in(row), row))

    def _begin(self, case: Case) -> None:
        # In the same step as the order became durable: from here on nothing is granted.
        self._fence(case)
        if self._group is not None:
            carry = self._open_again(case) if case.order.what == RESUME else self._carry(case, self._clock.now())
            self._group.create_task(carry, name=f"order against {case.name}")

    def _fence(self, case: Case) -> None:
        if case.stop is not None and not case.selected:
            self._select(case)
        for order in case.orders:
            self._budgets.fence(order)
        self._stops.hold()

    def _select(self, case: Case) -> None:
        """What a stop names at this moment: from here on no more of it comes in."""
        given_at, case.order = case.order.requested, self._stops.dated(case.order)
        dated = [Change("dated", case.order.task, {"requested": case.order.requested})] if case.order.requested != given_at else []
        tasks, case.members = self._stops.select(case.order)
        given = [order for task in tasks if (order := case.order_against(task)) is not None and task not in self._of_task]
        marker = Change("selected", case.order.task, {"tasks": len(given), "members": case.members})
        self._journal.append(*[order.change() for order in given], *dated, marker)
        case.selected = True
        for order in given:
            case.orders.append(order)
            self._of_task[order.task] = case

    async def _open_again(self, case: Case) -> None:
        await self._tell(case)
        if not case.receipt.done():
            self._hand_over(case, self._clock.now(), verified=True)
        self._acknowledge(case)

    async def _carry(self, case: Case, fenced: int) -> None:
        began = asyncio.get_running_loop().time()
        sweep, verified = self._sweep(case, self._pace), True
        if not case.receipt.done():
            await sweep.glance()
        telling, late = asyncio.create_task(self._tell(case)), True
        try:
            if not case.receipt.done():
                verified = await sweep.run(self._ended(case))
                late = await self._hear(case, telling, began)
                self._hand_over(case, fenced, verified)
            await telling
        finally:
            telling.cancel()
        receipts = self._receipts(case)
        for start in range(0, len(receipts), _AT_ONCE):
            await self._insist(partial(self._confirm, receipts[start : start + _AT_ONCE]))
        if late or not verified:
            # Until it heard of the order, the engine may have handed the task to somebody once more; who was not to be seen may be yet.
            await self._sweep(case, replace(self._pace, silence=self._pace.bound)).run(self._ended(case))
        self._acknowledge(case)

    async def _hear(self, case: Case, telling: "asyncio.Task[None]", began: float) -> bool:
        """An engine that lives settles what it had under way, and says so of some tasks after the others; what it does not is unknown.
        Whether it is late."""
        loop, heard = asyncio.get_running_loop(), 0
        await asyncio.wait([telling], timeout=max(0.0, began + self._pace.grace - loop.time()))
        late = not telling.done()
        while not telling.done() and len(case.heard) > heard and (left := began + self._pace.bound - loop.time()) > 0:
            heard = len(case.heard)
            await asyncio.wait([telling], timeout=min(self._pace.grace, left))
        return late

    def _acknowledge(self, case: Case) -> None:
        self._journal.append(Change("acknowledged", case.order.task, {}))
        self._close(case.order.task)

    def _close(self, about: str) -> None:
        case = self._open.pop(about)
        for order in case.orders:
            del self._of_task[order.task]
        self.acknowledged.append(about)

    def carries(self, about: str) -> bool:
        """Whether an order against the task, or the stop, is still being carried out."""
        return about in self._open

    def under_way(self) -> list[str]:
        """What is being carried out now."""
        return [case.name for case in self._open.values()]

    def _hand_over(self, case: Case, fenced: int, verified: bool) -> None:
        """The receipt: durable, then given to whoever waits for it."""
        parts = {order.task: self._part(case, order, fenced, verified) for order in case.orders}
        whole = build(case, fenced, list(parts.values()), verified)
        changes = [Change("receipt", task, asdict(receipt)) for task, receipt in parts.items() if task != case.order.task]
        self._journal.append(*changes, Change("receipt", case.order.task, asdict(whole)))
        for task in parts:
            self._budgets.release(task)
        case.receipt.set_result(whole)

    def _part(self, case: Case, order: Order, fenced: int, verified: bool) -> Receipt:
        effects = sorted({id.partition("#")[0] for id in self._budgets.under_way(order.task)})
        granted, settled = self._budgets.meters.lasts(order.task)
        return part(case, order, fenced, granted, settled, effects, verified)

    def _receipts(self, case: Case) -> list[Receipt]:
        """All that the engine copies: that of the whole, and of a stop those of its tasks."""
        rows = self._journal.firsts("receipt", [order.task for order in case.orders if order.task != case.order.task])
        return [*(Receipt(**row.data) for row in rows.values()), case.receipt.result()]

    def _sweep(self, case: Case, pace: Pace) -> Sweep | Eviction:
        def note(kind: str, data: dict[str, Any]) -> None:
            self._journal.append(Change(kind, case.order.task, data))

        sweep: Sweep | Eviction
        if case.members is not None:
            grace = 0.0 if case.order.scope == "replica" else pace.grace
            sweep = Eviction(case.name, case.members, self._processes, self._clock, note, pace, grace)
        else:
            sweep = Sweep(case.name, case.tasks, self._orders, self._hosts, self._processes, self._clock, note, pace)
        sweep.resume(case.found)
        return sweep

    def _ended(self, case: Case) -> Callable[[str], None]:
        """Who is told of each incarnation that had to be ended."""

        def ended(incarnation: str) -> None:
            assert self._group is not None
            self._group.create_task(self._insist(lambda: self._lose(incarnation, f"ended to stop {case.name}")))

        return ended

    async def _tell(self, case: Case) -> None:
        """Tell the engine of all orders, until it has confirmed each: some at a time, so that it does so however many they are."""
        told = [TaskOrder(order.id, order.task, order.what, order.by, order.why, order.undo) for order in case.orders]
        for start in range(0, max(len(told), 1), _AT_ONCE):
            some = told[start : start + _AT_ONCE]
            left = await self._insist(partial(self._tell_some, case, some))
            case.left.half_done.extend(left.half_done)
            case.left.undos.extend(left.undos)
            case.heard.update(order.task for order in some)

    async def _tell_some(self, case: Case, told: Sequence[TaskOrder]) -> Left:
        if case.stop is not None:
            return await self._orders.stop_all(case.stop, told)
        return await self._orders.order(told)

    async def _confirm(self, receipts: list[Receipt]) -> None:
        await self._orders.receipts(receipts)

    async def _lose(self, incarnation: str, why: str) -> None:
        await self._hosts.lost(incarnation, why)

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it succeeds, more slowly each time; whoever hangs or fails holds up nobody else."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(_TRY):
                    return await attempt()
            except Exception:  # noqa: BLE001 - logged, and tried again
                _LOG.warning("an order is not confirmed yet; trying again in %g s", pause, exc_info=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)
