"""The gateway: the one way to a model. It holds the key, so nobody else needs one; it reserves before and settles after, so no
call escapes the budget; and it records every call in full, whoever asked for it.

A call is named by effect and number. The same name again attaches to the call that runs, or to the record that is on its way:
it is never made twice here.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from interlock.actors.mailbox import Mailbox
from interlock.actors.models.bounds import Declarations
from interlock.actors.models.breakers import Breakers
from interlock.actors.models.call import Call, Desk, ended
from interlock.actors.models.prices import Prices
from interlock.actors.models.rates import Rates
from interlock.actors.models.wire import Wire
from interlock.schemas.errors import ModelFailed
from interlock.schemas.frames import CallEnded, CallModel, CancelCall
from interlock.schemas.ports import Budgets

_log = logging.getLogger(__name__)


class Gateway(Mailbox):
    """A models peer. `sleep` waits between tries. Reservations bear `incarnation`: a call that died with a gateway stays charged when
    another makes it again."""

    def __init__(
        self,
        budgets: Budgets,
        wire: Wire,
        prices: Prices,
        rng: random.Random,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        *,
        incarnation: str = "",
        rates: Rates | None = None,
        bounds: Declarations | None = None,
    ) -> None:
        super().__init__()
        self._breakers = Breakers(wire.endpoint.shown, self.emit)
        self._desk = Desk(
            budgets, wire, prices, rng, sleep, self._breakers, incarnation, rates=rates or Rates(), bounds=bounds or Declarations()
        )
        self._calls: dict[str, Call] = {}
        self._running: dict[str, asyncio.Task[CallEnded]] = {}

    def take(self, frame: Any) -> None:
        match frame:
            case CallModel():
                self._start(frame)
            case CancelCall():
                for call in self._calls.values():
                    if call.frame.effect == frame.effect:
                        call.cancel()
            case _:
                raise TypeError(f"a gateway takes no {type(frame).__name__}")

    def reopen(self) -> None:
        """An ended call's record stays in the outbox until it is durable, a running one will end; breakers that are open are told again."""
        for moved in list(self._breakers.open()):
            self.emit(moved)

    def holds(self) -> list[str]:
        """The calls that run, and those whose record is on its way, each with its dispatch: who comes anew asks nobody else for them."""
        frames: list[CallModel | CallEnded] = [
            *(call.frame for call in self._calls.values()),
            *(sent for sent in self._outbox if isinstance(sent, CallEnded)),
        ]
        return [f"{_key(frame)} {frame.dispatch}" for frame in frames]

    def busy(self) -> bool:
        return bool(self._calls)

    async def cancel_task(self, task: str) -> list[str]:
        """Stop all calls of a task. Returns their effects once every connection is let go of and settled; the records follow.

        Nothing of the task starts here afterwards if the supervisor has fenced it before: its reservation is refused.
        """
        calls = {key: call for key, call in self._calls.items() if call.frame.task == task}
        for call in calls.values():
            call.cancel()
        if calls:
            await asyncio.wait([self._running[key] for key in calls])
        return sorted({call.frame.effect for call in calls.values()})

    async def cancel(self, task: str) -> bool:
        await self.cancel_task(task)
        return True

    async def close(self) -> None:
        """Stop all calls, settle them, and close the way to the endpoint."""
        for call in self._calls.values():
            call.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._desk.wire.close()

    def _start(self, frame: CallModel) -> None:
        key = _key(frame)
        if key in self._calls or any(isinstance(sent, CallEnded) and _key(sent) == key for sent in self._outbox):
            return
        call = Call(frame, self._desk)
        running = asyncio.get_running_loop().create_task(call.run(), name=f"call {key}")
        self._calls[key], self._running[key] = call, running
        running.add_done_callback(lambda done: self._ended(key, call, done))

    def _ended(self, key: str, call: Call, done: asyncio.Task[CallEnded]) -> None:
        del self._calls[key], self._running[key]
        if done.cancelled():
            return  # the process is going down; to the orchestrator this call is cut off
        error = done.exception()
        if error is not None:
            _log.error("call %s ended by a fault", key, exc_info=error)
        self.emit(done.result() if error is None else _faulted(call.frame, self._desk.wire.endpoint.shown, error))


def _key(frame: CallModel | CallEnded) -> str:
    return f"{frame.effect}#{frame.number}"


def _faulted(frame: CallModel, endpoint: str, fault: BaseException) -> CallEnded:
    """The record of a call that a fault of ours ended: what it held stays held until the task closes."""
    error = ModelFailed(model=frame.model, endpoint=endpoint, attempts=0, problem=f"{type(fault).__name__}: {fault}")
    record = {
        "model": frame.model,
        "model_reported": "",
        "endpoint": endpoint,
        "system_hash": "",
        "request": None,
        "response": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
        "price": None,
        "latency_ms": 0.0,
        "tries": 0,
        "error": error.to_wire(),
    }
    return ended(frame, False, record)
