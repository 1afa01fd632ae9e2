"""The kill: a ladder of steps, each of which works when everything after it hangs.

Durable (nobody can lose the order) → fenced (nothing more is granted) → told (the engine, again and again until it confirms)
and, at the same time, stopped everywhere (`sweep`) → receipt. An order is carried out to its end by whichever incarnation of
the supervisor lives; a task has one order and one receipt for ever, and a second kill gets the first one's. Orders against a
budget go the same way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import Change, Journal, Order, Row, order_in
from interlock.actors.supervisor.receipt import build
from interlock.actors.supervisor.sweep import Pace, Sweep
from interlock.schemas.errors import StorePaused, SupervisorGone
from interlock.schemas.ports import Clock, Hosts, Orders, Processes
from interlock.schemas.record import Receipt

_LOG = logging.getLogger(__name__)
_LOOK_FOR_ORDERS = 0.25
_TRY, _FIRST_PAUSE, _LAST_PAUSE = 5.0, 0.05, 2.0


@dataclass(slots=True)
class _Progress:
    """How far an order has come. `receipt` is done once the receipt is durable."""

    order: Order
    durable: int
    receipt: "asyncio.Future[Receipt]"
    found: dict[str, dict[str, Any]] = field(default_factory=dict)


class Ladder:
    """Gives and carries out orders. Feed every old row to `apply`, then `run`; orders given before wait for that.

    `acknowledged` collects the tasks whose orders are over; whoever makes use of it empties it.
    """

    def __init__(
        self,
        journal: Journal,
        budgets: SupervisorBudgets,
        orders: Orders,
        hosts: Hosts,
        processes: Processes,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._journal = journal
        self._budgets = budgets
        self._orders = orders
        self._hosts = hosts
        self._processes = processes
        self._clock = clock
        self._pace = pace or Pace()
        self._open: dict[str, _Progress] = {}
        self.acknowledged: list[str] = []
        self._group: asyncio.TaskGroup | None = None

    def apply(self, row: Row) -> None:
        """Take one row of the journal: what an earlier incarnation has done for an order that is still open."""
        match row.kind:
            case "order":
                self._open[row.task] = _progress(row)
            case "holding":
                found = self._open[row.task].found
                found.update({name: {"incarnation": name, "how": ""} for name in row.data["incarnations"] if name not in found})
            case "stopped":
                self._open[row.task].found[row.data["incarnation"]] = row.data
            case "receipt":
                self._open[row.task].receipt.set_result(Receipt(**row.data))
            case "acknowledged":
                self._close(row.task)

    async def kill(self, task: str, by: str, why: str) -> Receipt:
        """Stop a task, whatever hangs; the receipt comes within a minute. Killing twice returns the first one's receipt."""
        self.give(Order.made(task, "kill", by, why, self._clock.now()))
        return await self.receipt(task)

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

    async def receipt(self, task: str) -> Receipt:
        """The receipt of the task's order, once there is one."""
        if task in self._open:
            return await asyncio.shield(self._open[task].receipt)
        row = self._journal.find("receipt", task)
        if row is None:
            raise LookupError(f"no order was given against {task}")
        return Receipt(**row.data)

    async def run(self) -> None:
        """Carry out all orders, those from outside too, until cancelled; raises where the journal fails: then start again."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for progress in self._open.values():
                    self._begin(progress)
                await self._obey_outsiders()
        finally:
            self._group = None
            for task, progress in self._open.items():
                if not progress.receipt.done():
                    progress.receipt.set_exception(SupervisorGone(task=task))
                    # Nobody may be waiting for it.
                    progress.receipt.exception()

    async def _obey_outsiders(self) -> None:
        while self._journal.has_outsiders:
            for row in self._journal.foreign():
                self._take(row)
            await asyncio.sleep(_LOOK_FOR_ORDERS)
        await asyncio.Event().wait()

    def _take(self, row: Row) -> None:
        if row.task in self._open or self._journal.find("receipt", row.task) is not None:
            return
        self._open[row.task] = progress = _progress(row)
        self._begin(progress)

    def _begin(self, progress: _Progress) -> None:
        # In the same step as the order became durable: from here on nothing is granted.
        self._budgets.fence(progress.order)
        if self._group is not None:
            self._group.create_task(self._carry(progress, self._clock.now()), name=f"order against {progress.order.task}")

    async def _carry(self, progress: _Progress, fenced: int) -> None:
        order, began = progress.order, asyncio.get_running_loop().time()
        sweep, verified = self._sweep(progress, self._pace), True
        if not progress.receipt.done():
            await sweep.glance()
        telling = asyncio.create_task(self._insist(lambda: self._tell(order)))
        try:
            if not progress.receipt.done():
                verified = await sweep.run(self._ended(order))
                # An engine that lives settles what it had under way; what it does not is unknown.
                await asyncio.wait([telling], timeout=max(0.0, began + self._pace.grace - asyncio.get_running_loop().time()))
                self._hand_over(progress, fenced, verified)
            late = not telling.done()
            await telling
        finally:
            telling.cancel()
        receipt = progress.receipt.result()
        await self._insist(lambda: self._confirm(receipt))
        if late or not verified:
            # Until it heard of the order, the engine may have handed the task to somebody once more; who was not to be seen may be yet.
            await self._sweep(progress, replace(self._pace, silence=self._pace.bound)).run(self._ended(order))
        self._journal.append(Change("acknowledged", order.task, {}))
        self._close(order.task)

    def _close(self, task: str) -> None:
        del self._open[task]
        self.acknowledged.append(task)

    def carries(self, task: str) -> bool:
        """Whether an order against the task is still being carried out."""
        return task in self._open

    def _hand_over(self, progress: _Progress, fenced: int, verified: bool) -> None:
        """The receipt: durable, then given to whoever waits for it."""
        task = progress.order.task
        effects = sorted({id.partition("#")[0] for id in self._budgets.under_way(task)})
        receipt = build(progress.order, progress.durable, fenced, [dict(entry) for entry in progress.found.values()], effects, verified)
        self._journal.append(Change("receipt", task, asdict(receipt)))
        self._budgets.release(task)
        progress.receipt.set_result(receipt)

    def _sweep(self, progress: _Progress, pace: Pace) -> Sweep:
        task = progress.order.task

        def note(kind: str, data: dict[str, Any]) -> None:
            self._journal.append(Change(kind, task, data))

        sweep = Sweep(progress.order, self._orders, self._hosts, self._processes, self._clock, note, pace)
        sweep.resume(progress.found)
        return sweep

    def _ended(self, order: Order) -> Callable[[str], None]:
        """Who is told of each incarnation that the sweep had to end."""

        def ended(incarnation: str) -> None:
            assert self._group is not None
            self._group.create_task(self._insist(lambda: self._lose(incarnation, f"ended to stop {order.task}")))

        return ended

    async def _tell(self, order: Order) -> bool:
        return await self._orders.order(order.id, order.task, order.what, order.by, order.why)

    async def _confirm(self, receipt: Receipt) -> bool:
        await self._orders.receipt(receipt)
        return True

    async def _lose(self, incarnation: str, why: str) -> bool:
        await self._hosts.lost(incarnation, why)
        return True

    async def _insist(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        """Try until it succeeds, more slowly each time; whoever hangs or fails holds up nobody else."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(_TRY):
                    if await attempt():
                        return
            except Exception:  # noqa: BLE001 - logged, and tried again
                _LOG.warning("an order is not confirmed yet; trying again in %g s", pause, exc_info=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)


def _progress(row: Row) -> _Progress:
    return _Progress(order_in(row), row.at, asyncio.get_running_loop().create_future())
