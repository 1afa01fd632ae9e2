"""A replica says again what an orchestrator that has died did not acknowledge: what is on record already says nothing, what came too late
is recorded as that, once."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Message, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.frames import Replied
from interlock.testing.simulation import Simulation, simulate


class Ask(Message, contract="again.ask", version="1.0.0"):
    fail: bool = False


class Said(Message, contract="again.said", version="1.0.0"):
    text: str


def make() -> App:
    app = App("again")

    @app.agent("teller", version="1.0.0")
    async def teller(request: Ask, ctx: AgentContext) -> Said:
        if request.fail:
            raise RuntimeError("no")
        return Said(text="yes")

    @app.workflow("tell", version="1.0.0")
    async def tell(request: Ask, ctx: WorkflowContext) -> Said:
        return await ctx.ask(request, returns=Said)

    return app


def refusals(sim: Simulation) -> list[tuple[str, Any]]:
    return [(entry.task, entry.open()) for entry in sim.store.reader.all_entries() if entry.kind == e.ReplyRefused.KIND]


@pytest.mark.parametrize("fail", [False, True])
def test_what_was_recorded_before_a_restart_is_refused_by_nobody_after_it(fail: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["tell"], Ask(fail=fail), id="a")
        assert await task.outcome() == ("failed" if fail else "success")
        for _ in range(3):
            sim.crash_engine()
            await asyncio.sleep(10)
        assert refusals(sim) == []

    simulate(main, make())


@pytest.mark.parametrize("live", [False, True])
def test_what_answers_an_attempt_that_was_given_up_is_recorded_once_with_its_task(live: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["tell"], Ask(), id="a")
        await task.outcome()
        sent = next(fact for entry in await task.entries() if isinstance(fact := entry.open(), e.MessageSent))
        if not live:
            sim.crash_engine(down=1.0)
        (replica,) = sim.living("replica")
        late = Replied(sent.dispatch, "1-99", "again.said", "1.0.0", Said(text="late").encoded(), False, task.id)
        sim.peers[replica][1].host.emit(late)
        await asyncio.sleep(10)
        await (await sim.bus.submit(sim.app.workflows["tell"], Ask(), id="b")).outcome()  # an exchange: what was said comes with it
        for _ in range(3):
            sim.crash_engine()
            await asyncio.sleep(10)
        ((where, refused),) = refusals(sim)
        assert (where, refused.attempt, refused.error["code"]) == (task.id, "1-99", "stale_attempt")
        assert (await task.result()).text == "yes"

    simulate(main, make())
