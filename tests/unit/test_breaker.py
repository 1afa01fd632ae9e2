"""Circuit breakers: what is out of order is left alone and tried by one, and only what speaks of the other side counts."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_bench import Bench, call, failing, run

from interlock import AgentContext, App, Budget, Message, WorkflowContext
from interlock.actors.models.breakers import Breakers
from interlock.actors.models.wire import WireFailed
from interlock.schemas.breaker import Breaker
from interlock.schemas.errors import BadDeclaration, ToolFailed, ToolTimeout, WorkFailed
from interlock.schemas.frames import BreakerMoved, pack, unpack
from interlock.testing import virtual_time
from interlock.testing.simulation import Simulation, simulate
from interlock.tools.outages import is_outage
from interlock.tools.tool import declare

BOUND, PAUSE = 3, 10.0

steps = st.lists(st.tuples(st.sampled_from(["ask", "fail", "succeed"]), st.floats(0, 25)), max_size=60)


@given(steps)
def test_it_is_open_after_so_many_failures_in_a_row_and_lets_one_pass_per_pause(plan: list[tuple[str, float]]) -> None:
    breaker, now, row, again = Breaker(BOUND, PAUSE), 0.0, 0, None
    for what, wait in plan:
        now += wait
        if what == "fail":
            row += 1
            assert breaker.failed(now, "down") == (row == BOUND)
            again = now + PAUSE if row >= BOUND else None
        elif what == "succeed":
            assert breaker.succeeded() == (row >= BOUND)
            row, again = 0, None
        else:
            stopped = breaker.stops(now)
            assert (stopped is not None) == (again is not None and now < again)
            if stopped is not None and again is not None:
                assert (stopped.failures, stopped.again) == (row, pytest.approx(again - now))
            elif again is not None:
                again = now + PAUSE
        assert (breaker.broken(now) is not None) == (row >= BOUND)


# --- models ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "counts"), [(0, True), (500, True), (503, True), (408, True), (400, False), (404, False), (429, False)])
def test_only_what_speaks_of_the_endpoint_counts_against_it(status: int, counts: bool) -> None:
    async def main() -> None:
        moved: list[BreakerMoved] = []
        breakers = Breakers("e", moved.append)
        for _ in range(20):
            breakers.failed("m", WireFailed("no", again=True, maybe_done=False, status=status))
        assert (breakers.stops("m") is not None) == counts == bool(moved)
        assert breakers.stops("other") is None
        breakers.failed("m", WireFailed("no", again=False, maybe_done=False, status=401))
        assert breakers.stops("m") is None, "who says no is there"
        assert [one.open for one in moved] == ([True, False] if counts else [])

    virtual_time.run(main())


def test_a_model_that_is_down_is_not_called_and_the_call_says_why() -> None:
    async def scenario(one: Bench) -> None:
        assert (await one.record(call()))["tries"] == 4
        told = await one.exchange(call(effect="eff_2"))
        while len(told) < 2:
            told += await one.exchange()
        moved, ended = told
        assert moved == BreakerMoved("some-model", one.wire.endpoint.shown, True, 5, "HTTP 503: on fire")
        assert b"after 5 failures in a row, the last one: HTTP 503: on fire; it is tried again in 30 s" in ended.record
        assert one.model.count == 5, "the second call was tried once and then ended"
        await one.used()
        (_, again) = unpack(await one.gateway.exchange(pack([2, 1, 0, 0, False], [])))
        assert moved in again, "another orchestrator is told too"

    run(failing("status", 5, status=503, message="on fire"), scenario)


# --- tools -----------------------------------------------------------------------------------------------------------------------


class Answered(Exception):
    def __init__(self, status: int) -> None:
        self.response = SimpleNamespace(status_code=status)


def raised_from(cause: BaseException) -> ValueError:
    error = ValueError("no price")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (ToolTimeout(tool="t", seconds="1"), True),
        (httpx2.ConnectError("no route"), True),
        (Answered(503), True),
        (raised_from(ConnectionResetError()), True),
        (Answered(404), False),
        (raised_from(KeyError("x")), False),
        (FileNotFoundError(), False),
        (ToolFailed(tool="t", problem="no such order", remedy="Ask for another."), False),
        (SystemExit(700), False),
    ],
)
def test_an_outage_speaks_of_the_other_side(error: BaseException, outage: bool) -> None:
    assert is_outage(error) is outage


def price() -> int:
    """The price."""
    return 1


def test_a_number_of_outages_is_none_or_more() -> None:
    assert (declare(price, effect="read").spec.breaker, declare(price, effect="read", breaker=None).spec.breaker) == (5, 0)
    with pytest.raises(BadDeclaration, match="no number of outages"):
        declare(price, effect="read", breaker=-1)


class Go(Message, contract="breaker.go", version="1.0.0"):
    wait: float = 0.0


class Said(Message, contract="breaker.said", version="1.0.0"):
    code: str
    words: str = ""


app = App("breaker")
world: dict[str, Any] = {}


@app.tool(effect="read", breaker=2)
async def look(n: int) -> int:
    """Look."""
    world["calls"] += 1
    if world["down"]:
        raise ConnectionError("nobody at home")
    return n


@app.agent("looker", version="1.0.0", tools=[look])
async def looker(request: Go, ctx: AgentContext) -> Said:
    try:
        await ctx.call(look, n=1)
    except WorkFailed as error:
        return Said(code=error.code, words=str(error))
    return Said(code="ok")


@app.workflow("flow", version="1.0.0", budget=Budget(seconds=None))
async def flow(request: Go, ctx: WorkflowContext) -> Said:
    return await ctx.ask(request, returns=Said)


def test_a_tool_is_left_alone_by_the_whole_bus_while_its_system_is_down() -> None:
    async def main(sim: Simulation) -> None:
        async def once(id: str) -> dict[str, Any]:
            task = await sim.bus.submit(flow, Go(), id=id)
            return (await task.result()).model_dump()

        world.update(calls=0, down=True)
        assert [(await once(f"a{n}"))["code"] for n in range(4)] == ["tool_failed", "tool_failed", "circuit_open", "circuit_open"]
        assert "after 2 failures in a row, the last one: ConnectionError: nobody at home" in (await once("b"))["words"]
        assert world["calls"] == 2
        (shown,) = (await sim.bus.status())["breakers"]
        assert (shown["what"], shown["failures"]) == ("tool look", 2)
        await asyncio.sleep(31)
        world["down"] = False
        await sim.engine.limits.limit("type:flow", "", {"steps": 0}, "ann", "none at all")
        poor = await sim.bus.submit(flow, Go(), id="poor")
        assert await poor.outcome() == "budget_exceeded"  # who is not let through takes nobody's place
        await sim.engine.limits.limit("type:flow", "", {"steps": None}, "ann", "as before")
        assert (await once("c"))["code"] == "ok"
        assert (await sim.bus.status())["breakers"] == []
        assert (await once("d"))["code"] == "ok"

    simulate(main, app)
