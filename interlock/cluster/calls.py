"""Calls between Ray actors: errors travel as data, and a dead process is told from a lost answer.

Ray retries nothing for us. A call to an actor of the trusted base, which Ray starts again, is made again by `insist`: everything that is
called so is idempotent under ids that the caller gives.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from interlock.schemas.errors import InterlockError, StaleIncarnation, StorePaused, from_wire
from interlock.schemas.ports import PeerGone

P = ParamSpec("P")
T = TypeVar("T")

FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0


class NeverCame(PeerGone):
    """The actor could not even be made: to ask again is in vain."""


class Unreachable(OSError):
    """The answer did not come; the call may or may not have been carried out."""


class Silent(Unreachable):
    """The actor lives, as far as anybody knows, and does not answer: it is frozen, cut off or very busy."""


def answers(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[list[Any]]]:
    """Of an actor's method: its result, or its `InterlockError` as data, so that Ray never pickles a traceback. In a list, for a tuple
    would be pickled, with all that is in it."""

    @functools.wraps(method)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> list[Any]:
        try:
            return [True, await method(*args, **kwargs)]
        except InterlockError as error:
            return [False, error.to_wire()]

    return answer


async def ask(method: Any, *args: Any) -> Any:
    """Call an actor's method that `answers`. Raises its error, `PeerGone` (the process has ended) or `Unreachable`."""
    try:
        ok, value = await method.remote(*args)
    except ActorDiedError as error:
        raise (NeverCame if "creation task" in str(error) else PeerGone)(str(error)) from None
    except ActorUnavailableError as error:
        raise Unreachable(str(error)) from None
    except RayActorError as error:
        raise PeerGone(str(error)) from None
    if not ok:
        raise from_wire(value)
    return value


async def insist(method: Any, *args: Any, seconds: float | None = None) -> Any:
    """The same of an actor that is started again when it dies: call until it answers, for `seconds` at most (then `Unreachable`)."""
    loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
    end = None if seconds is None else loop.time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(end):
                return await ask(method, *args)
        except NeverCame:
            raise
        except TimeoutError:
            raise Silent(f"no answer within {seconds:g} s") from None
        except (PeerGone, Unreachable, StaleIncarnation) as error:  # the last one: it says nothing, and another has its place
            if end is not None and loop.time() + pause > end:
                raise Unreachable(str(error)) from None
        await asyncio.sleep(pause)
        pause = min(pause * 2, LAST_PAUSE)


async def outlast(method: Any, *args: Any) -> Any:
    """The same for ever, also while the actor lives and has a store that cannot be written: it goes on by itself."""
    while True:
        try:
            return await insist(method, *args)
        except StorePaused:
            await asyncio.sleep(LAST_PAUSE)


class Batcher:
    """Calls that are collected while one stands, and leave together: one Ray call for whatever waits."""

    def __init__(self, send: Callable[[list[list[Any]]], Awaitable[list[list[Any]]]]) -> None:
        self._send = send
        self._waiting: list[tuple[list[Any], asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    def __call__(self, *call: Any) -> asyncio.Future[Any]:
        """Have the call made, and its answer come."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(([*call], answer))
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())
        return answer

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._send_one([call for call, _ in batch], [answer for _, answer in batch])
        finally:
            self._sending = None

    async def _send_one(self, calls: list[list[Any]], answers: list["asyncio.Future[Any]"]) -> None:
        """One batch: whatever becomes of it, each that waits hears of it, and the next batch leaves."""
        try:
            results = await self._send(calls)
            for answer, (ok, value) in list(zip(answers, results, strict=True)):
                if answer.done():
                    continue
                if ok:
                    answer.set_result(value)
                else:
                    answer.set_exception(from_wire(value))
        except Exception as error:  # noqa: BLE001 - it goes to everyone who waits
            for answer in answers:
                if not answer.done():
                    answer.set_exception(from_wire(error.to_wire()) if isinstance(error, InterlockError) else error)
        finally:
            for answer in answers:
                answer.cancel()
