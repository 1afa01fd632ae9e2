"""Backpressure: over its bound the bus refuses a submit and says when to come again; what it has accepted it never refuses."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import AgentContext, App, Budget, Message, WorkflowContext
from interlock.cli.cluster import _over
from interlock.orchestrator.admission import Submission
from interlock.orchestrator.bounds import RETRY_AT_LEAST, RETRY_AT_MOST, Drain
from interlock.schemas import entries as e
from interlock.schemas.errors import BadDeclaration, Overloaded
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="bounds.go", version="1.0.0"):
    n: int = 0


class Done(Message, contract="bounds.done", version="1.0.0"):
    n: int = 0


def shop(live: int = 100, queue: int = 100) -> App:
    app = App("bounds", live=live)

    @app.agent("worker", version="1.0.0", replicas=(1, 1), concurrency=1, queue=queue)
    async def worker(request: Go, ctx: AgentContext) -> Done:
        await asyncio.sleep(2.0)
        return Done(n=request.n)

    @app.workflow("flow", version="1.0.0", budget=Budget(seconds=None))
    async def flow(request: Go, ctx: WorkflowContext) -> Done:
        return await ctx.ask(request, returns=Done)

    @app.workflow("idle", version="1.0.0", budget=Budget(seconds=None))
    async def idle(request: Go, ctx: WorkflowContext) -> Done:
        await ctx.ask_human("well?")
        return Done(n=request.n)

    return app


def play(app: App, main: Callable[[Simulation], Any]) -> None:
    simulate(main, app)


async def submit(sim: Simulation, id: str, tenant: str = "acme", type: str = "flow") -> Any:
    return await sim.bus.submit_json(type, {}, id=id, tenant=tenant)


def test_over_the_bound_a_submit_is_refused_and_told_when_there_will_be_room() -> None:
    async def main(sim: Simulation) -> None:
        tasks = [await submit(sim, f"t{n}") for n in range(3)]
        with pytest.raises(Overloaded) as refused:
            await submit(sim, "more")
        assert refused.value.retry_after == RETRY_AT_MOST, "nothing has ended yet, so nobody knows"
        assert len(sim.store.reader.entries("tsk_more")) == 0, "nothing of it is anywhere, not even its budget"
        assert not any(row.task == "tsk_more" for row in sim.rows)
        again = await submit(sim, "t0")
        assert (await again.outcome(), await tasks[0].outcome()) == ("success", "success")
        one_more = await submit(sim, "more")
        with pytest.raises(Overloaded) as later:
            await submit(sim, "yet-more")
        assert RETRY_AT_LEAST <= later.value.retry_after <= 10, "one ends every two seconds"
        assert "Nothing was accepted" in str(later.value)
        await asyncio.sleep(later.value.retry_after + 1)  # what is told is a guess by how it went so far
        last = await submit(sim, "yet-more")
        assert {await task.outcome() for task in (*tasks, one_more, last)} == {"success"}
        await submit(sim, "t0")  # what has ended was accepted, and is known

    play(shop(live=3), main)


def test_each_task_of_a_batch_gets_its_own_answer() -> None:
    async def main(sim: Simulation) -> None:
        await submit(sim, "known")
        batch = [Submission(f"tsk_{id}", "flow", "", b"{}", {}, "ann", "acme") for id in ("a", "known", "b", "c")]
        answers: list[Any] = await sim.ask("submit", batch)
        assert [answer and answer["code"] for answer in answers] == [None, None, None, "overloaded"]
        status = await sim.bus.status()
        assert (status["live_tasks"], status["bounds"]["live"]) == (3, 3)
        assert _over(status) == ["3 tasks are live, parked ones aside, and the bound is 3: submits that would add to it are refused."]

    play(shop(live=3), main)


def test_a_crowd_of_one_tenant_keeps_no_other_out() -> None:
    async def main(sim: Simulation) -> None:
        for n in range(6):
            await submit(sim, f"a{n}")
        for n in range(3):
            await submit(sim, f"b{n}", "other")
        for tenant in ("acme", "other"):
            with pytest.raises(Overloaded):
                await submit(sim, "more", tenant)
        for n in range(2):
            await submit(sim, f"c{n}", "third")
        with pytest.raises(Overloaded):
            await submit(sim, "more", "third")
        admitted = 11
        for n in range(20):  # nobody gets further by calling himself something else each time
            try:
                admitted += bool(await submit(sim, f"d{n}", f"tenant-{n}"))
            except Overloaded:
                break
        assert admitted <= 12

    play(shop(live=6), main)


def test_where_an_agents_queue_is_full_those_who_wait_there_are_refused_and_nobody_else() -> None:
    async def main(sim: Simulation) -> None:
        for n in range(4):
            await submit(sim, f"t{n}")
            await asyncio.sleep(0.1)
        with pytest.raises(Overloaded, match="3 messages wait for agent worker, and the bound is 3"):
            await submit(sim, "more")
        status = await sim.bus.status()
        assert (status["queues"]["worker"], status["bounds"]["queues"]) == (3, {"worker": 3})
        assert len(_over(status)) == 1
        await submit(sim, "idle", type="idle")
        other = await submit(sim, "other", "other")
        await other.result()
        await asyncio.sleep(3)
        await submit(sim, "more")

    play(shop(queue=3), main)


def test_parked_tasks_are_no_load() -> None:
    async def main(sim: Simulation) -> None:
        for n in range(3):
            await submit(sim, f"t{n}", type="idle")
        with pytest.raises(Overloaded):
            await submit(sim, "more")
        await asyncio.sleep(20)
        assert len(sim.engine.parking) == 3
        await submit(sim, "more")
        assert not any(isinstance(entry.open(), e.TaskRefused) for entry in sim.store.reader.entries("tsk_more"))

    play(shop(live=3), main)


@given(st.floats(0.5, 500.0), st.integers(1, 5000))
def test_how_long_something_takes_is_told_by_how_fast_it_goes(rate: float, many: int) -> None:
    drain = Drain(0.0)
    for number in range(1, int(rate * 15) + 1):
        drain.note(number / rate)
    told, exact = drain.seconds(many, 15.0), min(RETRY_AT_MOST, math.ceil(many / rate))
    assert RETRY_AT_LEAST <= told <= RETRY_AT_MOST
    assert exact / 3 - 2 <= told <= 3 * exact + 2
    assert drain.seconds(many, 1000.0) == RETRY_AT_MOST, "what stands still has no end"


@pytest.mark.parametrize("bad", [{"live": 0}, {"queue": 0}])
def test_a_bound_that_lets_nothing_in_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(BadDeclaration):
        shop(**bad).spec()
