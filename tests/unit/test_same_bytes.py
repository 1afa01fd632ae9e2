"""What a workflow reads is the same live and in every replay, to the order of keys, however whoever sent it wrote it."""

import asyncio
import json

import pytest

from interlock import AgentContext, App, Message, WorkflowContext
from interlock.testing.simulation import Simulation, simulate


class Parts(Message, contract="bytes.parts", version="1.0.0"):
    parts: dict[str, int]

    def encoded(self) -> bytes:
        """As somebody writes it who does not sort."""
        return json.dumps({"parts": self.parts}, indent=1).encode()


class One(Message, contract="bytes.one", version="1.0.0"):
    name: str


class Said(Message, contract="bytes.said", version="1.0.0"):
    said: str


def make() -> App:
    app = App("bytes")

    @app.agent("echo", version="1.0.0")
    async def echo(request: One, ctx: AgentContext) -> Said:
        return Said(said=request.name)

    @app.agent("unsorted", version="1.0.0")
    async def unsorted(request: Parts, ctx: AgentContext) -> Parts:
        return Parts(parts={"b": 1, "a": 2})

    async def each(names: dict[str, int], ctx: WorkflowContext) -> Said:
        said = []
        for name in names:
            said.append((await ctx.ask(One(name=name), returns=Said)).said)
            await ctx.sleep(1)
        return Said(said=" ".join(said))

    @app.workflow("request", version="1.0.0")
    async def of_the_request(request: Parts, ctx: WorkflowContext) -> Said:
        return await each(request.parts, ctx)

    @app.workflow("reply", version="1.0.0")
    async def of_the_reply(request: Parts, ctx: WorkflowContext) -> Said:
        return await each((await ctx.ask(request, returns=Parts)).parts, ctx)

    return app


@pytest.mark.parametrize("type", ["request", "reply"])
@pytest.mark.parametrize("crashed", [False, True])
def test_the_order_of_keys_is_the_same_in_a_replay(type: str, crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit_json(type, b'{"parts": {"b": 1, "a": 2}}', id="a")
        await asyncio.sleep(0.5)
        if crashed:
            sim.crash_engine()
            for name in sim.living("runner"):
                sim.crash_peer(name)
        async with asyncio.timeout(60):
            assert (await task.result())["said"] == "a b"

    simulate(main, make())
