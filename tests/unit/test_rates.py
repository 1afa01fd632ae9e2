"""Rates of models: no minute has more than is declared, tasks take turns, and what an endpoint asks for holds for all."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import App, Budget, Message, WorkflowContext
from interlock.actors.models.rates import Rate, read_rates
from interlock.actors.supervisor.rates import MINUTE, Rates
from interlock.cli.cluster import _rate
from interlock.schemas.errors import BadDeclaration
from interlock.testing.simulation import Simulation, simulate

LIMITS = (4, 100)
LANE = "m at e"

steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 150), st.floats(0, 30), st.one_of(st.none(), st.integers(0, 150))), max_size=60
)


@given(steps)
def test_no_minute_has_more_than_is_declared(plan: list[tuple[str, int, float, int | None]]) -> None:
    rates, now, sent = Rates(), 0.0, list[list[float]]()
    for number, (task, tokens, wait, came_to) in enumerate(plan):
        now += wait
        if rates.turn(LANE, str(number), task, ("t", task), tokens, LIMITS, now) == 0:
            sent.append([now, min(tokens, LIMITS[1])])
            if came_to is not None and came_to <= tokens:
                rates.came_to(LANE, str(number), min(came_to, LIMITS[1]))
                sent[-1][1] = min(came_to, LIMITS[1])
            assert rates.turn(LANE, str(number), task, ("t", task), tokens, LIMITS, now) == 0, "who asks again has its turn already"
        recent = [amount for at, amount in sent if at > now - MINUTE]
        assert len(recent) <= LIMITS[0]
        assert sum(recent) <= LIMITS[1]


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 12), min_size=1), st.integers(1, 5))
def test_tasks_take_turns_however_many_calls_one_has(calls: dict[str, int], limit: int) -> None:
    """Whoever waits all the time comes again only when each other that waits has had its turn."""
    rates, now, got = Rates(), 0.0, list[str]()
    open = {(task, n) for task, many in calls.items() for n in range(many)}
    assert rates.turn(LANE, "first", "z", ("t", "z"), 1, (1, None), now) == 0
    for task, n in sorted(open):
        assert rates.turn(LANE, f"{task}{n}", task, ("t", "z"), 1, (1, None), now) > 0
    while open:
        now += 5.0
        passed = sorted((task, n) for task, n in open if rates.turn(LANE, f"{task}{n}", task, ("t", "z"), 1, (limit, None), now) == 0)
        open -= set(passed)
        got += [task for task, _ in passed]
        assert now < 10_000
        left = Counter(task for task, _ in open)
        had = Counter(got)
        assert all(had[one] >= had[other] - 1 for one in left for other in calls), "no task is a turn ahead of one that still waits"


def test_a_tenant_with_many_tasks_keeps_the_task_of_another_waiting_for_one_turn() -> None:
    rates, got = Rates(), list[str]()
    assert rates.turn(LANE, "first", "z", ("t", "acme"), 1, (1, None), 0.0) == 0
    open = [(f"a{n}", ("t" if n % 2 else "u", "acme")) for n in range(40)] + [("b", ("t", "other")), ("c", ("v", "acme"))]
    for now in range(0, 10_000, 5):
        went = [one for one in open if rates.turn(LANE, one[0], one[0], one[1], 1, (1, None), now) == 0]
        open = [one for one in open if one not in went]
        got += [task for task, _ in went]
        if {"b", "c"} <= set(got):
            break
    assert got.index("b") <= 1
    assert got.index("c") <= 4, "types of one tenant take turns too"


def test_an_endpoint_that_asks_for_it_is_left_alone_and_then_approached_slowly() -> None:
    rates, now = Rates(), 100.0
    rates.shut(LANE, 20.0, now)
    assert rates.turn(LANE, "a", "a", ("t", "z"), 1, (None, None), now) == 20.0
    ids = ["a", *(f"b{n}" for n in range(30))]
    through: list[int] = []
    for second in (19.0, 20.0, 21.0, 22.0):
        went = [id for id in ids if rates.turn(LANE, id, id, ("t", "z"), 1, (None, None), now + second) == 0]
        ids = [id for id in ids if id not in went]
        through.append(len(went))
    assert through == [0, 1, 2, 4]


def test_who_does_not_ask_again_is_forgotten() -> None:
    rates = Rates()
    assert rates.turn(LANE, "a", "a", ("t", "z"), 1, (1, None), 0.0) == 0
    assert rates.turn(LANE, "gone", "gone", ("t", "z"), 1, (1, None), 1.0) > 0
    assert rates.turn(LANE, "b", "b", ("t", "z"), 1, (1, None), 59.0) > 0
    assert rates.turn(LANE, "b", "b", ("t", "z"), 1, (1, None), 60.5) == 0
    (shown,) = rates.shown(60.5)
    assert (shown["requests"], shown["of_requests"], shown["waiting"]) == (1, 1, 0)
    assert _rate(shown) == "Model m at e: 1 of 1 requests and 1 tokens in the last minute, 0 calls wait."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "it is not a JSON object"),
        ("{", "cannot be read"),
        ('{"m": {}}', "has not"),
        ('{"m": {"request": 1}}', "has not"),
        ('{"m": {"tokens": 0}}', "no whole"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_words(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "rates.json"
    file.write_text(text)
    with pytest.raises(BadDeclaration, match=problem):
        read_rates(str(file))
    file.write_text('{"m": {"requests": 5}, "*": {"tokens": 9}}')
    assert read_rates(str(file)) == {"m": Rate(5, None), "*": Rate(None, 9)}
    assert read_rates("") == {}


class Go(Message, contract="rates.go", version="1.0.0"):
    pass


class Done(Message, contract="rates.done", version="1.0.0"):
    pass


app = App("rates")
app.agent("worker", version="1.0.0", instructions="Do it.", accepts=Go, returns=Done)


@app.workflow("flow", version="1.0.0", budget=Budget(tokens=100_000, seconds=None))
async def flow(request: Go, ctx: WorkflowContext) -> Done:
    return await ctx.ask(request, returns=Done)


def test_calls_wait_for_their_turn_on_a_bus(tmp_path: Path) -> None:
    file = tmp_path / "rates.json"
    file.write_text('{"scripted-1": {"requests": 2}}')

    async def main(sim: Simulation) -> None:
        tasks = [await sim.bus.submit_json("flow", {}, id=f"t{n}") for n in range(5)]
        first = await tasks[0].outcome()
        status: Any = await sim.bus.status()
        assert (first, status["rates"][0]["requests"], status["rates"][0]["of_requests"]) == ("success", 2, 2)
        assert [await task.outcome() for task in tasks] == ["success"] * 5
        assert sim.clock.now() - start >= 120 * 1_000_000, "five calls at two a minute"
        assert sim.script is not None
        assert sim.script.count == 5

    start = 0

    def arm(sim: Simulation) -> None:
        nonlocal start
        start = sim.clock.now()
        sim._model = sim._model.__class__(model="scripted-1", rates=str(file))

    simulate(main, app, {"rules": [{"answer": {"json": {}}}]}, arm=arm)


def test_what_one_gateway_is_told_holds_back_the_others() -> None:
    async def main(sim: Simulation) -> None:
        assert sim.script is not None
        await sim.bus.scale("models", 2)
        await asyncio.sleep(5)
        began = asyncio.get_running_loop().time()
        tasks = [await sim.bus.submit_json("flow", {}, id="first")]
        await asyncio.sleep(1)
        tasks += [await sim.bus.submit_json("flow", {}, id=f"t{n}") for n in range(4)]
        await asyncio.sleep(50)
        assert [sim.engine.calls.gateways[n].load for n in (0, 1)] in ([2, 3], [3, 2])
        assert sim.script.count == 1, "one call was answered with a Retry-After, and no gateway sent another"
        assert [await task.outcome() for task in tasks] == ["success"] * 5
        assert asyncio.get_running_loop().time() - began > 60

    simulate(main, app, {"rules": [{"fault": {"kind": "status", "status": 429, "retry_after": 60}, "times": 1}, {"answer": {"json": {}}}]})
