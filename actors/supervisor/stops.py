"""Stops: what an order names that is about more than one task, at the moment when it is given; and pools that are held.

What a stop names gets nothing new until it is opened: of tasks no budget is opened (`SupervisorBudgets`), an agent has no replicas and the
engine sends it nothing. A replica is only ended: its pool makes another one, and its work goes there.
"""

from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import Order
from interlock.actors.supervisor.pools import Pools
from interlock.schemas.errors import BadDeclaration, UnknownReplica
from interlock.schemas.stops import RESUME, SCOPES, STOP, Selection


class Stops:
    """Knows what is closed, and finds what a stop names."""

    def __init__(self, budgets: SupervisorBudgets, pools: Pools) -> None:
        self._budgets, self._pools = budgets, pools

    def check(self, what: str, selection: Selection) -> None:
        """Raises `UnknownReplica` or `BadDeclaration` for what nobody can stop or open."""
        if selection.scope not in SCOPES or (what == RESUME and selection.scope == "replica"):
            remedy = f"Use one of {', '.join(SCOPES)}; a replica is replaced at once, so there is nothing to open."
            raise BadDeclaration(what=f"{what} of {selection}", problem="that cannot be done", remedy=remedy)
        known = self._pools.incarnations()
        if selection.scope == "replica" and selection.name not in known:
            raise UnknownReplica(replica=selection.name, known=", ".join(sorted(known)) or "none")

    def take(self, order: Order) -> None:
        """Hear of an order; one against a task closes nothing."""
        if (stop := order.as_stop) is not None:
            self._budgets.closures.take(stop)

    def dated(self, order: Order) -> Order:
        """A stop that is carried out closes what it names, also where the clock of who wrote it was behind: it counts as the last one.
        A resume is left as it is, for it could open what somebody stopped after it."""
        closures = self._budgets.closures
        if order.what != STOP or order.requested >= closures.latest:
            return order
        order = order._replace(requested=closures.latest + 1)
        self.take(order)
        return order

    def hold(self) -> None:
        """Let agents that are stopped have no replicas, and give back theirs to those that are not any more."""
        self._pools.hold(self._budgets.closures.agents())

    def select(self, order: Order) -> tuple[list[str], list[str] | None]:
        """The tasks that live and that it names; or the processes, where it is about those."""
        if order.what == RESUME:
            return [], None
        meters = self._budgets.meters
        match order.scope:
            case "everything":
                return meters.granting(), None
            case "type":
                return meters.belonging(type=order.name), None
            case "tenant":
                return meters.belonging(tenant=order.name), None
            case "replica":
                return [], [order.name]
        return [], self._pools.everybody(order.name)
