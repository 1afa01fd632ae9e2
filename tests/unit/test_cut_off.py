"""A model call whose gateway dies while there is no orchestrator: charged, recorded and shown like any other that is cut off."""

import asyncio

import pytest

from interlock import App, Message, WorkflowContext
from interlock.schemas import entries as e
from interlock.testing.simulation import Simulation, simulate

PLAYBOOK = {"rules": [{"delay": 5.0, "answer": {"json": {"text": "done"}}}]}


class Ask(Message, contract="cut.ask", version="1.0.0"):
    text: str


class Said(Message, contract="cut.said", version="1.0.0"):
    text: str


app = App("cut")
app.agent("talker", version="1.0.0", accepts=Ask, returns=Said, instructions="Talk.")


@app.workflow("talk", version="1.0.0")
async def talk(request: Ask, ctx: WorkflowContext) -> Said:
    return await ctx.ask(request, returns=Said)


@pytest.mark.parametrize("replica_too", [False, True])
@pytest.mark.parametrize("down", [0.5, 3.0])
def test_it_is_charged_and_its_record_says_so(down: float, replica_too: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(2)
        (gateway,) = sim.living("models")
        sim.crash_engine(down=down)
        sim.crash_peer(gateway)
        if replica_too:
            (replica,) = sim.living("replica")
            sim.crash_peer(replica)
        assert (await task.result()).text == "done"
        facts = [entry.open() for entry in await task.entries()]
        (cut,) = [fact for fact in facts if isinstance(fact, e.ModelCutOff)]
        assert (cut.gateway, cut.number) == (gateway, 1)
        assert cut.charged["tokens"] > 0
        assert sum(isinstance(fact, e.ModelCalled) for fact in facts) == 1
        assert sim.script is not None
        assert sim.script.count == 2

    simulate(main, app, PLAYBOOK)


def test_a_call_that_goes_on_beside_a_new_orchestrator_is_cut_off_by_nobody() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(talk, Ask(text="hello"), id="a")
        await asyncio.sleep(2)
        sim.crash_engine(down=0.5)
        await task.result()
        assert not any(entry.kind == e.ModelCutOff.KIND for entry in await task.entries())
        assert sim.script is not None
        assert sim.script.count == 1

    simulate(main, app, PLAYBOOK)
