"""Watches: one driver's wait for the ends of many tasks, by one standing call.

A driver names only what is new; a new call relieves the one that waits; an end is repeated until the driver says that it has it. A watch
is not durable: who is told `None` (another orchestrator, or too long away) names everything again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock.orchestrator.engine import Engine
from interlock.orchestrator.state import raw
from interlock.schemas import entries as e
from interlock.schemas.errors import UnknownTask

Wire = dict[str, Any]

FORGET_SECONDS = 120.0


@dataclass(slots=True)
class _Watch:
    ends: dict[str, Wire] = field(default_factory=dict)
    followed: set[str] = field(default_factory=set)
    waiting: "asyncio.Future[None] | None" = None
    last: float = 0.0


class Watches:
    """The watches of all drivers. `past` finds the end of a task that is no longer live."""

    def __init__(self, engine: Engine, past: Callable[[str], e.TaskEnded | None]) -> None:
        self._engine, self._past = engine, past
        self._watches: dict[str, _Watch] = {}

    async def outcomes(self, driver: str, fresh: Sequence[str], got: Sequence[str], first: bool, seconds: float) -> dict[str, Wire] | None:
        """The ends that `driver` has not got yet, by task; waits up to `seconds` where there is none.
        `first` opens a watch where there is none."""
        loop = asyncio.get_running_loop()
        if first:
            self._forget(loop.time())
            # Not a new one where there is one: a call that was made again may come late, and knows less than those after it.
            self._watches.setdefault(driver, _Watch())
        watch = self._watches.get(driver)
        if watch is None:
            return None
        watch.last = loop.time()
        for task in got:
            watch.ends.pop(task, None)
            watch.followed.discard(task)
        for task in fresh:
            if task not in watch.followed:
                watch.followed.add(task)
                self._follow(watch, task)
        _relieve(watch)
        if not watch.ends:
            waiting = watch.waiting = loop.create_future()
            await asyncio.wait([waiting], timeout=seconds)
        return dict(watch.ends)

    def _follow(self, watch: _Watch, task: str) -> None:
        if not self._engine.is_live(task):
            fact = self._past(task)
            watch.ends[task] = _wire(fact) if fact is not None else {"outcome": "", "error": UnknownTask(task=task).to_wire()}
            return

        def ended(fact: e.TaskEnded) -> None:
            watch.ends[task] = _wire(fact)
            _relieve(watch)

        self._engine.when_ended(task, ended)

    def _forget(self, now: float) -> None:
        for driver in [name for name, watch in self._watches.items() if now - watch.last > FORGET_SECONDS]:
            del self._watches[driver]


def _relieve(watch: _Watch) -> None:
    if watch.waiting is not None and not watch.waiting.done():
        watch.waiting.set_result(None)


def _wire(fact: e.TaskEnded) -> Wire:
    return {
        "outcome": fact.outcome,
        "reason": fact.reason,
        "contract": fact.contract,
        "version": fact.contract_version,
        "result": raw(fact.result),
        "error": fact.error,
        "label": fact.label,
        "erased": isinstance(fact.result, e.Gone),
    }
