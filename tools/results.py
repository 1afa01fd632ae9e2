"""Running a tool: whatever happens inside, the outcome is a bounded piece of JSON.

arguments → function, within its time → result as JSON → within its bytes. Trouble of the tool's own becomes a wire error that says what
to do next, never an exception; only cancellation passes through. A plain function runs in a thread of its own: when its time is over
its result is not waited for any more, but a thread cannot be stopped and may go on until it ends or its process does. So whoever
answers for what runs here is told of every thread, and when it has ended.
"""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, ParamSpec, TypeVar

from pydantic_core import PydanticSerializationError, to_jsonable_python

from interlock.schemas.canonical import encode
from interlock.schemas.errors import InterlockError, ToolFailed, ToolTimeout
from interlock.schemas.words import words_of
from interlock.tools.context import ToolContext
from interlock.tools.describe import validate_args
from interlock.tools.outages import is_outage
from interlock.tools.tool import Tool

P = ParamSpec("P")
T = TypeVar("T")

_WORDS_CHARS = 1_000
_ERROR_BYTES = 8_192


class ToolResult(NamedTuple):
    """How a call ended: `value` is JSON, the result or (where `ok` is false) a wire error. `cut`: it was too long and says so. `outage`: it
    failed because the system behind it does not answer or is out of order."""

    ok: bool
    value: bytes
    latency_ms: float
    cut: bool
    outage: bool = False


Threads = set["asyncio.Future[Any]"]
"""The calls of plain functions that still run, waited for or not; each leaves the set when its thread has ended."""


async def run(tool: Tool[..., Any], args: Mapping[str, Any], ctx: ToolContext, threads: Threads | None = None) -> ToolResult:
    """Call the tool once with JSON arguments, its thread (if it takes one) in `threads`. Raises nothing but `asyncio.CancelledError`."""
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        value, cut = _bounded(_encoded(tool, await _called(tool, args, ctx, set() if threads is None else threads)), tool.spec.max_bytes)
        return ToolResult(True, value, (clock() - started) * 1000, cut)
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        # The tool's own trouble is an answer, not a crash of its process.
        if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
            raise
        return ToolResult(False, _failure(tool, error), (clock() - started) * 1000, False, is_outage(error))


def _is_being_cancelled() -> bool:
    """Whether somebody cancels the task that runs the tool; else a `CancelledError` is one that the tool let out itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _called(tool: Tool[..., Any], args: Mapping[str, Any], ctx: ToolContext, threads: Threads) -> Any:
    """What the function returned, within the tool's time."""
    kwargs = validate_args(tool, args)
    if tool.context:
        kwargs[tool.context] = ctx
    limit = asyncio.timeout(tool.spec.timeout)
    try:
        async with limit:
            if inspect.iscoroutinefunction(tool.function):
                return await tool.function(**kwargs)
            return await _in_thread(tool.function, kwargs, threads)
    except Exception:
        # Also where the tool, told to stop, made an error of its own out of it: whether it took effect is as open.
        if limit.expired():
            raise ToolTimeout(tool=tool.spec.name, seconds=f"{tool.spec.timeout:g}") from None
        raise


async def _in_thread(function: Callable[..., Any], kwargs: dict[str, Any], threads: Threads) -> Any:
    context = contextvars.copy_context()

    def work() -> tuple[Any, BaseException | None]:
        try:
            return context.run(function, **kwargs), None
        except BaseException as trouble:  # noqa: BLE001 - it is raised again where the call is awaited
            return None, trouble

    running = asyncio.get_running_loop().run_in_executor(_THREADS, work)
    threads.add(running)
    running.add_done_callback(threads.discard)
    value, error = await asyncio.shield(running)  # cancelling it would only forget it
    if error is not None:
        raise error
    return value


class _OwnThreads(Executor):
    """A daemon thread for each call: one that hangs takes no other tool's place and holds up no exit."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        threading.Thread(target=lambda: future.set_result(fn(*args, **kwargs)), name="interlock-tool", daemon=True).start()
        return future


_THREADS = _OwnThreads()


def _encoded(tool: Tool[..., Any], result: Any) -> bytes:
    try:
        return encode(to_jsonable_python(result))
    except (PydanticSerializationError, TypeError, ValueError) as error:
        problem = f"it ran to its end and returned a {type(result).__name__}, which is not JSON ({_words(error)})"
        raise ToolFailed(tool=tool.spec.name, problem=problem, remedy="Its effect stands; correct what it returns.") from None


def _bounded(value: bytes, most: int) -> tuple[bytes, bool]:
    """The result, or where it is too long a JSON object that says so and shows its beginning."""
    if len(value) <= most:
        return value, False
    size, text = len(value), value.decode()
    fits, too_long = 0, min(len(text), most)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if len(_cut(size, text[:middle])) <= most:
            fits = middle
        else:
            too_long = middle
    return _cut(size, text[:fits]), True


def _cut(size: int, head: str) -> bytes:
    return encode({"cut": True, "bytes": size, "head": head})


def _failure(tool: Tool[..., Any], error: BaseException) -> bytes:
    """The wire error of a failed call, bounded."""
    if isinstance(error, InterlockError):
        try:
            wire = encode(error.to_wire())
        except Exception:  # noqa: BLE001 - a subclass of the user's own may refuse to be told in any way
            wire = b""
        if 0 < len(wire) <= max(_ERROR_BYTES, tool.spec.max_bytes):
            return wire
    if tool.spec.effect == "read":
        remedy = "Call it with other arguments, or go on without it."
    else:
        remedy = "Find out how far it came before calling it again."
    problem = f"{type(error).__name__}: {_words(error)}"
    return encode(ToolFailed(tool=tool.spec.name, problem=problem, remedy=remedy).to_wire())


def _words(error: BaseException) -> str:
    return words_of(error, _WORDS_CHARS) or "it gave no reason"
