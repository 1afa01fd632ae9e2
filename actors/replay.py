"""A deterministic event loop for one workflow: the same events give the same steps in every process.

`drive` runs all that is ready, in the order in which it became ready, and returns as soon as everything waits for an event. There are
no clocks: time is that of the last event, and a timer is a durable `sleep` command. So `sleep`, `timeout`, `wait`, `gather`, `shield`,
task groups, queues, locks and cancellation work as in any asyncio program. Tasks and futures made here hash alike everywhere, so
that sets of them iterate alike; so do the futures of `gather()`, which asyncio makes itself and which hash like what they gather.
"""

import asyncio
import hashlib
import math
import sys
import warnings
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import Any, TypeVarTuple

from interlock.actors.desk import Desk
from interlock.actors.refusals import Refusals
from interlock.schemas.canonical import encode
from interlock.schemas.errors import Unsupported
from interlock.schemas.frames import Happened
from interlock.schemas.words import told

Ts = TypeVarTuple("Ts")
Coro = Coroutine[Any, Any, Any] | Generator[Any, None, Any]
Outer = tuple[asyncio.AbstractEventLoop | None, asyncio.Task[Any] | None, Any]
"""What ran before a loop of this kind did: a loop, its task, its hooks for async generators."""

_CLOSE_TRIES = 16


class WorkflowTask(asyncio.Task[Any]):
    """A task whose hash is the same in every process."""

    def __init__(self, coro: Coro, *, stable: int, loop: asyncio.AbstractEventLoop, name: str, context: Context | None) -> None:
        self._stable = stable
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._stable


class WorkflowFuture(asyncio.Future[Any]):
    """A future whose hash is the same in every process."""

    def __init__(self, *, stable: int, loop: asyncio.AbstractEventLoop) -> None:
        self._stable = stable
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._stable


def _hash_gathered(gathered: Any) -> int:
    """Like what it gathers, within a workflow; elsewhere as ever."""
    return hash(tuple(gathered._children)) if isinstance(gathered.get_loop(), ReplayLoop) else object.__hash__(gathered)


_Gathered: Any = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]
_Gathered.__hash__ = _hash_gathered


class _Timer(asyncio.TimerHandle):
    """A timer and the number of its command; 0 where it was due at once and needs none."""

    __slots__ = ("number",)
    number: int


class ReplayLoop(Refusals):
    """The loop of one live task. `problems` collects what asyncio would log: exceptions that nobody retrieved."""

    def __init__(self, desk: Desk) -> None:
        self.problems: list[str] = []
        self._desk = desk
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: list[WorkflowTask] = []  # asyncio holds tasks weakly; what is collected at random cannot be replayed
        self._prune_at = 64
        self._made = 0
        # The low bits count what was made, so that a small set iterates in the order of making.
        self._seed = int.from_bytes(hashlib.sha256(desk.task.encode()).digest()[:4], "big") << 28

    # --- driving ----------------------------------------------------------------------------------------------------

    def drive(self) -> None:
        """Run until everything waits."""
        ready = self._ready
        outer = self._enter()
        try:
            while ready:
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                try:
                    handle._run()
                except SystemExit as error:  # asyncio lets it through once the task has it; it ends the task, not the process
                    self.call_exception_handler({"message": "SystemExit in a workflow", "exception": error})
                # From Python 3.13 on a task's exception keeps this frame: if that kept the task, nobody would hear of the exception.
                del handle
        finally:
            self._leave(outer)

    def detach(self) -> None:
        """Drop the workflow from memory. Its coroutines are closed at once and in silence, against a closed desk: a `finally` block
        that asks for anything gets `Detached`, so nothing of it ever leaves."""
        self._desk.close()
        self._ready.clear()
        pending = [task for task in self._tasks if not task.done()]
        self._tasks.clear()
        if not pending:
            return
        outer = self._enter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # coroutines that it had made and not yet awaited
                while pending:
                    _close(pending.pop())
        finally:
            self._leave(outer)

    def _enter(self) -> Outer:
        """Become the running loop, inside whatever loop and task runs now."""
        loop = events._get_running_loop()
        task = None if loop is None else asyncio.current_task(loop)
        hooks = sys.get_asyncgen_hooks()
        if loop is not None and task is not None:
            asyncio.tasks._leave_task(loop, task)
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(None, self._finalize)
        return loop, task, hooks

    def _leave(self, outer: Outer) -> None:
        loop, task, hooks = outer
        sys.set_asyncgen_hooks(*hooks)
        events._set_running_loop(loop)
        if loop is not None and task is not None:
            asyncio.tasks._enter_task(loop, task)

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator was given up before its end: close it like asyncio does, but never outside a drive of this loop."""
        if not self._desk.closed and events._get_running_loop() is self:
            self.create_task(generator.aclose())

    # --- what asyncio asks of a loop --------------------------------------------------------------------------------

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        self._desk.check()
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._timer(delay, callback, args, context)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.TimerHandle:
        return self._timer(when - self.time(), callback, args, context)

    def _timer(self, delay: float, callback: Callable[..., object], args: Any, context: Context | None) -> asyncio.TimerHandle:
        if not math.isfinite(delay):
            raise Unsupported(what=f"A timer of {delay} seconds", instead="`ctx.sleep` of a finite number of seconds")
        self._desk.check()
        timer = _Timer(self.time() + delay, callback, args, self, context)
        timer.number = 0
        seconds = round(float(delay), 6)
        if seconds > 0:
            timer.number = self._desk.give("sleep", "", "", encode(seconds), [], partial(self._fire, timer))
        else:
            self._ready.append(timer)
        return timer

    def _fire(self, timer: asyncio.TimerHandle, _event: Happened) -> None:
        self._ready.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, _Timer):
            self._desk.withdraw(handle.number)

    def time(self) -> float:
        """Seconds since the task was accepted, as of the event delivered last."""
        return (self._desk.at - self._desk.start) / 1_000_000

    def create_future(self) -> asyncio.Future[Any]:
        return WorkflowFuture(stable=self._next_hash(), loop=self)

    def create_task(self, coro: Coro, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:
        self._desk.check()
        if _made_by_as_completed():
            coro.close()
            raise Unsupported(what="as_completed() of coroutines, whose order is random,", instead="as_completed() of tasks")
        stable = self._next_hash()
        task = WorkflowTask(
            coro, stable=stable, loop=self, name=f"{self._desk.task}/{self._made}" if name is None else str(name), context=context
        )
        asyncio.tasks._unregister_task(task)  # all_tasks() has an order that depends on other workflows
        if len(self._tasks) >= self._prune_at:
            self._tasks = [kept for kept in self._tasks if not kept.done()]
            self._prune_at = 2 * len(self._tasks) + 64
        self._tasks.append(task)
        return task

    def _next_hash(self) -> int:
        self._made += 1
        return self._seed + self._made

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.problems.append(context["message"] if error is None else f"{context['message']}: {told(error)}")

    default_exception_handler = call_exception_handler

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._desk.closed


def _close(task: WorkflowTask) -> None:
    """End what the task awaits, from the inside out, then the task's own coroutine. One whose `finally` waits is told again."""
    silenced: Any = task
    silenced._log_destroy_pending = False
    coro: Any = task.get_coro()
    waited = 0
    while waited < _CLOSE_TRIES:
        inner = _innermost(coro)
        with suppress(BaseException):
            inner.close()
        if _is_suspended(inner):
            waited += 1
        elif inner is coro:
            return


def _innermost(coro: Any) -> Any:
    while isinstance(coro, CoroutineType) and _is_suspended(coro.cr_await):
        coro = coro.cr_await
    return coro


def _is_suspended(awaited: Any) -> bool:
    return isinstance(awaited, CoroutineType) and awaited.cr_frame is not None


def _made_by_as_completed() -> bool:
    """Whether asyncio makes this task inside `as_completed`, which takes its coroutines from a set that is ordered by address."""
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__") == "asyncio.tasks" and frame.f_back is not None:
        if frame.f_code.co_name == "as_completed":
            return True
        frame = frame.f_back
    return False
