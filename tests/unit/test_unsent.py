"""Model calls that are never sent: they cost no tokens, no turn of the model's rate, and not the one try that an open breaker is due."""

import asyncio
import json
import random
from typing import Any

from interlock.actors.models.breakers import Breakers
from interlock.actors.models.call import Call, Desk
from interlock.actors.models.prices import Prices
from interlock.actors.models.rates import Rate, Rates
from interlock.actors.models.wire import Answer, Endpoint
from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import MemoryJournal
from interlock.schemas.canonical import encode
from interlock.schemas.frames import CallModel
from interlock.testing.scripted_wire import ScriptedWire
from interlock.testing.virtual_time import VirtualClock, run

E = Endpoint("http://e.invalid/v1", "k")
OK = {"rules": [{"answer": {"text": "ok"}}]}


def call(effect: str, task: str = "tsk_1", **more: Any) -> CallModel:
    return CallModel(effect, task, 1, "m", encode({"messages": [{"role": "user", "content": "hi"}], **more}), "", "dsp_1")


def down(times: int) -> dict[str, Any]:
    return {"rules": [{"fault": {"kind": "status", "status": 503}, "times": times}, *OK["rules"]]}


async def purse(**limits: Any) -> SupervisorBudgets:
    """Budgets of a task with these limits, and of another one with room."""
    clock = VirtualClock()
    budgets = SupervisorBudgets(MemoryJournal(clock), clock, lambda task, why: None)
    await budgets.open("tsk_1", limits, 0)
    await budgets.open("tsk_2", {"steps": 1000, "tokens": 1_000_000}, 0)
    return budgets


def desk(budgets: Any, wire: ScriptedWire, rate: Rate | None = None, name: str = "") -> Desk:
    breakers, prices = Breakers(E.shown, lambda moved: None), Prices(E.base_url, VirtualClock(), None)
    return Desk(budgets, wire, prices, random.Random(1), asyncio.sleep, breakers, name, rates=Rates({"m": rate} if rate else None))


async def made(at: Desk, frame: CallModel) -> tuple[float, dict[str, Any]]:
    """The seconds that it took, and its record."""
    start = asyncio.get_running_loop().time()
    ended = await Call(frame, at).run()
    record: dict[str, Any] = json.loads(ended.record)
    return round(asyncio.get_running_loop().time() - start, 3), record


def test_what_the_breaker_refuses_takes_no_turn() -> None:
    async def main() -> None:
        one = desk(await purse(steps=1000), wire := ScriptedWire(down(99), E), Rate(9, None))
        await made(one, call("a"))
        assert (await made(one, call("b")))[1]["tries"] == 1
        for n in range(20):
            waited, record = await made(one, call(f"c{n}"))
            assert waited == 0
            assert "its circuit breaker opened" in record["error"]["message"]
        assert wire.count == 5

    run(main())


def test_what_its_budget_refuses_gives_its_turn_back() -> None:
    async def main() -> None:
        one = desk(await purse(steps=0), ScriptedWire(OK, E), Rate(1, None))
        for n in range(3):
            assert (await made(one, call(f"a{n}")))[1]["error"]["code"] == "budget_exceeded"
        waited, record = await made(one, call("b", "tsk_2"))
        assert (waited, record["error"]) == (0, None)

    run(main())


def test_who_is_cancelled_or_out_of_time_leaves_the_line() -> None:
    async def main() -> None:
        budgets = await purse(steps=1000)
        one = desk(budgets, ScriptedWire(OK, E), Rate(1, None))
        await made(one, call("a"))
        waiting = Call(call("b"), one)
        over = asyncio.create_task(waiting.run())
        await asyncio.sleep(1)
        waiting.cancel()
        await over
        (shown,) = budgets.rates.shown(asyncio.get_running_loop().time())
        assert shown["waiting"] == 0
        budgets.rates.shut(f"m at {E.shown}", 3600, asyncio.get_running_loop().time())
        _, record = await made(one, call("c"))
        assert "its endpoint asked to be left alone, for 3600 s more" in record["error"]["message"]
        (shown,) = budgets.rates.shown(asyncio.get_running_loop().time())
        assert (shown["requests"], shown["waiting"]) == (1, 0)

    run(main())


def test_the_one_try_of_an_open_breaker_is_made_by_who_has_the_budget_for_it() -> None:
    async def main() -> None:
        one = desk(await purse(steps=0), wire := ScriptedWire(down(5), E))
        for n in range(2):
            await made(one, call(f"a{n}", "tsk_2"))
        await asyncio.sleep(30.5)
        assert (await made(one, call("b")))[1]["error"]["code"] == "budget_exceeded"
        assert (await made(one, call("c", "tsk_2")))[1]["error"] is None
        assert wire.count == 6

    run(main())


class Away:
    """Budgets whose supervisor is away for so long when something is to be reserved."""

    def __init__(self, budgets: SupervisorBudgets, seconds: float) -> None:
        self._budgets, self._seconds = budgets, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._budgets, name)

    async def reserve(self, reservations: Any) -> Any:
        await asyncio.sleep(self._seconds)
        return await self._budgets.reserve(reservations)


def test_what_could_not_be_sent_in_time_costs_a_step_only() -> None:
    async def main() -> None:
        budgets = await purse(tokens=100_000, steps=1000)
        one = desk(Away(budgets, E.patience + 1), wire := ScriptedWire(OK, E))
        _, record = await made(one, call("a"))
        assert (record["tries"], wire.count) == (0, 0)
        assert "the bus was not ready to send it within 300 s" in record["error"]["message"]
        used = await budgets.used("tsk_1")
        assert {meter: used[meter][:2] for meter in ("tokens", "steps")} == {"tokens": (0, 0), "steps": (1, 0)}
        assert one.breakers.stops("m") is None

    run(main())


def test_an_answer_above_its_cap_is_known_to_every_gateway_at_once() -> None:
    class Over(ScriptedWire):
        async def call(self, request: dict[str, Any], seconds: float) -> Answer:
            answer = await super().call(request, seconds)
            return Answer(answer.raw, answer.body, (10, request["max_completion_tokens"] + 500, 0))

    async def main() -> None:
        budgets = await purse(steps=1000)
        one, other = desk(budgets, wire := ScriptedWire(OK, E), name="models-1"), desk(budgets, Over(OK, E), name="models-2")
        assert (await made(one, call("a", "tsk_2")))[1]["error"] is None
        assert (await made(other, call("b")))[1]["error"] is None
        assert (await made(one, call("c", "tsk_2")))[1]["error"]["code"] == "unbounded_call"
        assert wire.count == 1

    run(main())


def test_a_limit_on_money_that_is_set_while_a_call_waits_binds_it() -> None:
    async def main() -> None:
        for playbook, rate in ((down(3), None), (OK, Rate(1, None))):
            budgets = await purse(steps=1000)
            one = desk(budgets, wire := ScriptedWire(playbook, E), rate)
            if rate is not None:
                await made(one, call("first"))
            waiting = asyncio.create_task(made(one, call("a")))
            await asyncio.sleep(0.01)
            await budgets.change("tsk_1", {"usd": "0"}, "op", "no more")
            assert (await waiting)[1]["error"]["code"] == "unknown_price"
            assert wire.count == 1, "nothing is sent after it"

    run(main())
