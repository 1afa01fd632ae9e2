"""Stops: what an order names that is about more than one task, and what is closed by it until somebody opens it again.

The supervisor and the orchestrator fold the same orders into the same `Closures`. What is closed depends on when orders were given and
not on when they are heard of, so a stop that comes late does not close what was opened meanwhile.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

from interlock.schemas.errors import Closed
from interlock.schemas.times import rfc3339

Scope = Literal["everything", "agent", "replica", "type", "tenant"]
SCOPES: tuple[str, ...] = get_args(Scope)

STOP, RESUME = "stop", "resume"

_WORDS = {"type": "task type"}


class Selection(NamedTuple):
    """`everything`; or the agent, replica, task type or tenant called `name`."""

    scope: str
    name: str = ""

    def __str__(self) -> str:
        return f"{_WORDS.get(self.scope, self.scope)} {self.name}".strip()

    @property
    def option(self) -> str:
        """How the command line names it; nothing where it is everything."""
        return f" --{self.scope} {self.name}" if self.name else ""


class StopOrder(NamedTuple):
    """Stop what a selection names, or open it again: `what` is `stop` or `resume`; `requested` in microseconds since the epoch. A replica
    is replaced, so there is nothing to open. `undo`: what the tasks did that it ends shall be undone."""

    id: str
    what: str
    scope: str
    name: str
    by: str
    why: str
    requested: int
    undo: bool = True

    @property
    def selection(self) -> Selection:
        return Selection(self.scope, self.name)


class Closures:
    """What is closed."""

    def __init__(self) -> None:
        self._stops: dict[Selection, dict[str, StopOrder]] = {}
        self._opened: dict[Selection, int] = {}
        self.latest = 0
        """When the last of these orders was given."""

    def take(self, order: StopOrder) -> None:
        """Hear of an order, in any order and perhaps again. Who stops what is stopped already changes nothing; opening everything opens
        each selection."""
        self.latest = max(self.latest, order.requested)
        if order.what == RESUME:
            self._opened[order.selection] = max(self._opened.get(order.selection, 0), order.requested)
        elif order.scope != "replica":
            self._stops.setdefault(order.selection, {})[order.id] = order

    def __iter__(self) -> Iterator[StopOrder]:
        """The stops that stand, the oldest first."""
        standing = [stop for selection in self._stops if (stop := self._closed(selection)) is not None]
        return iter(sorted(standing, key=lambda stop: stop.requested))

    def check_task(self, task_type: str, tenant: str) -> None:
        """Raises `Closed` where no such task may come in."""
        self._check(Selection("everything"), Selection("type", task_type), Selection("tenant", tenant))

    def check_agent(self, agent: str) -> None:
        """Raises `Closed` where this agent gets nothing."""
        self._check(Selection("agent", agent))

    def agents(self) -> list[str]:
        """Those that get nothing."""
        return [stop.name for stop in self if stop.scope == "agent"]

    def _check(self, *selections: Selection) -> None:
        if not self._stops:
            return
        for selection in selections:
            if (stop := self._closed(selection)) is not None:
                raise closed_by(stop)

    def _closed(self, selection: Selection) -> StopOrder | None:
        """The first stop of it that nobody has opened since."""
        opened = self._opened_at(selection)
        stops = (stop for stop in self._stops.get(selection, {}).values() if stop.requested > opened)
        return min(stops, key=lambda stop: stop.requested, default=None)

    def _opened_at(self, selection: Selection) -> int:
        return max(self._opened.get(selection, 0), self._opened.get(Selection("everything"), 0))


def closed_by(stop: StopOrder) -> Closed:
    """What whoever comes meanwhile hears."""
    what, option = str(stop.selection), stop.selection.option
    return Closed(what=what, since=rfc3339(stop.requested), by=stop.by, why=stop.why, option=option)
