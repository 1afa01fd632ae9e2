"""The gateway against a real endpoint on loopback and the real meters: what is sent, charged and recorded, whatever goes wrong."""

import asyncio
import hashlib
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interlock.actors.models import call as call_module
from interlock.actors.models.gateway import Gateway
from interlock.actors.models.prices import Price, Prices, Tier
from interlock.actors.models.wire import ChatCompletions, Endpoint
from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import MemoryJournal
from interlock.schemas.budget import Amounts
from interlock.schemas.canonical import encode
from interlock.schemas.entries import ModelCalled
from interlock.schemas.frames import CallEnded, CallModel, CancelCall, pack, unpack
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

    def __init__(self, endpoint: Endpoint, prices: dict[str, Price] | None = None) -> None:
        self.clock = VirtualClock()
        self.budgets = SupervisorBudgets(MemoryJournal(self.clock), self.clock, lambda task, why: None)
        self.waits: list[float] = []
        self.wire = ChatCompletions(endpoint)
        self.gateway = Gateway(self.budgets, self.wire, Prices(endpoint.base_url, self.clock, prices), random.Random(7), self._sleep)
        self._sent = 0
        self._received = 0

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def exchange(self, *frames: Any) -> list[Any]:
        head = [1, self._sent + 1, self._received, self._received, False]
        self._sent += len(frames)
        (_, first, _, _, _), back = unpack(await self.gateway.exchange(pack(head, list(frames))))
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
        # The ledger's entry is made of exactly these fields.
        ModelCalled(effect=frame.effect, dispatch=frame.dispatch, attempt="1.1", **record)
        return record

    async def used(self) -> dict[str, Any]:
        used = await self.budgets.used(TASK)
        assert all(held == 0 for _, held, _ in used.values()), "nothing stays held once a call has ended"
        return {meter: amount for meter, (amount, _, _) in used.items()}


def call(effect: str = "eff_1", number: int = 1, text: str = "hi", **more: Any) -> CallModel:
    messages = [{"role": "system", "content": "You greet."}, {"role": "user", "content": text}]
    return CallModel(effect, TASK, number, "some-model", encode({"messages": messages, **more}), "", "dsp_1")


@asynccontextmanager
async def bench(
    url: str, limits: Amounts | None = None, timeout: float = 10.0, patience: float = 300.0, price: Price | None = None
) -> AsyncIterator[Bench]:
    prices = None if price is None else {"some-model": price}
    one = Bench(Endpoint(url, "secret-key", timeout, patience), prices)
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


class TestAnswered:
    def test_record_has_all_that_was_sent_and_came_back(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call(temperature=0.5))
            assert record["request"] == one.model.requests[0]
            assert record["request"]["temperature"] == 0.5
            assert record["response"]["choices"][0]["message"]["content"] == "hello"
            assert (record["model"], record["model_reported"], record["endpoint"]) == ("some-model", "scripted-1", one.model.base_url)
            assert record["system_hash"] == hashlib.sha256(b"You greet.").hexdigest()
            assert (record["tries"], record["price"], record["error"]) == (1, None, None)
            assert record["latency_ms"] > 0
            assert "secret-key" not in json.dumps(record) + repr(one.wire.endpoint)

        run({"model": "scripted-1", **HELLO}, scenario)

    def test_actual_is_settled_and_what_was_held_given_back(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            usage = record["response"]["usage"]
            assert record["usage"] == {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
            assert await one.used() == {"tokens": usage["total_tokens"], "steps": 1}

        run(HELLO, scenario)

    def test_price_is_exact_and_charged(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            usage = record["usage"]
            expected = usage["input_tokens"] * Decimal("0.001") + usage["output_tokens"] * Decimal("0.01")
            assert Decimal(record["price"]) == expected == (await one.used())["usd"]

        run(HELLO, scenario, limits={"usd": Decimal(50)}, price=CHEAP)

    def test_usage_that_is_not_reported_is_charged_as_reserved(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call(max_completion_tokens=100))
            usage = record["usage"]
            assert usage["output_tokens"] == 100
            assert usage["input_tokens"] > 512
            assert usage["unreported_tokens"] == usage["input_tokens"] + 100 == (await one.used())["tokens"]

        run({"rules": [{"answer": {"text": "hello", "usage": False}}]}, scenario, price=CHEAP)


class TestCap:
    @pytest.mark.parametrize(
        ("asked", "cap"), [({}, 4096), ({"max_completion_tokens": 300}, 300), ({"max_tokens": 200}, 200), ({"max_completion_tokens": 5}, 5)]
    )
    def test_endpoint_is_told_the_cap(self, asked: dict[str, Any], cap: int) -> None:
        async def scenario(one: Bench) -> None:
            await one.record(call(**asked))
            assert one.model.requests[0]["max_completion_tokens"] == cap
            assert one.model.requests[0]["max_tokens"] == cap, "an endpoint of one's own may know only the old name"

        run(HELLO, scenario)

    def test_cap_is_lowered_to_what_the_budget_leaves(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            cap = one.model.requests[0]["max_completion_tokens"]
            assert 16 <= cap < 1_000 - 512
            assert record["response"]["choices"][0]["finish_reason"] == "length"
            assert (await one.used())["tokens"] <= 1_000

        run({"rules": [{"answer": {"text": "x" * 9_999}}]}, scenario, limits={"tokens": 1_000})

    @pytest.mark.parametrize(("limits", "meter"), [({"tokens": 500}, "tokens"), ({"steps": 0}, "steps"), ({"usd": Decimal("0.5")}, "usd")])
    def test_budget_too_small_refuses_before_anything_is_sent(self, limits: Amounts, meter: str) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            assert (record["error"]["code"], record["error"]["facts"]["limit"]) == ("budget_exceeded", meter)
            assert (one.model.count, record["tries"], record["usage"]) == (0, 0, {"input_tokens": 0, "output_tokens": 0})

        run(HELLO, scenario, limits=limits, price=CHEAP)

    def test_parallel_calls_cannot_overrun_together(self) -> None:
        async def scenario(one: Bench) -> None:
            records: list[Any] = []
            frames = [call(f"eff_{n}") for n in range(6)]
            back = await one.exchange(*frames)
            while len(records) < 6:
                records += [json.loads(frame.record) for frame in back]
                back = await one.exchange() if len(records) < 6 else []
            assert {record["error"] and record["error"]["code"] for record in records} >= {"budget_exceeded"}
            assert (await one.used())["tokens"] <= 3_000

        run({"rules": [{"answer": {"text": "x" * 9_999, "usage": False}}]}, scenario, limits={"tokens": 3_000})

    @pytest.mark.parametrize(
        ("frame", "limits", "code"),
        [(call(), {"usd": Decimal(5)}, "unknown_price"), (call(n=5), {"tokens": 100_000}, "unbounded_call")],
    )
    def test_what_may_cost_anything_is_not_sent(self, frame: CallModel, limits: Amounts, code: str) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(frame)
            assert (record["error"]["code"], one.model.count) == (code, 0)

        run(HELLO, scenario, limits=limits)


class TestRetries:
    @pytest.mark.parametrize("status", [429, 409, 500, 503])
    def test_refused_for_now_is_tried_again_and_charged_once(self, status: int) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            assert (record["tries"], record["error"], one.model.count) == (3, None, 3)
            assert (await one.used()) == {"tokens": sum(record["usage"].values()), "steps": 1}
            assert "unreported_tokens" not in record["usage"]
            assert 0.25 <= one.waits[0] <= 0.5 <= one.waits[1] <= 1.0

        run(failing("status", 2, status=status), scenario)

    def test_retry_after_is_honoured(self) -> None:
        async def scenario(one: Bench) -> None:
            await one.record(call())
            assert one.waits == [7.0]

        run(failing("status", 1, status=429, retry_after=7), scenario)

    def test_a_wait_beyond_the_patience_ends_it_at_once(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            assert (record["error"]["code"], record["tries"], one.waits) == ("model_failed", 1, [])
            assert "3600 s" in record["error"]["message"]
            assert await one.used() == {"tokens": 0, "steps": 1}

        run(failing("status", status=429, retry_after=3600), scenario)

    def test_after_four_tries_it_fails_with_the_reason_and_no_tokens(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            assert (record["error"]["code"], record["tries"], one.model.count) == ("model_failed", 4, 4)
            assert "after 4 attempts: HTTP 500: on fire" in record["error"]["message"]
            assert record["response"] is None
            assert Decimal(record["price"]) == 0
            assert await one.used() == {"tokens": 0, "steps": 1, "usd": 0}

        run(failing("status", status=500, message="on fire"), scenario, price=CHEAP)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
    def test_refused_for_good_is_not_tried_again(self, status: int) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            assert (record["error"]["code"], record["error"]["facts"]["status"], one.model.count) == ("model_refused", status, 1)
            assert await one.used() == {"tokens": 0, "steps": 1}

        run(failing("status", status=status), scenario)

    @pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "garbage"}, {"kind": "status", "status": 504}])
    def test_maybe_done_is_charged_in_full_and_tried_again(self, fault: dict[str, Any]) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call(max_completion_tokens=50))
            usage = record["usage"]
            assert (record["error"], one.model.count) == (None, 2)
            assert usage["unreported_tokens"] > 512 + 50
            assert await one.used() == {"tokens": usage["input_tokens"] + usage["output_tokens"], "steps": 1}

        run(failing(times=1, **fault), scenario)

    def test_maybe_done_holds_anew_and_stops_where_the_budget_ends(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call(max_completion_tokens=200))
            assert (record["error"]["code"], one.model.count) == ("budget_exceeded", 2)
            assert (await one.used())["tokens"] <= 2_000

        run(failing("drop"), scenario, limits={"tokens": 2_000})

    def test_hang_ends_by_the_timeout(self) -> None:
        async def scenario(one: Bench) -> None:
            record = await one.record(call())
            assert record["error"]["code"] == "model_failed"
            assert "no answer within 0.05 s" in record["error"]["message"]
            assert record["usage"]["unreported_tokens"] == (await one.used())["tokens"] > 0
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.dropped == one.model.count)

        run(failing("hang"), scenario, timeout=0.05, patience=0.2)

    def test_unreachable_endpoint_is_named(self) -> None:
        async def scenario() -> None:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
            async with bench(f"http://someone:password@127.0.0.1:{port}/v1") as one:
                record = await one.record(call())
                assert (record["error"]["code"], record["tries"]) == ("model_failed", 4)
                assert f"at http://127.0.0.1:{port}/v1 gave no answer after 4 attempts: no connection" in record["error"]["message"]
                assert "password" not in json.dumps(record)
                assert await one.used() == {"tokens": 0, "steps": 1}

        asyncio.run(scenario())


class TestAttachAndCancel:
    def test_same_call_attaches(self) -> None:
        async def scenario(one: Bench) -> None:
            await one.record(call(), call())
            one.gateway.take(call())  # again, before its record is acknowledged
            assert one.gateway.holds() == []
            assert one.model.count == 1
            await one.record(call(number=2))
            assert one.model.count == 2

        run(HELLO, scenario)

    def test_new_orchestrator_is_told_what_runs_and_gets_the_record_again(self) -> None:
        async def scenario(one: Bench) -> None:
            first = await one.ended(call())
            (_, _, _, _, holds), back = unpack(await one.gateway.exchange(pack([2, 1, 0, 0, False], [call()])))
            assert (holds, back, one.model.count) == ([], [first], 1)

        run(HELLO, scenario)

    def test_cancel_closes_the_connection_and_charges_in_full(self) -> None:
        async def scenario(one: Bench) -> None:
            waiting = asyncio.create_task(one.record(call(max_completion_tokens=50)))
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.count == 1)
            assert one.gateway.holds() == ["eff_1#1"]
            one.gateway.take(CancelCall("eff_1"))
            record = await waiting
            assert (record["error"]["code"], one.gateway.holds()) == ("call_cancelled", [])
            assert record["usage"]["unreported_tokens"] == (await one.used())["tokens"] > 512 + 50
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.dropped == 1)

        run(failing("hang"), scenario)

    def test_cancel_before_anything_was_sent_costs_a_step_only(self) -> None:
        async def scenario(one: Bench) -> None:
            one.gateway.take(call())
            one.gateway.take(CancelCall("eff_1"))
            record = await one.record()
            assert (record["error"]["code"], one.model.count) == ("call_cancelled", 0)
            assert await one.used() == {"tokens": 0, "steps": 1}

        run(HELLO, scenario)

    def test_cancel_task_stops_its_calls_and_no_others(self) -> None:
        async def scenario(one: Bench) -> None:
            await one.budgets.open("tsk_2", {"tokens": 100_000}, 0)
            for frame in (call("eff_b"), call("eff_a"), call("eff_c")._replace(task="tsk_2")):
                one.gateway.take(frame)
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.count == 3)
            assert await one.gateway.cancel_task(TASK) == ["eff_a", "eff_b"]
            assert one.gateway.holds() == ["eff_c#1"]
            await one.used()
            assert await one.gateway.cancel_task(TASK) == []

        run(failing("hang"), scenario)

    def test_fault_of_ours_is_an_ended_call_not_a_lost_one(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(one: Bench) -> None:

            async def broken(_: Any) -> Any:
                raise OSError("disk full")

            monkeypatch.setattr(one.budgets, "reserve", broken)
            record = await one.record(call())
            assert "OSError: disk full" in record["error"]["message"]
            assert "eff_1#1" in caplog.text

        run(HELLO, scenario)


def test_span_says_what_it_cost_and_nothing_of_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(call_module, "_tracer", provider.get_tracer("test"))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def scenario(one: Bench) -> None:
        await one.record(call(text="a secret question")._replace(traceparent=parent))
        await one.record(call("eff_2", n=2))

    run({"rules": [{"answer": {"text": "a secret answer"}}]}, scenario)
    done, refused = spans.get_finished_spans()
    assert (done.name, done.kind.name, f"{done.context.trace_id:x}") == ("chat some-model", "CLIENT", "af7651916cd43dd8448eb211c80319c")
    assert done.parent is not None
    assert f"{done.parent.span_id:x}" == "b7ad6b7169203331"
    assert dict(done.attributes or {}).keys() >= {"gen_ai.request.model", "gen_ai.usage.output_tokens", "interlock.effect.id"}
    assert "secret" not in done.to_json()
    assert (refused.attributes or {})["error.type"] == "unbounded_call"
