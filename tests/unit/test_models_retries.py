"""What the gateway does where an endpoint refuses, hangs or cannot be reached: whether it tries again, and what it charges for it."""

import asyncio
import json
import socket
from decimal import Decimal
from typing import Any

import pytest
from model_bench import CHEAP, Bench, bench, call, failing, run


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
