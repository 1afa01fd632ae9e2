"""An event loop whose time is virtual: it jumps to the next timer as soon as nothing is ready.

A test of hours runs in milliseconds, and the same program takes the same steps every time. Nothing here waits for the real
world: there are no sockets and no threads (what is handed to an executor runs at once, in place), so a program that waits
for neither a timer nor another task can never go on. That is reported as `Deadlock`, with the tasks that wait.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heapify, heappop
from typing import Any, TypeVar

T = TypeVar("T")

WEEK = 7 * 86_400.0

_MANY_CANCELLED = 100


class Deadlock(RuntimeError):
    """Every task waits for something that can no longer happen."""


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """Time begins at `start` and may not pass `limit` (both in seconds): a poll that never ends is a deadlock too."""

    # What the base class keeps; its annotations do not say so.
    _ready: deque[Any]
    _scheduled: list[Any]
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(self, start: float = 0.0, limit: float = WEEK) -> None:
        super().__init__()
        self._now = start
        self._limit = start + limit
        # Coarse enough that `now + resolution > now` also holds for times as large as today's.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        """One turn, as in the base class, without what it does for sockets, threads and debugging."""
        ready, scheduled = self._ready, self._scheduled
        if self._timer_cancelled_count > _MANY_CANCELLED and 2 * self._timer_cancelled_count > len(scheduled):
            self._forget_cancelled()
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:
            self._jump()
        due = self._now + self._clock_resolution
        while scheduled and scheduled[0]._when < due:
            handle = heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _jump(self) -> None:
        """Nothing is ready: it is the time of the next timer now."""
        if not self._scheduled:
            raise Deadlock(f"nothing is ready and no timer is left at {self._now:g} s{self._waiting()}")
        self._now = max(self._now, self._scheduled[0]._when)
        if self._now > self._limit:
            raise Deadlock(f"still not done at {self._now:g} s, past the limit{self._waiting()}")

    def _forget_cancelled(self) -> None:
        live = [handle for handle in self._scheduled if not handle._cancelled]
        for handle in self._scheduled:
            handle._scheduled = not handle._cancelled
        heapify(live)
        self._scheduled[:] = live
        self._timer_cancelled_count = 0

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it travels in the future
            done.set_exception(error)
        return done

    def _write_to_self(self) -> None:
        """Nobody ever sleeps, so nobody needs to be woken."""

    def _waiting(self) -> str:
        return "".join(f"\n  {task.get_name()}: {task.get_coro()!r}" for task in asyncio.all_tasks(self))


class VirtualClock:
    """Wall-clock time (microseconds) that runs with the loop's: `Clock` for tests. `start` is the time at loop time 0."""

    def __init__(self, start: int = 1_700_000_000_000_000) -> None:
        self._start = start

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock, forward or back; the loop's time goes on as ever."""
        self._start += round(seconds * 1_000_000)

    def now(self) -> int:
        return self._start + round(asyncio.get_running_loop().time() * 1_000_000)


def run(coro: Coroutine[Any, Any, T], start: float = 0.0, limit: float = WEEK) -> T:
    """`asyncio.run` on virtual time: no real sleeping; `Deadlock` where the program can never go on."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start, limit)) as runner:
        return runner.run(coro)
