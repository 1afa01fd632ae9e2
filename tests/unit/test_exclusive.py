"""`isolation="exclusive"`: each dispatch has a process to itself, which is gone after it; whoever dies meanwhile, none has two."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Message, Never, WorkflowContext
from interlock.cli.cluster import _pools
from interlock.schemas.errors import BadDeclaration
from interlock.schemas.frames import Dispatch
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="exclusive.go", version="1.0.0"):
    n: int = 0


class Done(Message, contract="exclusive.done", version="1.0.0"):
    n: int = 0


app = App("exclusive")


@app.tool(effect="irreversible", system="world", repeat=Never())
async def pay(amount: int) -> str:
    """Pay.

    Args:
        amount: How much.
    """
    return f"paid {amount}"


@app.agent("worker", version="1.0.0", replicas=(1, 3), isolation="exclusive", tools=[pay])
async def worker(request: Go, ctx: AgentContext) -> Done:
    await asyncio.sleep(5.0)
    if request.n < 0:
        await ctx.call(pay, amount=1)
    return Done(n=request.n)


@app.workflow("flow", version="1.0.0", budget=Budget(seconds=None))
async def flow(request: Go, ctx: WorkflowContext) -> Done:
    return await ctx.ask(request, returns=Done)


def play(main: Callable[[Simulation], Any]) -> dict[str, list[str]]:
    """What each replica was given."""
    given: dict[str, list[str]] = {}

    def arm(sim: Simulation) -> None:
        def note(name: str, frame: Any) -> None:
            if isinstance(frame, Dispatch) and frame.dispatch not in given.get(name, []):
                given.setdefault(name, []).append(frame.dispatch)

        sim.on_frame = note

    simulate(main, app, arm=arm)
    return given


async def submit(sim: Simulation, n: int) -> Any:
    return await sim.bus.submit(flow, Go(n=n), id=f"t{abs(n)}")


def test_each_dispatch_has_a_process_to_itself_and_another_is_ready_for_the_next() -> None:
    async def main(sim: Simulation) -> None:
        first = await submit(sim, 0)
        await asyncio.sleep(3.5)
        status = await sim.bus.status()
        assert status["exclusive"] == ["worker"]
        assert ("worker", 2, "2 (1 to 3), one each", 1, 0) in _pools(status)
        second = await submit(sim, 1)
        await asyncio.sleep(0.5)
        assert sum(channel.load for channel in sim.engine.router.pools["worker"].channels) == 2, "the second has not waited"
        await first.result()
        await asyncio.sleep(0.5)
        assert "worker-1" not in sim.living("replica")
        assert len(sim.living("replica")) <= 3
        await second.result()
        tasks = [await submit(sim, n) for n in range(2, 12)]
        assert [await task.outcome() for task in tasks] == ["success"] * 10
        await asyncio.sleep(200)
        status = await sim.bus.status()
        assert ("worker", 1, "1 (1 to 3), one each", 0, 0) in _pools(status)
        assert not status["keeping"]["worker"]["trouble"], "who ends after his dispatch has not failed"

    given = play(main)
    assert [len(dispatches) for dispatches in given.values()] == [1] * 12


@pytest.mark.parametrize("when", [2.0, 4.99, 5.0, 5.01])
@pytest.mark.parametrize("who", ["engine", "supervisor", "both", "replica"])
def test_none_has_two_whoever_dies_meanwhile(who: str, when: float) -> None:
    async def main(sim: Simulation) -> None:
        tasks = [await submit(sim, n) for n in range(4)]
        for _ in range(2):
            await asyncio.sleep(when)
            if who in ("engine", "both"):
                sim.crash_engine(0.2)
            if who in ("supervisor", "both"):
                sim.crash_supervisor(0.2)
            if who == "replica":
                sim.crash_peer(sim.living("replica")[0])
                await sim.find_dead()
        assert [await task.outcome() for task in tasks] == ["success"] * 4
        await asyncio.sleep(200)
        assert len(sim.living("replica")) == 1

    given = play(main)
    assert {len(dispatches) for dispatches in given.values()} == {1}


def test_who_waits_for_a_human_has_another_process_afterwards_and_a_kill_leaves_none() -> None:
    async def main(sim: Simulation) -> None:
        task = await submit(sim, -1)
        await asyncio.sleep(8)
        (item,) = await sim.bus.inbox.list()
        assert "worker-1" not in sim.living("replica")
        await sim.bus.inbox.approve(item["item"], by="ann")
        assert (await task.result()).n == -1
        second = await submit(sim, 2)
        await asyncio.sleep(1)
        (at_work,) = [channel.name for channel in sim.engine.router.pools["worker"].channels if channel.load]
        receipt = await second.kill("enough")
        await asyncio.sleep(1)
        assert receipt["verified"]
        assert at_work not in sim.living("replica")

    given = play(main)
    assert {len(dispatches) for dispatches in given.values()} == {1}


@pytest.mark.parametrize("options", [{"isolation": "exclusive", "concurrency": 8}, {"isolation": "own"}])
def test_what_cannot_be_is_refused(options: Any) -> None:
    with pytest.raises(BadDeclaration):
        App("x").agent("worker", version="1.0.0", instructions="Do.", accepts=Go, returns=Done, **options)
