"""A replica that is broken in itself is replaced; where all fail nobody is, for another process would be no better."""

from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Message, ToolContext, WorkflowContext
from interlock.orchestrator.failing import FAILURES_AT_MOST
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="failing.go", version="1.0.0"):
    well: bool = True


class Done(Message, contract="failing.done", version="1.0.0"):
    pass


def workshop(broken: int) -> App:
    """The first so many replicas are broken from the beginning."""
    app, born = App("failing"), list[int]()

    def resources() -> dict[str, Any]:
        born.append(len(born))
        return {"broken": born[-1] < broken}

    @app.tool(effect="read")
    async def look(ctx: ToolContext) -> bool:
        """Look at what this process has."""
        if ctx.resources["broken"]:
            raise RuntimeError("there is a hole in the memory")
        return True

    @app.agent("worker", version="1.0.0", replicas=(2, 2), resources=resources, tools=[look])
    async def worker(request: Go, ctx: AgentContext) -> Done:
        if not request.well:
            raise ValueError("no such request can be worked on")
        await ctx.call(look)
        return Done()

    @app.workflow("flow", version="1.0.0", budget=Budget(seconds=None))
    async def flow(request: Go, ctx: WorkflowContext) -> Done:
        return await ctx.ask(request, returns=Done)

    return app


async def outcomes(sim: Simulation, number: int, **request: Any) -> list[str]:
    """Of so many tasks, eight at a time."""
    heard: list[str] = []
    for _ in range(0, number, 8):
        tasks = [await sim.bus.submit_json("flow", request) for _ in range(8)]
        heard += [await task.outcome() for task in tasks]
    return heard


@pytest.mark.parametrize("broken", [1, 2])
def test_a_broken_replica_is_replaced_and_so_is_another_once_somebody_answers(broken: int) -> None:
    async def main(sim: Simulation) -> None:
        heard = await outcomes(sim, 8 * FAILURES_AT_MOST)
        assert FAILURES_AT_MOST <= heard.count("failed") <= 2 * FAILURES_AT_MOST * broken
        assert sorted(sim.living("replica"))[:2] == [f"worker-{broken + 1}", f"worker-{broken + 2}"]
        assert set(await outcomes(sim, 40)) == {"success"}

    simulate(main, workshop(broken))


def test_who_fails_comes_last_among_those_that_have_nothing_to_do() -> None:
    async def main(sim: Simulation) -> None:
        heard = [await (await sim.bus.submit_json("flow", {})).outcome() for _ in range(20)]
        assert heard == ["failed", *["success"] * 19]

    simulate(main, workshop(1))


def test_what_fails_everywhere_costs_one_replica_at_the_most() -> None:
    async def main(sim: Simulation) -> None:
        await outcomes(sim, 5)
        await outcomes(sim, 10 * FAILURES_AT_MOST, well=False)
        assert sorted(sim.living("replica"))[-1] == "worker-3"
        assert len(sim.living("replica")) == 2

    simulate(main, workshop(0))
