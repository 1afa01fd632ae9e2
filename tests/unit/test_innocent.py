"""A kill ends who has, or may have, something of the task; who is busy with another's work and has nothing of it goes on."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Message, WorkflowContext
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="innocent.go", version="1.0.0"):
    seconds: float = 0.0


class Done(Message, contract="innocent.done", version="1.0.0"):
    pass


def make() -> App:
    app = App("innocent")

    @app.agent("worker", version="1.0.0", replicas=(2, 2), concurrency=1)
    async def worker(request: Go, ctx: AgentContext) -> Done:
        await asyncio.sleep(request.seconds)
        return Done()

    @app.workflow("work", version="1.0.0")
    async def work(request: Go, ctx: WorkflowContext) -> Done:
        return await ctx.ask(request, returns=Done)

    return app


def deafen(sim: Simulation, name: str) -> None:
    """From now on it answers nobody, and reads nothing: as one whose code keeps its whole process busy."""
    sim.freeze_peer(name)

    async def never(task: str) -> bool:
        await asyncio.Event().wait()
        return False

    sim.peers[name][1].host.cancel = never  # type: ignore[method-assign]


async def at_work(sim: Simulation, name: str, seconds: float) -> tuple[Any, str]:
    """A task that a replica works on, and which."""
    before = {name for name in sim.living("replica") if sim.peers[name][1].host.holds()}
    task = await sim.bus.submit(sim.app.workflows["work"], Go(seconds=seconds), id=name)
    await asyncio.sleep(1)
    (holder,) = {name for name in sim.living("replica") if sim.peers[name][1].host.holds()} - before
    return task, holder


@pytest.mark.parametrize("engine", ["works", "is new", "is gone"])
def test_a_busy_replica_that_has_nothing_of_the_task_outlives_its_kill(engine: str) -> None:
    async def main(sim: Simulation) -> None:
        _, busy = await at_work(sim, "one", 600)
        victim, _ = await at_work(sim, "two", 600)
        if engine == "is new":
            sim.crash_engine()
            await asyncio.sleep(1)
        deafen(sim, busy)
        if engine == "is gone":
            sim.crash_engine(down=25)
        began = asyncio.get_running_loop().time()
        receipt = await victim.kill("enough")
        took = asyncio.get_running_loop().time() - began
        assert receipt["verified"]
        if engine == "is gone":
            assert took >= 20
            assert busy not in sim.living("replica"), "nobody could say that nothing of it waits there"
        else:
            assert took < 5
            assert busy in sim.living("replica")
            assert busy not in {entry["incarnation"] for entry in receipt["processes"]}

    simulate(main, make())


@pytest.mark.parametrize("engine", ["works", "is new"])
def test_a_replica_in_which_the_task_waits_unread_is_ended(engine: str) -> None:
    async def main(sim: Simulation) -> None:
        await at_work(sim, "one", 600)
        (idle,) = [name for name in sim.living("replica") if not sim.peers[name][1].host.holds()]
        deafen(sim, idle)
        victim = await sim.bus.submit(sim.app.workflows["work"], Go(seconds=600), id="two")
        await asyncio.sleep(1)
        if engine == "is new":
            sim.crash_engine()
        receipt = await victim.kill("enough")
        assert receipt["verified"]
        assert idle not in sim.living("replica")
        assert {entry["incarnation"]: entry["how"] for entry in receipt["processes"]} == {idle: "killed"}

    simulate(main, make())
