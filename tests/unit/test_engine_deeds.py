"""Deeds that nobody waits for are not forgotten; a yes is bound to one call; what fails is trusted no more than what it saw."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Message, Never, Untrusted, WorkflowContext
from interlock.orchestrator.ledger.folds import timeline
from interlock.schemas import entries as e
from interlock.schemas.canonical import encode
from interlock.schemas.errors import AgentFailed
from interlock.schemas.frames import EffectAsked
from interlock.testing.simulation import Simulation, simulate
from interlock.tools.approval import approval_digest


class Go(Message, contract="deeds.go", version="1.0.0"):
    how: str = ""
    mail: Untrusted[str] = ""


class Gone(Message, contract="deeds.gone", version="1.0.0"):
    said: str = ""


def make(deeds: list[str], *, effect: str = "write", fails: bool = False, stubborn: bool = False) -> App:
    app = App("deeds")

    @app.tool(effect=effect, system="bank", repeat=Never(), timeout=60)  # type: ignore[arg-type]
    async def pay(to: str) -> str:
        """Pay.

        Args:
            to: Whom.
        """
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            if not stubborn:
                raise
        deeds.append(to)
        return to

    @app.agent("payer", version="1.0.0", tools=[pay])
    async def payer(request: Go, ctx: AgentContext) -> Gone:
        if fails:
            raise LookupError(request.mail)
        return Gone(said=await ctx.call(pay, to="ann"))

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        try:
            async with asyncio.timeout(1 if request.how != "wait" else 100_000):
                return await ctx.ask(request, returns=Gone)
        except TimeoutError:
            if request.how == "stay":
                await ctx.sleep(10)
            return Gone(said="without")
        except AgentFailed:
            return Gone(said="failed")

    return app


def of(sim: Simulation, kind: type[Any]) -> list[Any]:
    return [fact for entry in sim.store.reader.entries("tsk_a") if isinstance(fact := entry.open(), kind)]


async def begin(sim: Simulation, **request: str) -> Any:
    return await sim.bus.submit_json("flow", request, id="a")


@pytest.mark.parametrize("how", ["", "stay"])
def test_a_write_that_is_abandoned_is_unknown_and_shown(how: str) -> None:
    deeds: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim, how=how)
        assert (await task.result())["said"] == "without"
        (unknown,) = of(sim, e.EffectUnknown)
        assert (unknown.tool, unknown.why, unknown.then) == ("pay", "the workflow cancelled it", "none")
        (call,) = (await task.record()).tool_calls
        assert (call.tool, call.success) == ("pay", False)
        assert any("whether pay of payer took effect is unknown" in line.what for line in timeline(sim.store.reader.entries("tsk_a")))

    simulate(main, make(deeds))


@pytest.mark.parametrize("how", ["", "stay"])
def test_a_late_end_of_an_abandoned_write_is_kept_as_evidence(how: str) -> None:
    deeds: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim, how=how)
        await task.result()
        await asyncio.sleep(5)
        assert deeds == ["ann"]
        (ended,) = of(sim, e.EffectEnded)
        assert (ended.tool, ended.ok, ended.value) == ("pay", True, "ann")
        (call,) = (await task.record()).tool_calls
        assert call.success
        sim.store.reader.verify()

    simulate(main, make(deeds, stubborn=True))


def test_a_kill_in_the_middle_of_a_write_says_that_it_is_unknown() -> None:
    async def main(sim: Simulation) -> None:
        await begin(sim, how="wait")
        await asyncio.sleep(1)
        await sim.kill("tsk_a", "ann", "enough")
        (unknown,) = of(sim, e.EffectUnknown)
        assert unknown.why == "the task ended: killed"

    simulate(main, make([]))


def test_a_yes_is_bound_to_the_call_that_was_shown() -> None:
    deeds: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim, how="wait")
        await asyncio.sleep(1)
        (item,) = await sim.bus.inbox.list()
        (asked,) = of(sim, e.ItemAsked)
        assert asked.digest == approval_digest(asked.effect, "pay", {"to": "ann"})
        (dispatch,) = sim.engine.dispatches.live.values()
        await sim.bus.inbox.approve(item["item"], by="boss")
        dispatch.effects[asked.effect].args = encode({"to": "bob"})
        assert not sim.engine.inbox.approved(dispatch, dispatch.effects[asked.effect])
        dispatch.effects[asked.effect].args = encode({"to": "ann"})
        assert sim.engine.inbox.approved(dispatch, dispatch.effects[asked.effect])
        await task.result()
        assert deeds == ["ann"]

    simulate(main, make(deeds, effect="irreversible"))


@pytest.mark.parametrize("granted", [False, True])
def test_the_name_of_a_call_is_no_pass_for_another(granted: bool) -> None:
    deeds: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim, how="wait")
        await asyncio.sleep(1)
        if granted:
            (item,) = await sim.bus.inbox.list()
            await sim.bus.inbox.approve(item["item"], by="boss")
            await asyncio.sleep(0.5)
        (dispatch,) = sim.engine.dispatches.live.values()
        (effect,) = dispatch.effects.values()
        replica = sim.engine.router.pools["payer"].channels[0]
        dispatch.suspended, dispatch.replica = "", replica
        frame = EffectAsked(dispatch.id, dispatch.attempt, effect.id, "irreversible", "pay", encode({"to": "bob"}))
        sim.engine_cell.post(sim.engine.effects.asked, replica, frame)
        await asyncio.sleep(0.1)
        if granted:
            assert (await task.result())["said"] == "failed"
            assert "with other arguments" in of(sim, e.DispatchFailed)[0].error["message"]
            assert len(of(sim, e.EffectUnknown)) == 1
        else:
            assert [fact.details["arguments"]["to"] for fact in of(sim, e.ItemAsked)] == ["ann", "bob"]
            assert of(sim, e.EffectIntended) == []

    simulate(main, make(deeds, effect="irreversible"))


@pytest.mark.parametrize("crashed", [False, True])
def test_a_failure_is_labelled_like_what_it_came_of(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        if crashed:
            sim.on_entry = lambda entry: sim.crash_engine() if entry.kind == "dispatch.failed" else None
        task = await begin(sim, how="wait", mail="obey me")
        assert (await task.result())["said"] == "failed"
        (failed,), (ended,) = of(sim, e.DispatchFailed), of(sim, e.TaskEnded)
        assert failed.label == ended.label == "untrusted:deeds.go/mail"

    simulate(main, make([], fails=True))
