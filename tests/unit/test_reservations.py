"""What is held for a deed goes back where it never began, and is charged where it is known in the end that it happened."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Finding, Keyed, Message, Never, ToolContext, WorkflowContext
from interlock.schemas import entries as e
from interlock.testing.simulation import Simulation, simulate
from interlock.tools.repeat import Repeat


class Go(Message, contract="reservations.go", version="1.0.0"):
    impatient: bool = False


class Done(Message, contract="reservations.done", version="1.0.0"):
    said: str = ""


def make(wrote: list[str], repeat: Repeat) -> App:
    """A workflow that may lose its patience with an agent that writes; the first write hangs."""
    app = App("reservations")

    @app.tool(effect="write", system="db", repeat=repeat)
    async def write(key: str, ctx: ToolContext) -> str:
        """Write."""
        wrote.append(key)
        await asyncio.sleep(0 if wrote[1:] else 1000)
        return "ok"

    @app.agent("writer", version="1.0.0", tools=[write])
    async def writer(request: Go, ctx: AgentContext) -> Done:
        return Done(said=await ctx.call(write, key="k"))

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Done:
        try:
            async with asyncio.timeout(2 if request.impatient else None):
                return await ctx.ask(request, returns=Done)
        except TimeoutError:
            await ctx.sleep(100)
            return Done(said="gave up")

    app.limit("tenant:*", per="day", writes={"db": 1})
    return app


async def writes(sim: Simulation) -> tuple[Any, Any]:
    """Used and reserved of the tenant's writes."""
    row = next(row for row in await sim.bus.limits() if row["scope"] == "tenant:default")
    return row["meters"]["writes/db"]["used"], row["meters"]["writes/db"]["reserved"]


@pytest.mark.parametrize("waits", [True, False])
def test_what_is_held_for_a_write_that_nobody_waits_for_any_more_goes_back(waits: bool) -> None:
    """Its ask was cancelled, or its task killed, while the reservation was on its way."""
    wrote: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Go(impatient=True), id="a")
        sim.crash_supervisor(down=5)
        if not waits:
            await asyncio.sleep(1)
            await task.kill("enough")
        await asyncio.sleep(20)
        assert await writes(sim) == (0, 0)
        assert wrote == []

    simulate(main, make(wrote, Keyed("key", scope="task")))


def test_a_write_that_happened_says_a_human_is_charged() -> None:
    wrote: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Go(), id="a")
        await asyncio.sleep(3)
        for name in [one for one in sim.living() if one.startswith("writer")]:
            sim.crash_peer(name)
        await sim.find_dead()
        await asyncio.sleep(10)
        assert await writes(sim) == (0, 1)
        (item,) = await sim.bus.inbox.list()
        await sim.bus.inbox.approve(item["item"], note='"ok"')
        await asyncio.sleep(1)
        assert await writes(sim) == (1, 0)
        assert await task.result() == Done(said="ok")

    simulate(main, make(wrote, Never()))


def test_a_write_that_happened_says_its_probe_is_charged() -> None:
    wrote: list[str] = []

    async def look(key: str) -> Finding:
        """Look."""
        return Finding.happened("ok") if key in wrote else Finding.not_happened()

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Go(), id="a")
        await asyncio.sleep(3)
        for name in [one for one in sim.living() if one.startswith("writer")]:
            sim.crash_peer(name)
        assert await task.result() == Done(said="ok")
        assert await writes(sim) == (1, 0)
        assert [entry.open().answer for entry in sim.store.reader.entries("tsk_a") if entry.kind == e.EffectProbed.KIND] == ["happened"]

    simulate(main, make(wrote, Keyed("key", scope="task", probe=look)))
