"""The kill on a bus that is one process: a thread cannot be ended there, and the receipt says so at once instead of waiting for it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from interlock import AgentContext, App, AsyncBus, Budget, Message, Natural, WorkflowContext
from interlock.actors.supervisor.sweep import Pace
from interlock.assembly import Assembly
from interlock.clock import SystemClock
from interlock.local import LocalBackend
from interlock.schemas.record import Outcome


class Request(Message, contract="test.hold", version="1.0.0"):
    name: str


class Done(Message, contract="test.held", version="1.0.0"):
    name: str


class Works:
    """An app whose tool is a plain function that returns once it is told to. `begun` and `let` are per name."""

    def __init__(self) -> None:
        self.app = App("works")
        self.begun = {name: threading.Event() for name in ("one", "two")}
        self.let = {name: threading.Event() for name in ("one", "two")}
        self.calls: list[str] = []

        @self.app.tool(effect="write", system="press", repeat=Natural(resource="name"))
        def press(name: str) -> str:
            """Press it."""
            self.calls.append(name)
            self.begun[name].set()
            self.let[name].wait(30)
            return name

        @self.app.agent("holder", version="1.0.0", accepts=Request, returns=Done, tools=[press])
        async def holder(request: Request, ctx: AgentContext) -> Done:
            return Done(name=await ctx.call(press, name=request.name))

        @self.app.workflow("hold", version="1.0.0", budget=Budget(tokens=1, steps=5, seconds=60, writes={"press": 5}))
        async def hold(request: Request, ctx: WorkflowContext) -> Done:
            return await ctx.ask(request, returns=Done)

        self.hold = hold

    @asynccontextmanager
    async def bus(self) -> AsyncIterator[AsyncBus]:
        assembly = Assembly(self.app, SystemClock(), pace=Pace(grace=0.05, patience=60))
        await assembly.start()
        async with AsyncBus(LocalBackend(assembly)) as bus:
            try:
                yield bus
            finally:
                for event in self.let.values():
                    event.set()


def test_a_thread_that_goes_on_is_told_and_not_waited_for() -> None:
    works = Works()

    async def main() -> tuple[dict[str, Any], str, float]:
        async with works.bus() as bus:
            task = await bus.submit(works.hold, Request(name="one"), id="one")
            await asyncio.to_thread(works.begun["one"].wait)
            began = asyncio.get_running_loop().time()
            async with asyncio.timeout(20):
                receipt = await task.kill("enough")
            return receipt, str((await task.record()).outcome), asyncio.get_running_loop().time() - began

    receipt, outcome, took = asyncio.run(main())
    assert took < 10
    assert outcome == Outcome.KILLED
    (held,) = receipt["processes"]
    assert (held["incarnation"].rpartition("-")[0], held["how"], receipt["verified"]) == ("holder", "unverified", False)
    assert len(receipt["unknown_effects"]) == 1


def test_who_else_works_in_that_replica_goes_on_and_does_nothing_twice() -> None:
    works = Works()

    async def main() -> Done:
        async with works.bus() as bus:
            killed = await bus.submit(works.hold, Request(name="one"), id="one")
            innocent = await bus.submit(works.hold, Request(name="two"), id="two")
            for event in works.begun.values():
                await asyncio.to_thread(event.wait)
            async with asyncio.timeout(20):
                await killed.kill("enough")
            works.let["two"].set()
            async with asyncio.timeout(20):
                return await innocent.result()

    assert asyncio.run(main()) == Done(name="two")
    assert sorted(works.calls) == ["one", "two"]
