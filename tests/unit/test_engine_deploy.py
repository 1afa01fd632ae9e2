"""Deploying an app replaces what it declared before; what is under way goes on or fails with words; no budget begins that cannot."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Keyed, Message, WorkflowContext
from interlock.orchestrator.ledger.folds import timeline
from interlock.schemas import entries as e
from interlock.schemas.drill import DRILL
from interlock.schemas.errors import BadDeclaration, BudgetTooSmall, OtherApp, UnknownTaskType
from interlock.schemas.undo import UNDO
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="deploy.go", version="1.0.0"):
    value: int = 1


class Gone(Message, contract="deploy.gone", version="1.0.0"):
    by: str


def make(agent: str = "first", *, workflow: str = "flow", name: str = "app", seconds: float = 0.0, tool: str = "put") -> App:
    app = App(name)

    async def act(n: int) -> int:
        """Put.

        Args:
            n: What.
        """
        await asyncio.sleep(seconds)
        return n

    act.__name__ = tool
    made = app.tool(effect="write", system="world", repeat=Keyed("n"), timeout=500)(act)

    @app.agent(agent, version="1.0.0", tools=[made], concurrency=1)
    async def answering(request: Go, ctx: AgentContext) -> Gone:
        await ctx.call(made, n=request.value)
        return Gone(by=agent)

    @app.workflow(workflow, version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        return await ctx.ask(request, returns=Gone)

    return app


async def begin(sim: Simulation, id: str, value: int = 1) -> Any:
    return await sim.bus.submit_json("flow", {"value": value}, id=id)


@pytest.mark.parametrize("crashed", [False, True])
def test_an_agent_that_was_renamed_is_gone_under_its_old_name(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        assert (await (await begin(sim, "a")).result())["by"] == "first"
        await sim.deploy(make("second"))
        if crashed:
            sim.crash_engine()
        assert (await (await begin(sim, "b")).result())["by"] == "second"
        await asyncio.sleep(60)
        assert [name for name in sim.living("replica") if name.startswith("first")] == []
        assert await sim.ask("deploy", make("second").spec().to_wire(), "again") == ["first"], "said again, for who did not hear it"
        assert list(sim.engine.router.pools) == ["second"]

    simulate(main, make())


@pytest.mark.parametrize("crashed", [False, True])
def test_an_app_that_was_renamed_is_gone_under_its_old_name(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        assert (await (await begin(sim, "a")).result())["by"] == "first"
        renamed = make("second", workflow="flaw", name="new")
        with pytest.raises(OtherApp, match=r'App\("new", formerly=\("app",\)\)'):
            await sim.deploy(renamed)
        assert (await (await begin(sim, "b")).result())["by"] == "first", "a refusal changes nothing"
        renamed.formerly = ("app",)
        await sim.deploy(renamed)
        for name in sim.living("runner"):
            sim.crash_peer(name)  # the next one runs the new code
        if crashed:
            sim.crash_engine()
        with pytest.raises(UnknownTaskType):
            await begin(sim, "c")
        assert (await (await sim.bus.submit_json("flaw", {}, id="d")).result())["by"] == "second"
        assert list(sim.engine.router.pools) == ["second"]
        deployed = [line.what for line in timeline(sim.store.reader.entries("")) if "deployed app" in line.what]
        assert deployed[-1].endswith(", formerly app")
        await sim.deploy(renamed)

    simulate(main, make())


def test_another_app_keeps_what_it_declared() -> None:
    async def main(sim: Simulation) -> None:
        assert await sim.ask("deploy", make("other", workflow="else", name="two").spec().to_wire(), "ann") == []
        assert sorted(sim.engine.router.pools) == ["first", "other"]
        assert sorted(sim.engine.router.workflows) == ["else", "flow", DRILL, UNDO]
        await sim.ask("deploy", make("first", workflow="flaw").spec().to_wire(), "ann")
        assert sorted(sim.engine.router.workflows) == ["else", "flaw", DRILL, UNDO]
        with pytest.raises(UnknownTaskType):
            await begin(sim, "a")

    simulate(main, make())


@pytest.mark.parametrize("crashed", [False, True])
def test_what_waits_for_an_agent_that_is_gone_fails_and_what_runs_is_finished(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        running, waiting = await begin(sim, "run", 1), await begin(sim, "wait", 2)
        await asyncio.sleep(1)
        await sim.deploy(make("second", tool="lay"))
        assert await waiting.outcome() == "failed"
        (failed,) = [fact for entry in sim.store.reader.entries("tsk_wait") if isinstance(fact := entry.open(), e.DispatchFailed)]
        assert "no app that is deployed declares it any more" in failed.error["message"]
        if crashed:
            sim.crash_engine()
        assert (await running.result())["by"] == "first"

    simulate(main, make(seconds=5.0))


def test_a_dispatch_is_handed_out_once_however_it_came_to_be_placed() -> None:
    async def main(sim: Simulation) -> None:
        tasks = [await begin(sim, f"t{n}", n) for n in range(2)]
        await asyncio.sleep(1)
        dispatches, pool = sim.engine.dispatches, sim.engine.router.pools["first"]
        (queued,) = pool.queue

        def twice() -> None:
            dispatches.again(queued, "for a test")
            (replica,) = pool.channels
            replica.load -= 1
            dispatches.refill("first")
            replica.load += 1

        sim.engine_cell.post(twice)
        await asyncio.sleep(1)
        (replica,) = pool.channels
        assert replica.load == 2
        for task in tasks:
            await task.result()
        await asyncio.sleep(1)
        assert replica.load == 0

    simulate(main, make(seconds=5.0))


@pytest.mark.parametrize("limits", [{"tokens": 99}, {"usd": "0"}])
def test_a_budget_with_which_no_model_can_be_called_is_refused(limits: dict[str, Any]) -> None:
    def with_model(model: bool) -> App:
        app = make()
        if model:
            app.agent("thinker", version="1.0.0", accepts=Go, returns=Go, instructions="Think.")
        return app

    async def refused(sim: Simulation) -> None:
        with pytest.raises(BudgetTooSmall):
            await sim.bus.submit_json("flow", {}, id="a", limits=limits)
        await (await sim.bus.submit_json("flow", {}, id="b", limits={"tokens": 100, "usd": "0.01"})).result()

    async def taken(sim: Simulation) -> None:
        await (await sim.bus.submit_json("flow", {}, id="a", limits=limits)).result()

    simulate(refused, with_model(True), {"rules": []})
    simulate(taken, with_model(False))
    assert Budget(tokens=1).limits()["tokens"] == 1


def test_what_is_the_bus_s_own_nobody_else_declares() -> None:
    class Mine(Message, contract="interlock.undo.call", version="1.0.0"):
        value: int = 0

    app = App("mine")
    with pytest.raises(BadDeclaration, match=r"interlock\.undo is a name of the bus's own kind"):

        @app.workflow(UNDO, version="1.0.0")
        async def undo(request: Mine, ctx: WorkflowContext) -> Mine:
            return request

    @app.workflow("mine", version="1.0.0")
    async def mine(request: Mine, ctx: WorkflowContext) -> Mine:
        return request

    with pytest.raises(BadDeclaration, match=r"interlock\.undo\.call is a name of the bus's own kind"):
        app.spec()
