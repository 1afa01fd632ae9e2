"""A case: what is carried out together, with how far it has come. One order against a task, or a stop with the orders that it gives."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from interlock.actors.supervisor.journal import Order
from interlock.schemas.ports import Left
from interlock.schemas.record import Receipt
from interlock.schemas.stops import StopOrder


@dataclass(slots=True)
class Case:
    """`order` is the task's, or the stop itself; `orders` are those against tasks. `members`: the processes that a stop of an agent or a
    replica ends; none where it is about tasks. `selected`: it is settled what the stop names. `left` is what the
    engine has said of those tasks that are `heard`. `receipt` is done once it is durable."""

    order: Order
    durable: int
    receipt: "asyncio.Future[Receipt]"
    orders: list[Order] = field(default_factory=list)
    members: list[str] | None = None
    selected: bool = False
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: Left = field(default_factory=lambda: Left([], []))
    heard: set[str] = field(default_factory=set)

    @property
    def stop(self) -> StopOrder | None:
        return self.order.as_stop

    @property
    def tasks(self) -> list[str]:
        return [order.task for order in self.orders]

    @property
    def name(self) -> str:
        """What is stopped, in words."""
        return str(self.stop.selection) if self.stop is not None else self.order.task

    def order_against(self, task: str) -> Order:
        """The order that this stop gives to one of the tasks that it names."""
        stop = self.order
        return Order(task, "kill", stop.by, f"{stop.why} ({self.name} was stopped)", stop.requested, stop=stop.task, undo=stop.undo)
