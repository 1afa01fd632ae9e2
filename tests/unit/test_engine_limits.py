"""Limits and orders: what ends a task from outside, and that nothing of it ever rises again."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Keyed, Message, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.errors import AgentFailed, AlreadyEnded, TaskFailed, UnknownTask
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="limits.go", version="1.0.0"):
    calls: int = 1


class Gone(Message, contract="limits.gone", version="1.0.0"):
    calls: int


class Outside:
    def __init__(self) -> None:
        self.calls = 0
        self.ran: list[str] = []


def make(outside: Outside, budget: Budget, *, stubborn: bool = False, pause: float = 0.1) -> App:
    """An agent that calls a write tool some times; a workflow that swallows every failure and asks again."""
    app = App("limits")

    @app.tool(effect="write", system="mail", repeat=Keyed("n"))
    async def send(n: int) -> bool:
        """Send.

        Args:
            n: Which one.
        """
        await asyncio.sleep(pause)
        outside.calls += 1
        return True

    @app.agent("sender", version="1.0.0", tools=[send])
    async def sender(request: Go, ctx: AgentContext) -> Gone:
        outside.ran.append(ctx.task)
        for n in range(request.calls):
            await ctx.call(send, n=n)
        while stubborn:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue
        return Gone(calls=request.calls)

    @app.workflow("flow", version="1.0.0", budget=budget)
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        try:
            return await ctx.ask(request, returns=Gone)
        except AgentFailed:
            return Gone(calls=-1)

    return app


def of(sim: Simulation, kind: type[Any]) -> list[Any]:
    return [fact for entry in sim.store.reader.entries("tsk_a") if isinstance(fact := entry.open(), kind)]


async def begin(sim: Simulation, calls: int) -> Any:
    return await sim.bus.submit(sim.app.workflows["flow"], Go(calls=calls), id="a")


async def failure(task: Any) -> TaskFailed:
    with pytest.raises(TaskFailed) as failed:
        await task.result()
    return failed.value


@pytest.mark.parametrize(
    ("budget", "limit", "calls"), [(Budget(steps=3), "steps", 3), (Budget(writes={"mail": 2}), "writes/mail", 2)], ids=["steps", "writes"]
)
def test_the_limit_is_exact_and_its_outcome_says_the_sentence(budget: Budget, limit: str, calls: int) -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        failed = await failure(await begin(sim, 5))
        assert failed.outcome == "budget_exceeded"
        assert f"The task's limit on {limit} is reached: {calls} allowed" in failed.reason
        assert "Submit it again with a higher limit" in failed.reason
        assert outside.calls == calls
        (refused,) = of(sim, e.EffectRefused)
        assert refused.error["code"] == "budget_exceeded"

    simulate(main, make(outside, budget))


@pytest.mark.parametrize("crashed", [False, True])
def test_the_wall_clock_ends_a_task_to_the_second_whoever_is_dead(crashed: bool) -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = await begin(sim, 1000)
        await asyncio.sleep(3)
        if crashed:
            sim.crash_supervisor(down=2.0)
            sim.crash_engine(down=2.0)
        failed = await failure(task)
        assert failed.outcome == "budget_exceeded"
        assert "limit on seconds is reached: 7" in failed.reason
        assert 6.99 < loop.time() - began < 7.5
        calls = outside.calls
        await asyncio.sleep(100)
        assert outside.calls <= calls + 1

    simulate(main, make(outside, Budget(seconds=7, steps=10_000)))


def test_a_fence_that_the_engine_meets_first_does_not_change_the_outcome() -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim, 1000)
        await asyncio.sleep(1)
        # The engine cannot be told yet: orders hang, while every reservation is refused already.
        held = sim.engine.stops.order
        sim.engine.stops.order = lambda *args: asyncio.sleep(3600)  # type: ignore[method-assign,assignment]
        killing = asyncio.create_task(sim.kill("tsk_a", "ann", "enough"))
        await asyncio.sleep(3)
        assert of(sim, e.TaskEnded) == []
        sim.engine.stops.order = held  # type: ignore[method-assign]
        await killing
        failed = await failure(task)
        assert (failed.outcome, failed.reason) == ("killed", "ann killed it: enough")

    simulate(main, make(outside, Budget(steps=10_000)))


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_kill_stops_it_with_a_receipt_and_it_never_rises_again(stubborn: bool) -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim, 2 if stubborn else 1000)
        await asyncio.sleep(1)
        receipt = await sim.kill("tsk_a", "ann", "enough")
        assert (receipt.task, receipt.by, receipt.verified) == ("tsk_a", "ann", True)
        (held,) = receipt.processes
        assert (held["incarnation"], held["how"]) == ("sender-1", "killed" if stubborn else "cancelled")
        failed = await failure(task)
        assert (failed.outcome, failed.reason) == ("killed", "ann killed it: enough")
        calls, runs = outside.calls, len(outside.ran)
        sim.crash_engine()
        sim.crash_supervisor()
        for name in sim.living():
            sim.crash_peer(name)
        await asyncio.sleep(100)
        assert (outside.calls, len(outside.ran)) == (calls, runs)
        assert len(of(sim, e.TaskEnded)) == len(of(sim, e.ReceiptRecorded)) == 1
        assert await sim.kill("tsk_a", "bob", "again") == receipt

    simulate(main, make(outside, Budget(steps=10_000), stubborn=stubborn))


def test_a_kill_while_the_orchestrator_is_away_holds_when_it_returns() -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim, 1000)
        await asyncio.sleep(1)
        supervisor, cell = sim.supervisor, sim.supervisor_cell
        sim.crash_engine(down=30.0)
        receipt = await cell.call(supervisor.ladder.kill("tsk_a", "ann", "enough"))
        calls = outside.calls
        assert receipt.verified
        await asyncio.sleep(20)
        assert outside.calls == calls
        failed = await failure(task)
        assert failed.outcome == "killed"
        assert outside.calls == calls

    simulate(main, make(outside, Budget(steps=10_000)))


def test_an_order_that_comes_while_its_task_is_coming_in_ends_it() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit_json("flow", {"calls": 1000}, id="a", limits={"seconds": "0.000001"})
        failed = await asyncio.wait_for(failure(task), 10)
        assert failed.outcome == "budget_exceeded"

    simulate(main, make(Outside(), Budget(steps=10_000)))


def test_a_receipt_is_kept_once_however_often_it_is_handed_over() -> None:
    async def main(sim: Simulation) -> None:
        await begin(sim, 1000)
        receipt = await sim.kill("tsk_a", "ann", "enough")
        await sim.engine_cell.call(sim.engine.stops.receipts([receipt]))
        await sim.engine_cell.call(sim.engine.stops.receipts([receipt]))
        assert len(of(sim, e.ReceiptRecorded)) == 1

    simulate(main, make(Outside(), Budget(steps=10_000)))


def test_who_is_not_there_or_has_ended_cannot_be_killed() -> None:
    async def main(sim: Simulation) -> None:
        with pytest.raises(UnknownTask):
            await sim.kill("tsk_nobody", "ann", "enough")
        await (await begin(sim, 1)).result()
        with pytest.raises(AlreadyEnded):
            await sim.kill("tsk_a", "ann", "enough")

    simulate(main, make(Outside(), Budget()))


def test_meters_go_when_the_task_does_also_where_the_orchestrator_died_between() -> None:
    async def main(sim: Simulation) -> None:
        sim.on_entry = lambda entry: sim.crash_engine() if entry.kind == "task.ended" else None
        task = await begin(sim, 2)
        await task.result()
        sim.on_entry = None
        await asyncio.sleep(60)
        assert await task.used() == {}
        record = await task.record()
        assert record.outcome == "success"

    simulate(main, make(Outside(), Budget(seconds=30)))
