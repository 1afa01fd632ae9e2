"""The wire to a model: what each failure means, over HTTP and in memory alike."""

import asyncio
from typing import Any

import pytest

from interlock.actors.models.wire import ChatCompletions, Endpoint, Wire, WireFailed, status_failure
from interlock.testing.scripted_model import ScriptedModel
from interlock.testing.scripted_wire import ScriptedWire
from interlock.testing.virtual_time import run as run_virtually

OK = {"answer": {"text": "hello"}}


def failing(kind: str, **more: Any) -> dict[str, Any]:
    return {"rules": [{"fault": {"kind": kind, **more}}]}


PLAYS = {
    "answer": ({"rules": [OK]}, None),
    "429": (failing("status", status=429, retry_after=2, message="slow"), ("HTTP 429: slow", True, False, 429, 2.0)),
    "400": (failing("status", status=400, message="bad"), ("HTTP 400: bad", False, False, 400, None)),
    "504": (failing("status", status=504, message="late"), ("HTTP 504: late", True, True, 504, None)),
    "hang": (failing("hang"), ("no answer within 0.5 s", True, True, 0, None)),
    "drop": (failing("drop"), ("connection lost", True, True, 0, None)),
    "garbage": (failing("garbage"), ("the answer is no chat completion", True, True, 0, None)),
}


@pytest.mark.parametrize("play", PLAYS)
def test_twin_without_a_network_answers_and_fails_alike(play: str) -> None:
    """One scenario against both wires: HTTP on loopback, and memory on virtual time."""
    playbook, expected = PLAYS[play]
    request = {"model": "m", "messages": [{"role": "user", "content": "é"}], "max_completion_tokens": 99}

    async def scenario(wire: Wire) -> Any:
        try:
            return await wire.call(request, 0.5 if play == "hang" else 5.0)
        except WireFailed as failed:
            return failed.problem, failed.again, failed.maybe_done, failed.status, failed.wait
        finally:
            await wire.close()

    with ScriptedModel.start(playbook) as model:
        real = asyncio.run(scenario(ChatCompletions(Endpoint(model.base_url))))
        twin = ScriptedWire(playbook, Endpoint("http://memory/v1"))
        simulated = run_virtually(scenario(twin))
        assert model.requests == twin.requests == [request]
        assert twin.count == 1
    if expected is None:
        assert real == simulated
    else:
        assert real[0].startswith(expected[0])
        assert simulated[0].startswith(expected[0])
        assert real[1:] == simulated[1:] == expected[1:]


def test_both_say_what_a_request_counts_and_no_number_where_nobody_counts() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "é" * 90}], "max_completion_tokens": 99}

    async def scenario(wire: Wire) -> list[int | None]:
        try:
            return [await wire.counted(path, request) for path in ("/tokenize", "/nowhere")]
        finally:
            await wire.close()

    with ScriptedModel.start({"rules": [OK]}) as model:
        real = asyncio.run(scenario(ChatCompletions(Endpoint(model.base_url))))
        assert model.count == 0, "a count is no call of a model"
    assert real == run_virtually(scenario(ScriptedWire({"rules": [OK]}, Endpoint("http://memory/v1"))))
    assert real[0] is not None
    assert real[0] < len(str(request))
    assert real[1] is None


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "604800"}, 3600.0),
        ({"retry-after": "9" * 400}, 3600.0),
        ({"retry-after-ms": "9" * 400}, 3600.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 3600.0),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after-ms": "nan"}, None),
    ],
)
def test_how_long_the_endpoint_asks_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert status_failure(429, "slow", None, headers).wait == wait


def test_spent_quota_is_not_tried_again() -> None:
    assert not status_failure(429, "pay first", "insufficient_quota", {}).again
    assert status_failure(429, "slow", "rate_limit_exceeded", {}).again
