"""A model call that nobody asks for any more, for its task has ended: what it cost is told all the same, also where its gateway dies."""

import asyncio
from typing import Any

import pytest
from test_cut_off import PLAYBOOK, Ask, app, talk

from interlock import App, Message, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.entries import Entry
from interlock.testing.simulation import Simulation, simulate


def facts(sim: Simulation, kind: type[Any], task: str = "tsk_a") -> list[Any]:
    return [fact for entry in sim.store.reader.entries(task) if isinstance(fact := entry.open(), kind)]


def told(sim: Simulation, gateway: str) -> None:
    """The one call at that gateway is on record, with all that it is charged, and only then its task's budget was closed."""
    (cut,) = facts(sim, e.ModelCutOff)
    assert (cut.gateway, cut.number) == (gateway, 1)
    (settled,) = [row.data for row in sim.rows if row.kind == "settle" and gateway in row.data["id"]]
    assert cut.charged["tokens"] == settled["actual"]["tokens"] > 0
    kinds = [row.kind for row in sim.rows if row.task == "tsk_a" and row.kind in ("settle", "close")]
    assert kinds == ["settle", "close"]


@pytest.mark.parametrize("engine", ["lives", "dies"])
def test_a_gateway_that_dies_with_the_end_of_the_task(engine: str) -> None:
    async def main(sim: Simulation) -> None:
        (gateway,) = sim.living("models")

        def ended(entry: Entry) -> None:
            if entry.kind == e.TaskEnded.KIND:
                sim.crash_peer(gateway)
                if engine == "dies":
                    sim.crash_engine(down=0.5)

        sim.on_entry = ended
        await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(2)
        await sim.kill("tsk_a", "ann", "enough")
        await asyncio.sleep(60)
        told(sim, gateway)

    simulate(main, app, PLAYBOOK)


@pytest.mark.parametrize("settles", [False, True])
def test_a_task_that_is_killed_while_there_is_no_orchestrator(settles: bool) -> None:
    """The next one ends it before anybody asks for the call again."""

    async def main(sim: Simulation) -> None:
        (gateway,) = sim.living("models")
        await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(2)
        sim.crash_engine(down=30)
        sim.crash_peer(sim.living("replica")[0])
        if settles:
            await asyncio.sleep(5)
        sim.crash_peer(gateway)
        await sim.kill("tsk_a", "ann", "enough")
        await asyncio.sleep(60)
        assert not facts(sim, e.ModelCalled)
        told(sim, gateway)
        assert facts(sim, e.TaskEnded)[0].outcome == "killed"

    simulate(main, app, PLAYBOOK)


class Hurry(Message, contract="cut.hurry", version="1.0.0"):
    patience: float


class Late(Message, contract="cut.late", version="1.0.0"):
    late: bool


hasty = App("hasty")
hasty.agent("talker", version="1.0.0", accepts=Ask, returns=Late, instructions="Talk.")


@hasty.workflow("hurry", version="1.0.0")
async def hurry(request: Hurry, ctx: WorkflowContext) -> Late:
    try:
        async with asyncio.timeout(request.patience):
            return await ctx.ask(Ask(text="hello"), returns=Late)
    except TimeoutError:
        await ctx.sleep(20)
        return Late(late=True)


@pytest.mark.parametrize("engine", ["lives", "dies"])
def test_an_ask_that_was_given_up(engine: str) -> None:
    async def main(sim: Simulation) -> None:
        (gateway,) = sim.living("models")

        def given_up(entry: Entry) -> None:
            if entry.kind == e.CommandCancelled.KIND:
                sim.crash_peer(gateway)
                if engine == "dies":
                    sim.crash_engine(down=0.5)

        sim.on_entry = given_up
        task = await sim.bus.submit(hurry, Hurry(patience=2), id="a")
        assert (await task.result()).late
        await asyncio.sleep(60)
        told(sim, gateway)
        assert (await task.record()).cut_off_calls == 1

    simulate(main, hasty, PLAYBOOK)


def test_a_gateway_that_lives_tells_the_next_orchestrator() -> None:
    async def main(sim: Simulation) -> None:
        (gateway,) = sim.living("models")

        def given_up(entry: Entry) -> None:
            if entry.kind == e.CommandCancelled.KIND:
                sim.stop_peer(gateway, back=10)
                sim.crash_engine(down=0.5)

        sim.on_entry = given_up
        task = await sim.bus.submit(hurry, Hurry(patience=2), id="a")
        assert (await task.result()).late
        await asyncio.sleep(60)
        (called,) = facts(sim, e.ModelCalled)
        assert called.gateway == gateway
        assert not facts(sim, e.ModelCutOff)
        assert [row.kind for row in sim.rows if row.task == "tsk_a"][-1] == "close"

    simulate(main, hasty, PLAYBOOK)
