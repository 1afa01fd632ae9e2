"""A database that does not answer for a while: no task is the worse for it, only everything waits."""

import asyncio

import pytest

from interlock import AgentContext, App, Message, WorkflowContext
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas.entries import Entry
from interlock.schemas.errors import StoreAway
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="away.go", version="1.0.0"):
    n: int = 1


def make() -> App:
    app = App("away")

    @app.agent("echo", version="1.0.0")
    async def echo(request: Go, ctx: AgentContext) -> Go:
        await asyncio.sleep(10)
        return request

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Go:
        return await ctx.ask(request, returns=Go)

    return app


def test_a_task_that_cannot_be_read_now_goes_on_once_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    read, refused = Writer.entries, False

    def entries(store: Writer, task: str) -> list[Entry]:
        nonlocal refused
        if not refused and task:
            refused = True
            raise StoreAway(path="a database", problem="the server closed the connection")
        return read(store, task)

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit_json("flow", {"n": 7}, id="a")
        await asyncio.sleep(5)
        for name in sim.living("runner"):
            sim.crash_peer(name)  # whoever is next has to read what was recorded
        await asyncio.sleep(1)
        monkeypatch.setattr(Writer, "entries", entries)
        async with asyncio.timeout(120):
            assert await task.result() == {"n": 7}
        assert refused

    simulate(main, make())
