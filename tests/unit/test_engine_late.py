"""A write's end that comes late still answers what nobody knew; where that is answered already it is recorded as too late."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Keyed, Message, Never, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.canonical import encode
from interlock.schemas.frames import ToolEnded
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="late.go", version="1.0.0"):
    patience: float = 100_000.0


class Gone(Message, contract="late.gone", version="1.0.0"):
    said: str = ""


def make(deeds: list[str], *, keyed: bool = False) -> App:
    app = App("late")

    @app.tool(effect="write", system="bank", repeat=Keyed("to") if keyed else Never(), timeout=60)
    async def pay(to: str) -> str:
        """Pay, and do not stop when told to.

        Args:
            to: Whom.
        """
        for _ in range(10):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue
        deeds.append(to)
        return to

    @app.agent("payer", version="1.0.0", tools=[pay])
    async def payer(request: Go, ctx: AgentContext) -> Gone:
        return Gone(said=await ctx.call(pay, to="ann"))

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        try:
            async with asyncio.timeout(request.patience):
                return await ctx.ask(request, returns=Gone)
        except TimeoutError:
            await ctx.sleep(1)
            return Gone(said="without")

    return app


def of(sim: Simulation, kind: type[Any]) -> list[Any]:
    return [fact for entry in sim.store.reader.entries("tsk_a") if isinstance(fact := entry.open(), kind)]


async def begin(sim: Simulation, **request: Any) -> Any:
    return await sim.bus.submit_json("flow", request, id="a")


def lose_replica(sim: Simulation) -> None:
    for name in sim.living("replica"):
        sim.crash_peer(name)


async def comes_late(sim: Simulation, ok: bool = True, value: Any = "ann") -> None:
    """The replica that was given up lives after all and says how the write of the first attempt ended."""
    intent = of(sim, e.EffectIntended)[0]
    replica = sim.engine.router.pools["payer"].channels[0]
    frame = ToolEnded("tsk_a", intent.dispatch, intent.attempt, intent.effect, "pay", ok, encode(value), 5.0, False)
    sim.engine_cell.post(sim.engine.effects.ended, replica, frame)
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("at", [2.0, 4.0], ids=["while the task lives", "after it has ended"])
def test_the_end_of_an_abandoned_write_is_kept_though_the_orchestrator_was_restarted(at: float) -> None:
    deeds: list[str] = []

    async def main(sim: Simulation) -> None:
        await begin(sim, patience=1.5)
        await asyncio.sleep(at)
        assert [fact.then for fact in of(sim, e.EffectUnknown)] == ["none"]
        sim.crash_engine()
        await asyncio.sleep(30)
        assert deeds == ["ann"]
        (ended,) = of(sim, e.EffectEnded)
        assert (ended.tool, ended.ok, ended.value) == ("pay", True, "ann")
        sim.crash_engine()
        await asyncio.sleep(30)
        assert len(of(sim, e.EffectEnded)) == 1
        sim.store.reader.verify()

    simulate(main, make(deeds))


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("crash", ["", "effect.ended"])
def test_what_a_human_was_asked_is_withdrawn_once_the_world_answers(ok: bool, crash: str) -> None:
    deeds: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await asyncio.sleep(1)
        lose_replica(sim)
        await asyncio.sleep(1)
        (item,) = await sim.bus.inbox.list()
        assert item["kind"] == "unknown"
        if crash:
            sim.on_entry = lambda entry: sim.crash_engine() if entry.kind == crash else None
        await comes_late(sim, ok, "ann" if ok else {"code": "tool_failed", "message": "no", "facts": {}})
        sim.on_entry = None
        assert await task.outcome() == ("success" if ok else "failed")
        assert await sim.bus.inbox.list() == []
        assert [(fact.decision, fact.by) for fact in of(sim, e.ItemDecided)] == [("withdrawn", "the bus")]
        assert [fact.ok for fact in of(sim, e.EffectEnded)] == [ok]
        assert deeds == [], "it is not made again"
        sim.store.reader.verify()

    simulate(main, make(deeds))


def test_what_is_being_repeated_already_is_not_ended_by_who_was_given_up() -> None:
    deeds: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await asyncio.sleep(1)
        lose_replica(sim)
        await asyncio.sleep(1)
        assert len(of(sim, e.EffectIntended)) == 2
        await comes_late(sim)
        (refused,) = of(sim, e.ReplyRefused)
        assert refused.error["code"] == "stale_attempt"
        assert (await task.result())["said"] == "ann"
        assert [fact.attempt for fact in of(sim, e.EffectEnded)] == [of(sim, e.EffectIntended)[1].attempt]

    simulate(main, make(deeds, keyed=True))


def test_an_end_of_what_was_never_intended_is_nobody_s() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await asyncio.sleep(1)
        intent, replica = of(sim, e.EffectIntended)[0], sim.engine.router.pools["payer"].channels[0]
        for frame in (
            ToolEnded("tsk_a", intent.dispatch, "9-9", intent.effect, "pay", True, b'"bob"', 1.0, False),
            ToolEnded("tsk_a", "dsp_else", "9-8", "eff_else", "pay", True, b'"bob"', 1.0, False),
            ToolEnded("tsk_else", "dsp_else", "9-7", "eff_else", "pay", True, b'"bob"', 1.0, False),
        ):
            sim.engine_cell.post(sim.engine.effects.ended, replica, frame)
        await asyncio.sleep(0.1)
        assert of(sim, e.EffectEnded) == []
        assert (await task.result())["said"] == "ann"

    simulate(main, make([]))
