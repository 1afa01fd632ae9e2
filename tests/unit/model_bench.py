"""What the tests of the gateway share: one with everything around it, at an endpoint on loopback that plays a playbook."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from interlock.actors.models.bounds import Declarations
from interlock.actors.models.gateway import Gateway
from interlock.actors.models.prices import Price, Prices, Tier
from interlock.actors.models.wire import ChatCompletions, Endpoint
from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import MemoryJournal
from interlock.actors.supervisor.rates import Rates
from interlock.schemas.budget import Amounts
from interlock.schemas.canonical import encode
from interlock.schemas.entries import ModelCalled
from interlock.schemas.frames import CallEnded, CallModel, carried, pack, unpack
from interlock.testing.scripted_model import ScriptedModel
from interlock.testing.virtual_time import VirtualClock

TASK = "tsk_1"
HELLO = {"rules": [{"answer": {"text": "hello"}}]}
CHEAP = Price((Tier(0, Decimal("0.001")),), (Tier(0, Decimal("0.01")),), (Tier(0, Decimal("0.0001")),))
OK = {"answer": {"text": "hello"}}


def failing(kind: str, times: int | None = None, **more: Any) -> dict[str, Any]:
    """A fault that fires `times` times (always if not given), and an answer after it."""
    rule = {"fault": {"kind": kind, **more}, **({} if times is None else {"times": times})}
    return {"rules": [rule, OK]}


class Bench:
    """A gateway with everything around it; `model` is the endpoint that it calls, `waits` are the seconds that it slept between tries."""

    model: ScriptedModel

    def __init__(self, endpoint: Endpoint, prices: dict[str, Price] | None = None, bounds: Declarations | None = None) -> None:
        self.clock = VirtualClock()
        self.budgets = SupervisorBudgets(MemoryJournal(self.clock), self.clock, lambda task, why: None)
        self.waits: list[float] = []
        self.wire = ChatCompletions(endpoint)
        known = Prices(endpoint.base_url, self.clock, prices)
        self.gateway = Gateway(self.budgets, self.wire, known, random.Random(7), self._sleep, bounds=bounds)
        self._sent = 0
        self._received = 0

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.budgets.rates = Rates()  # no time passes here: what was waited for is over

    async def exchange(self, *frames: Any) -> list[Any]:
        head = [1, self._sent + 1, self._received, self._received, False]
        self._sent += len(frames)
        (_, first, _, _, _), back = unpack(await self.gateway.exchange(pack(head, carried(frames))))
        self._received = first + len(back) - 1
        return back

    async def ended(self, *frames: Any) -> CallEnded:
        """Hand over `frames` and wait for the next call to end."""
        back = await self.exchange(*frames)
        while not back:
            back = await self.exchange()
        [frame] = back
        assert isinstance(frame, CallEnded)
        return frame

    async def record(self, *frames: Any) -> dict[str, Any]:
        frame = await self.ended(*frames)
        record: dict[str, Any] = json.loads(frame.record)
        assert (frame.task, frame.dispatch) == (TASK, "dsp_1")
        assert frame.ok == (record["error"] is None)
        self.exceeded = record.pop("exceeded", None)
        # The ledger's entry is made of exactly these fields.
        ModelCalled(effect=frame.effect, dispatch=frame.dispatch, attempt="1.1", **record)
        return record

    async def used(self) -> dict[str, Any]:
        used = await self.budgets.used(TASK)
        assert all(held == 0 for _, held, _ in used.values()), "nothing stays held once a call has ended"
        assert sum(used[meter][0] for meter in ("input_tokens", "output_tokens") if meter in used) == used.get("tokens", (0,))[0]
        return {meter: amount for meter, (amount, _, _) in used.items() if meter not in ("input_tokens", "output_tokens")}


def call(effect: str = "eff_1", number: int = 1, text: str = "hi", **more: Any) -> CallModel:
    messages = [{"role": "system", "content": "You greet."}, {"role": "user", "content": text}]
    return CallModel(effect, TASK, number, "some-model", encode({"messages": messages, **more}), "", "dsp_1")


@asynccontextmanager
async def bench(
    url: str,
    limits: Amounts | None = None,
    timeout: float = 10.0,
    patience: float = 300.0,
    price: Price | None = None,
    bounds: Declarations | None = None,
) -> AsyncIterator[Bench]:
    prices = None if price is None else {"some-model": price}
    one = Bench(Endpoint(url, "secret-key", timeout, patience), prices, bounds)
    await one.budgets.open(TASK, limits or {"tokens": 100_000, "steps": 10}, 0)
    try:
        yield one
    finally:
        await one.gateway.close()


def run(playbook: Any, scenario: Callable[[Bench], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """One scenario at a bench whose endpoint plays the playbook; `settings` are those of `bench`."""

    async def arranged(model: ScriptedModel) -> None:
        async with bench(model.base_url, **settings) as one:
            one.model = model
            await scenario(one)

    with ScriptedModel.start(playbook) as model:
        asyncio.run(arranged(model))
