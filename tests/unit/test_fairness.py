"""A crowd of one tenant keeps nobody else waiting: for replicas, for runners, at the driver. What has priority goes first."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Message, WorkflowContext
from interlock.gather import SUBMITS_AT_MOST, Gather
from interlock.orchestrator import workflows
from interlock.orchestrator.admission import Submission
from interlock.schemas import entries as e
from interlock.schemas.errors import BadDeclaration, BadPriority
from interlock.schemas.frames import Start
from interlock.schemas.turns import Priority
from interlock.testing.simulation import Simulation, simulate

SERVICE = 1.0


class Go(Message, contract="fair.go", version="1.0.0"):
    n: int = 0


class Done(Message, contract="fair.done", version="1.0.0"):
    n: int = 0


app = App("fair")
order: list[int] = []


@app.agent("worker", version="1.0.0", replicas=(1, 1), concurrency=1)
async def worker(request: Go, ctx: AgentContext) -> Done:
    order.append(request.n)
    await asyncio.sleep(SERVICE)
    return Done(n=request.n)


async def work(request: Go, ctx: WorkflowContext) -> Done:
    return await ctx.ask(request, returns=Done)


plain, other, urgent = (
    app.workflow(name, version="1.0.0", budget=Budget(seconds=None), priority=priority)(work)
    for name, priority in {"plain": "normal", "other": "normal", "urgent": "high"}.items()
)


def play(main: Callable[[Simulation], Any], **more: Any) -> None:
    order.clear()
    simulate(main, app, **more)


async def submit(sim: Simulation, flow: Any, n: int, tenant: str = "default", priority: Priority | None = None) -> Any:
    return await sim.bus.submit(flow, Go(n=n), id=f"t{n}", tenant=tenant, priority=priority)


def test_a_crowd_of_one_tenant_delays_that_of_another_by_a_few_service_times() -> None:
    async def main(sim: Simulation) -> None:
        await asyncio.gather(*(submit(sim, plain, n, "acme") for n in range(500)))
        began = asyncio.get_running_loop().time()
        await (await submit(sim, plain, 2000, "other")).result()
        await (await submit(sim, other, 2001, "acme")).result()
        assert asyncio.get_running_loop().time() - began <= 6 * SERVICE
        status = await sim.bus.status()
        assert status["queues"]["worker"] >= 490

    play(main)


def test_what_is_killed_while_it_waits_for_an_agent_costs_nobody_a_turn_and_keeps_nobody_out() -> None:
    async def main(sim: Simulation) -> None:
        first, *killed = [await submit(sim, plain, n, "acme") for n in range(31)]
        crowd = [await submit(sim, plain, 100 + n, "other") for n in range(30)]
        await asyncio.sleep(0.1)
        for task in killed:
            await task.kill("not needed")
        status = await sim.bus.status()
        assert status["queues"] == {"worker": len(crowd), "runners": 0}
        began = asyncio.get_running_loop().time()
        await (await submit(sim, plain, 1000, "acme")).result()
        assert asyncio.get_running_loop().time() - began <= 4 * SERVICE
        assert await first.outcome() == "success"
        assert not set(order) & set(range(1, 31))

    play(main)


def test_the_higher_priority_goes_first_whoever_names_it_and_the_lower_is_not_forgotten() -> None:
    async def main(sim: Simulation) -> None:
        await submit(sim, plain, 0)
        low = await submit(sim, plain, 1, priority="low")
        await asyncio.gather(*(submit(sim, plain, n) for n in range(2, 30)))
        await submit(sim, urgent, 30)
        await submit(sim, plain, 31, priority="high")
        await low.result()
        assert sorted(order[1:3]) == [30, 31]
        assert order.index(1) == 8, "seven others, and then it"
        (accepted,) = [fact for entry in sim.store.reader.entries("tsk_t31") if isinstance(fact := entry.open(), e.TaskAccepted)]
        assert accepted.priority == "high"
        with pytest.raises(BadPriority):
            await sim.bus.submit_json("plain", {}, priority="urgent")  # type: ignore[arg-type]

    play(main)


def test_a_priority_that_is_none_is_refused_where_it_is_declared() -> None:
    with pytest.raises(BadDeclaration, match="priority"):
        App("x").workflow("w", version="1.0.0", priority="first")  # type: ignore[arg-type]


def test_a_runner_is_given_a_crowd_a_few_at_a_time_and_tenants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "STARTS_AT_MOST", 3)
    started: list[str] = []

    def arm(sim: Simulation) -> None:
        def note(name: str, frame: Any) -> None:
            if isinstance(frame, Start):
                started.append(frame.task)

        sim.on_frame = note

    async def main(sim: Simulation) -> None:
        sim.stop_peer(sim.living("runner")[0], 5.0)
        crowd = [asyncio.create_task(submit(sim, plain, n, "acme")) for n in range(50)]
        await asyncio.sleep(1)
        assert sim.engine.workflows.waiting > 40
        one = await submit(sim, plain, 99, "other")
        await one.result()
        assert started.index("tsk_t99") <= 4
        assert {await (await task).outcome() for task in crowd} == {"success"}
        assert sim.engine.workflows.waiting == 0

    play(main, arm=arm)


@pytest.mark.parametrize("who", ["runner", "engine"])
def test_who_waits_for_a_runner_is_started_whoever_dies_meanwhile(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "STARTS_AT_MOST", 2)

    async def main(sim: Simulation) -> None:
        runner = sim.living("runner")[0]
        sim.stop_peer(runner, 100.0)
        crowd = await asyncio.gather(*(submit(sim, plain, n, "acme") for n in range(12)))
        await crowd[11].kill("not needed")
        if who == "runner":
            sim.crash_peer(runner)
            await sim.find_dead()
        else:
            sim.crash_engine()
        assert [await task.outcome() for task in crowd] == ["success"] * 11 + ["killed"]

    play(main)


def test_a_driver_sends_the_submits_of_its_tenants_in_turns() -> None:
    sent: list[list[str]] = []

    class Slow:
        async def submit(self, batch: list[Submission]) -> list[None]:
            sent.append([one.tenant for one in batch])
            await asyncio.sleep(0.01)
            return [None] * len(batch)

    async def main() -> None:
        backend: Any = Slow()
        gather = Gather(backend)
        crowd = [gather.submit(Submission(f"tsk_{n}", "t", "", b"", {}, "ann", "acme")) for n in range(10 * SUBMITS_AT_MOST)]
        await asyncio.gather(*crowd, gather.submit(Submission("tsk_b", "t", "", b"", {}, "ann", "other")))

    asyncio.run(main())
    assert "other" in sent[0]
    assert sum(map(len, sent)) == 10 * SUBMITS_AT_MOST + 1
