"""Bounds: how much is let in before a submit is refused, and after how long it may come again.

Two things are bounded: the live tasks of the bus that are not parked, and the messages that wait for an agent. A crowd of one tenant keeps
no other out: where the tasks are too many, whoever has less than his share of the bound is let in all the same, up to twice the bound;
where an agent's queue is too long, only task types and tenants are refused that have something waiting there. What was accepted is never
refused any more, so a queue may grow over its bound by what the tasks that are live ask for.
"""

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING

from interlock.schemas.errors import Overloaded

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

OPEN_AT_MOST = 1_000_000
"""Tasks that are live, those that are parked as well: each takes about four kilobytes in all actors together."""

RETRY_AT_LEAST, RETRY_AT_MOST = 1, 60
"""Seconds that somebody may be told to wait."""

COUNT_SECONDS = 1.0
"""How often the tasks of each tenant are counted, where there are too many."""

_MEMORY_SECONDS = 10.0
_ROOM = 20
"""Whoever comes again shall find more than one free place: a so manieth part of the bound."""


class Drain:
    """How many of something go in a second, of late."""

    def __init__(self, now: float) -> None:
        self._born = self._at = now
        self._weight = 0.0

    def note(self, now: float) -> None:
        """One has gone."""
        self._weight = self._weight * math.exp((self._at - now) / _MEMORY_SECONDS) + 1.0
        self._at = now

    def seconds(self, many: int, now: float) -> int:
        """How long so many more will take, as things go."""
        weight = self._weight * math.exp((self._at - now) / _MEMORY_SECONDS)
        seen = -_MEMORY_SECONDS * math.expm1(min(-1.0, self._born - now) / _MEMORY_SECONDS)
        seconds = many * seen / weight if weight > 0.01 else RETRY_AT_MOST
        return max(RETRY_AT_LEAST, min(RETRY_AT_MOST, math.ceil(seconds)))


class Bounds:
    """The engine's desk for what is let in."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._ends: Drain | None = None
        self._handed: dict[str, Drain] = {}
        self._counted = -COUNT_SECONDS
        self._tasks: Counter[str] = Counter()

    def ended(self) -> None:
        """A task has ended."""
        if self._ends is not None:
            self._ends.note(asyncio.get_running_loop().time())

    def handed(self, agent: str) -> None:
        """Something that waited for this agent waits no more."""
        now = asyncio.get_running_loop().time()
        if agent not in self._handed:
            self._handed[agent] = Drain(now)
        self._handed[agent].note(now)

    def check(self, type: str, tenant: str, coming: int) -> None:
        """Raises `Overloaded` where no task of this type and tenant is let in now; `coming` are about to be accepted."""
        engine, now = self._engine, asyncio.get_running_loop().time()
        self._ends = self._ends or Drain(now)
        live, bound = len(engine.tasks) + coming, engine.router.live
        if live >= bound and not self._has_share(tenant, live, bound, now):
            raise _overloaded(f"{live} tasks are live", live, bound, self._ends, now)
        if live + len(engine.parking) >= OPEN_AT_MOST:
            parked = f"{live + len(engine.parking)} tasks are live, parked ones among them"
            raise _overloaded(parked, live + len(engine.parking), OPEN_AT_MOST, self._ends, now)
        for name, pool in engine.router.pools.items():
            if len(pool.queue) >= pool.agent.queue and pool.queue.of(type, tenant):
                waiting = f"{len(pool.queue)} messages wait for agent {name}"
                raise _overloaded(waiting, len(pool.queue), pool.agent.queue, self._handed.get(name) or Drain(now), now)

    def _has_share(self, tenant: str, live: int, bound: int, now: float) -> bool:
        """Whether a tenant has less than what is everybody's, though all together have too much. What is not counted yet counts as his."""
        if live >= 2 * bound:
            return False
        if now >= self._counted + COUNT_SECONDS:
            self._counted, self._tasks = now, Counter(task.tenant for task in self._engine.tasks.values())
        tenants = len(self._tasks) + (tenant not in self._tasks)
        others = self._tasks.total() - self._tasks[tenant]
        if live - others >= bound // tenants:
            return False
        self._tasks[tenant] += 1
        return True


def _overloaded(what: str, count: int, bound: int, drain: Drain, now: float) -> Overloaded:
    return Overloaded(what=what, bound=bound, retry_after=drain.seconds(count - bound + max(1, bound // _ROOM), now))
