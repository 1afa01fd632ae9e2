"""The gateway against a real endpoint on loopback and the real meters: what is sent, charged and recorded, whatever goes wrong."""

import asyncio
import hashlib
import json
from decimal import Decimal
from typing import Any

import pytest
from model_bench import CHEAP, HELLO, TASK, Bench, call, failing, run
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interlock.actors.models import call as call_module
from interlock.schemas.budget import Amounts
from interlock.schemas.frames import CallModel, CancelCall, carried, pack, unpack


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


class TestAttachAndCancel:
    def test_same_call_attaches(self) -> None:
        async def scenario(one: Bench) -> None:
            await one.record(call(), call())
            one.gateway.take(call())  # again, before its record is acknowledged
            assert (one.gateway.holds(), one.gateway.busy()) == (["eff_1#1 dsp_1"], False)  # its record is nobody's yet
            assert one.model.count == 1
            await one.record(call(number=2))
            assert one.model.count == 2

        run(HELLO, scenario)

    def test_new_orchestrator_is_told_what_runs_and_gets_the_record_again(self) -> None:
        async def scenario(one: Bench) -> None:
            first = await one.ended(call())
            (_, _, _, _, holds), back = unpack(await one.gateway.exchange(pack([2, 1, 0, 0, False], carried([call()]))))
            assert (holds, back, one.model.count) == (["eff_1#1 dsp_1"], [first], 1)

        run(HELLO, scenario)

    def test_cancel_closes_the_connection_and_charges_in_full(self) -> None:
        async def scenario(one: Bench) -> None:
            waiting = asyncio.create_task(one.record(call(max_completion_tokens=50)))
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.count == 1)
            assert one.gateway.holds() == ["eff_1#1 dsp_1"]
            one.gateway.take(CancelCall("eff_1"))
            record = await waiting
            assert (record["error"]["code"], one.gateway.busy()) == ("call_cancelled", False)
            assert record["usage"]["unreported_tokens"] == (await one.used())["tokens"] > 512 + 50
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.dropped == 1)

        run(failing("hang"), scenario)

    def test_a_kill_closes_the_connections_of_all_its_calls_within_a_second(self) -> None:
        async def scenario(one: Bench) -> None:
            await one.exchange(call("eff_1"), call("eff_2"))
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.count == 2)
            assert await one.gateway.cancel_all([TASK, "tsk_other"])
            assert not one.gateway.busy()
            await asyncio.to_thread(one.model.wait_until, lambda: one.model.dropped == 2, 1.0)

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
            assert one.gateway.holds()[0] == "eff_c#1 dsp_1"
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
