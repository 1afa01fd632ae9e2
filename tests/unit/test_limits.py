"""Limits of one task: each meter by itself, what an operator says of them, and what is said before and after they are reached."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Message, WorkflowContext
from interlock.actors.models.learned import Learned
from interlock.actors.supervisor.meters import Meters
from interlock.schemas import entries as e
from interlock.schemas.errors import AlreadyEnded, BadDeclaration, TaskFailed, UnknownTask
from interlock.schemas.ports import Reservation
from interlock.testing import playbook
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="limits.go", version="1.0.0"):
    asks: int = 0
    human: bool = False
    sleep: float = 0


def made(budget: Budget) -> App:
    """A workflow that asks so often, then a human, then sleeps; each ask takes a second and a read."""
    app = App("limited")

    @app.tool(effect="read")
    async def look() -> int:
        """Look."""
        await asyncio.sleep(1)
        return 1

    @app.agent("looker", version="1.0.0", tools=[look])
    async def looker(request: Go, ctx: AgentContext) -> Go:
        await ctx.call(look)
        return request

    @app.workflow("flow", version="1.0.0", budget=budget)
    async def flow(request: Go, ctx: WorkflowContext) -> Go:
        for n in range(request.asks):
            await ctx.ask(Go(asks=n), returns=Go)
        if request.human:
            await ctx.ask_human("Go on?")
        if request.sleep:
            await ctx.sleep(request.sleep)
        return request

    return app


async def begin(sim: Simulation, **go: Any) -> Any:
    return await sim.bus.submit(sim.app.workflows["flow"], Go(**go), id="a")


def of(sim: Simulation, kind: type[Any], task: str = "tsk_a") -> list[Any]:
    return [fact for entry in sim.store.reader.entries(task) if isinstance(fact := entry.open(), kind)]


async def failure(task: Any) -> TaskFailed:
    with pytest.raises(TaskFailed) as failed:
        await task.result()
    return failed.value


@pytest.mark.parametrize("crashed", [False, True])
def test_messages_are_counted_over_every_crash(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, asks=5)
        await asyncio.sleep(1.5)
        if crashed:
            sim.crash_engine(down=1.0)
        failed = await failure(task)
        assert failed.outcome == "budget_exceeded"
        assert "The task's limit on messages is reached: 3 allowed, 3 used, 0 reserved, 1 more asked" in failed.reason
        assert len(of(sim, e.MessageSent)) == 3

    simulate(main, made(Budget(messages=3)))


@pytest.mark.parametrize("crashed", [False, True])
def test_working_seconds_stand_still_while_a_human_is_waited_for(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = await begin(sim, asks=2, human=True, sleep=1000)
        await asyncio.sleep(300)  # it is parked by now
        if crashed:
            sim.crash_engine()
        ((item,),) = [[row["item"] for row in await sim.bus.inbox.list()]]
        budget = await task.budget()
        assert 1.9 < Decimal(budget["meters"]["working_seconds"]["used"]) < 3
        await sim.bus.inbox.approve(item)
        failed = await failure(task)
        assert failed.outcome == "budget_exceeded"
        assert "The task's limit on working_seconds is reached: 50" in failed.reason
        assert 347 < loop.time() - began < 350

    simulate(main, made(Budget(seconds=None, working_seconds=50)))


def test_an_operator_raises_and_lowers_a_live_task() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, asks=6)
        await asyncio.sleep(1.5)
        await task.change_budget({"steps": 8, "usd": "1.00"}, "it is a long one", by="ann")
        sim.crash_supervisor(down=0.5)
        sim.crash_engine(down=0.5)
        await asyncio.sleep(3)
        meters = (await task.budget())["meters"]
        assert (meters["steps"]["limit"], meters["usd"]["limit"]) == (8, "1.00")
        assert await task.outcome() == "success"
        (changed,) = of(sim, e.BudgetChanged)
        assert (changed.limits, changed.by, changed.why) == ({"steps": 8, "usd": "1.00"}, "ann", "it is a long one")
        with pytest.raises((AlreadyEnded, UnknownTask)):
            await task.change_budget({"steps": 9}, "too late")
        assert (await task.budget())["meters"]["steps"] == {"used": 6, "reserved": 0, "limit": 8, "left": 2}
        other = await sim.bus.submit(sim.app.workflows["flow"], Go(asks=6), id="b")
        await asyncio.sleep(1.5)
        for limits in ({"gold": 1}, {"steps": -1}):
            with pytest.raises(BadDeclaration):
                await other.change_budget(limits, "no")
        await other.change_budget({"steps": 1}, "enough")
        assert await other.outcome() == "budget_exceeded"

    simulate(main, made(Budget(steps=3)))


def test_a_wall_clock_that_is_set_anew_rings_anew() -> None:
    async def main(sim: Simulation) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = await begin(sim, sleep=100)
        await asyncio.sleep(5)
        await task.change_budget({"seconds": 40}, "longer")
        assert await task.outcome() == "budget_exceeded"
        assert 39.9 < loop.time() - began < 41

    simulate(main, made(Budget(seconds=10)))


@pytest.mark.parametrize("crashed", [False, True])
def test_four_fifths_of_a_limit_are_said_once(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, asks=4, sleep=20)
        await asyncio.sleep(4.5)
        if crashed:
            sim.crash_supervisor(down=0.5)
            sim.crash_engine(down=0.5)
        await asyncio.sleep(4)
        (neared,) = of(sim, e.BudgetNeared)
        assert (neared.meter, neared.used, neared.limit) == ("steps", "4", "5")
        assert await task.outcome() == "success"
        assert len(of(sim, e.BudgetNeared)) == 1

    simulate(main, made(Budget(steps=5)))


def test_a_limit_that_is_used_up_at_once_is_not_said_to_be_near() -> None:
    meters = Meters()
    meters.open("tsk_a", {"writes/git": 1, "steps": 10}, 0)
    for id in ("e1", "e2"):
        assert meters.reserve(Reservation(id, "tsk_a", {"steps": 4}, {}))[0].error is None
        meters.settle(id, {"steps": 4})
    meters.reserve(Reservation("e3", "tsk_a", {"writes/git": 1}, {}))
    meters.settle("e3", {"writes/git": 1})
    assert meters.neared == [("tsk_a", "steps", "8", "10")]


@pytest.mark.parametrize(
    ("budget", "ends"),
    [(Budget(), "budget_exceeded"), (Budget(tokens=None), "success"), (Budget(estimate="learned"), "success")],
    ids=["limited", "free", "soft"],
)
def test_an_endpoint_that_reports_more_than_was_possible_stops_what_is_limited(
    budget: Budget, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playbook, "_tokens", lambda data: 50_000)
    app = App("talks")
    app.agent("talker", version="1.0.0", instructions="Say it again.", accepts=Go, returns=Go)

    @app.workflow("flow", version="1.0.0", budget=budget)
    async def flow(request: Go, ctx: WorkflowContext) -> Go:
        return await ctx.ask(request, returns=Go)

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        assert await task.outcome() == ends
        (over,) = of(sim, e.EstimateExceeded)
        assert over.meters["input_tokens"]["reported"] == 50_000 > over.meters["input_tokens"]["reserved"]
        record = await task.record()
        assert record.input_tokens == 50_000
        assert ("reports 50000 input_tokens where" in str(record.error)) == (ends != "success")

    simulate(main, app, {"rules": [{"answer": {"json": {"asks": 0}}}]})


@pytest.mark.parametrize("meter", ["input_tokens", "output_tokens"])
def test_tokens_in_and_out_are_limited_each_by_itself(meter: str) -> None:
    app = App("talks")
    app.agent("talker", version="1.0.0", instructions="Say it again.", accepts=Go, returns=Go)
    limits: dict[str, Any] = {meter: 15}

    @app.workflow("flow", version="1.0.0", budget=Budget(**limits))
    async def flow(request: Go, ctx: WorkflowContext) -> Go:
        return await ctx.ask(request, returns=Go)

    async def main(sim: Simulation) -> None:
        failed = await failure(await begin(sim))
        assert f"limit on {meter} is reached: 15 allowed, 0 used" in failed.reason

    simulate(main, app, {"rules": [{"answer": {"json": {"asks": 0}}}]})


def test_an_operators_word_about_a_scope_is_recorded_and_holds() -> None:
    async def main(sim: Simulation) -> None:
        await sim.bus.limit("tenant:acme", {"steps": 2}, "not paid", per="day", by="ann")
        task = await sim.bus.submit(sim.app.workflows["flow"], Go(asks=3), id="a", tenant="acme")
        failed = await failure(task)
        assert "The limit of tenant:acme per day on steps is reached: 2 allowed" in failed.reason
        (said,) = of(sim, e.LimitChanged, "")
        assert (said.scope, said.per, said.limits, said.by, said.why) == ("tenant:acme", "day", {"steps": 2}, "ann", "not paid")
        (row,) = await sim.bus.limits()
        assert (row["scope"], row["meters"]["steps"]) == ("tenant:acme", {"used": 2, "reserved": 0, "limit": 2, "left": 0})
        await sim.bus.limit("tenant:acme", {"steps": None}, "paid", per="day")
        assert await sim.bus.limits() == []

    simulate(main, made(Budget()))


def test_what_is_learned_holds_less_and_no_call_before_enough_were_seen() -> None:
    learned = Learned()
    for tokens in (200, 250):
        learned.note("m", 1000, tokens)
        assert learned.bound("m", 1000) == 1000
    learned.note("m", 1000, 100)
    assert (learned.bound("m", 1000), learned.bound("other", 1000)) == (313, 1000)
    learned.note("m", 10, 500)
    assert learned.bound("m", 1000) == 1000


def test_more_calls_fit_beside_each_other_where_what_is_learned_is_held() -> None:
    def talks(budget: Budget) -> App:
        app = App("talks")
        app.agent("talker", version="1.0.0", instructions="Say it again. " * 200, accepts=Go, returns=Go)

        @app.workflow("flow", version="1.0.0", budget=budget)
        async def flow(request: Go, ctx: WorkflowContext) -> Go:
            for n in range(6):
                await ctx.ask(Go(asks=n), returns=Go)
            return request

        return app

    async def main(sim: Simulation) -> Any:
        return await (await begin(sim)).outcome()

    script = {"rules": [{"answer": {"json": {"asks": 0}}}]}
    assert simulate(main, talks(Budget(tokens=7_500)), script) == "budget_exceeded"
    assert simulate(main, talks(Budget(tokens=7_500, estimate="learned")), script) == "success"


def test_an_estimate_is_the_workflows_own() -> None:
    with pytest.raises(BadDeclaration):
        Budget(estimate="guess")  # type: ignore[arg-type]

    async def main(sim: Simulation) -> None:
        with pytest.raises(BadDeclaration):
            await sim.bus.submit(sim.app.workflows["flow"], Go(), budget=Budget(estimate="learned"))

    simulate(main, made(Budget()))


@pytest.mark.parametrize(
    ("budget", "meter"),
    [(Budget(seconds=10), "seconds"), (Budget(working_seconds=10), "working_seconds"), (Budget(messages=5), "messages")],
    ids=["seconds", "working", "messages"],
)
def test_four_fifths_of_time_and_of_messages_are_said_too(budget: Budget, meter: str) -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, asks=4, sleep=5)
        assert await task.outcome() == "success"
        (neared,) = [fact for fact in of(sim, e.BudgetNeared) if fact.meter == meter]
        assert 5 * float(neared.used) >= 4 * float(neared.limit)

    simulate(main, made(budget))


def test_a_limit_that_is_set_anew_is_near_anew() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim, asks=8, sleep=3)
        await asyncio.sleep(4.5)
        for steps in (20, 5, 10):
            await sim.engine.limits.change("tsk_a", {"steps": steps}, "ann", "I think so")
        assert await task.outcome() == "success"
        assert [(fact.meter, fact.limit) for fact in of(sim, e.BudgetNeared)] == [("steps", "5"), ("steps", "5"), ("steps", "10")]

    simulate(main, made(Budget(steps=5)))
