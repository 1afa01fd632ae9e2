"""The cap on an answer: how an endpoint is told, and what follows where it does not keep to it."""

import json
from typing import Any

import pytest
from model_bench import CHEAP, HELLO, TASK, Bench, call, run

from interlock.actors.models.wire import Answer, ChatCompletions, Endpoint, read_answer
from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import MemoryJournal


def test_openai_is_told_by_one_name_and_others_by_both() -> None:
    assert Endpoint("https://api.openai.com/v1").capped(5) == {"max_completion_tokens": 5}
    assert Endpoint("http://localhost:11434/v1").capped(5) == {"max_completion_tokens": 5, "max_tokens": 5}


@pytest.mark.parametrize(("limits", "refused"), [({"tokens": 100_000}, True), ({"usd": 1000}, True), ({"steps": 9}, False)])
def test_an_endpoint_that_overran_its_cap_gets_nothing_limited_again(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], refused: bool
) -> None:
    async def scenario(one: Bench) -> None:
        async def overrun(self: ChatCompletions, request: dict[str, Any], seconds: float) -> Answer:
            return Answer(b"{}", {}, (10, 60, 0))

        monkeypatch.setattr(ChatCompletions, "call", overrun)
        assert (await one.record(call(max_completion_tokens=50)))["error"] is None
        error = (await one.record(call(number=2, max_completion_tokens=50)))["error"]
        assert (error is not None) == refused
        if refused:
            assert error["code"] == "unbounded_call"
            assert "answered with 60 tokens where 50 were allowed" in error["message"]

    run(HELLO, scenario, limits=limits, price=CHEAP)


def test_every_gateway_and_the_next_supervisor_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(one: Bench) -> None:
        async def overrun(self: ChatCompletions, request: dict[str, Any], seconds: float) -> Answer:
            return Answer(b"{}", {}, (10, 60, 0))

        monkeypatch.setattr(ChatCompletions, "call", overrun)
        assert (await one.record(call(max_completion_tokens=50)))["error"] is None
        error = (await one.record(call(number=2, max_completion_tokens=50)))["error"]
        assert error["code"] == "unbounded_call"
        endpoint = one.gateway._desk.wire.endpoint.shown
        await one.budgets.overran(endpoint, call().model, 99, 1)
        store = one.budgets._journal.store  # type: ignore[attr-defined]
        assert [row.kind for row in store].count("overrun") == 1
        heir = SupervisorBudgets(MemoryJournal(one.clock, store), one.clock, lambda task, why: None)
        for row in store:
            heir.apply(row)
        limited = await heir.limited(TASK)
        refused = heir.meters.caps.unbound(endpoint, call().model, ["usd"], limited)
        assert "60 tokens where 50 were allowed" in str(refused)
        assert heir.meters.caps.unbound(endpoint, "another", ["usd"], limited) is None

    run(HELLO, scenario, price=CHEAP)


@pytest.mark.parametrize("usage", [2**64, True, 2**33])
def test_usage_that_cannot_be_is_none(usage: Any) -> None:
    body = {"choices": [{"message": {}}], "usage": {"prompt_tokens": usage, "completion_tokens": 1}}
    assert read_answer(json.dumps(body).encode()).usage is None
