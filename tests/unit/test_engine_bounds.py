"""One task's absurd numbers, and whatever else goes wrong with it, end that task or refuse its submit; everybody else goes on."""

import asyncio
import sys
from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Escalate, Message, WorkflowContext
from interlock.orchestrator.admission import Submission
from interlock.schemas import entries as e
from interlock.schemas.budget import asked_amounts
from interlock.schemas.canonical import encode
from interlock.schemas.errors import BadDeclaration, EntryRefused, UnknownTask
from interlock.schemas.times import LONGEST_SECONDS, after, rfc3339
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="bounds.go", version="1.0.0"):
    how: str = "plain"


class Gone(Message, contract="bounds.gone", version="1.0.0"):
    said: str = ""


def make(**options: Any) -> App:
    app = App("bounds")

    @app.agent("agent", version="1.0.0")
    async def agent(request: Go, ctx: AgentContext) -> Gone:
        return Gone(said=request.how)

    @app.workflow("flow", version="1.0.0", budget=Budget(seconds=None), **options)
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        if request.how == "sleep":
            await asyncio.sleep(sys.maxsize)
        return await ctx.ask(request, returns=Gone)

    return app


@pytest.mark.parametrize(
    "limits",
    [
        {"seconds": "1e12"},
        {"usd": "1e300"},
        {"usd": "1e-300"},
        {"writes/x": "9" * 25},
        {"tokens": "9" * 5000},
        {"steps": 2**53 + 1},
        {"seconds": "inf"},
        {"seconds": None},
    ],
)
def test_an_amount_beyond_every_bound_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(BadDeclaration) as refused:
        asked_amounts(limits)
    assert len(str(refused.value)) < 300


def test_what_is_declared_is_bounded_too() -> None:
    for wrong in ({"seconds": 1e12}, {"tokens": 10**30}, {"usd": "1e300"}, {"writes": {"x": 10**30}}):
        with pytest.raises(BadDeclaration, match="the most that"):
            Budget(**wrong)
    for seconds in (0, -1, 1e12, float("inf"), float("nan")):
        with pytest.raises(BadDeclaration):
            Escalate(to="ops", seconds=seconds)


def test_every_moment_that_can_be_reached_has_a_date() -> None:
    now = 1_800_000_000_000_000
    assert after(now, 1.5) == now + 1_500_000
    assert after(now, 1e300) == after(now, LONGEST_SECONDS)
    assert rfc3339(after(now, 1e300)).startswith("2126-")
    assert after(now, -5) == now


def test_a_sleep_for_ever_sleeps_and_stops_nobody() -> None:
    async def main(sim: Simulation) -> None:
        await sim.bus.submit_json("flow", {"how": "sleep"}, id="long")
        task = await sim.bus.submit_json("flow", {}, id="a")
        assert await task.outcome() == "success"
        sim.crash_engine()
        assert await (await sim.bus.submit_json("flow", {}, id="b")).outcome() == "success"
        assert [row["task"] for row in await sim.bus.tasks(state="running")] == ["tsk_long"]
        assert sim.store.epoch == 2

    simulate(main, make())


@pytest.mark.parametrize("where", ["ask", "then", "timer"])
def test_whatever_goes_wrong_with_one_task_ends_that_task_alone(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(sim: Simulation) -> None:
        engine = sim.engine

        def wrong(*_: Any) -> None:
            raise OverflowError("year 33658 is out of range \udcff")

        if where == "ask":
            monkeypatch.setattr(engine.dispatches, "ask", wrong)
        elif where == "then":
            monkeypatch.setattr(engine.workflows, "deliver", wrong)
        else:
            monkeypatch.setattr(engine.workflows, "_fire", wrong)
        how = "sleep" if where == "timer" else "plain"
        task = await sim.bus.submit_json("flow", {"how": how}, id="bad")
        if where == "timer":
            await asyncio.sleep(1)
            engine.timers.set("tsk_bad", "timer 1", sim.clock.now(), wrong)
        assert await task.outcome() == "failed"
        (ended,) = [fact for entry in sim.store.reader.entries("tsk_bad") if isinstance(fact := entry.open(), e.TaskEnded)]
        assert "could not carry out" in ended.reason
        assert "OverflowError: year 33658" in ended.reason
        monkeypatch.undo()
        assert await (await sim.bus.submit_json("flow", {}, id="good")).outcome() == "success"
        assert sim.store.epoch == 1
        assert sim.engine is engine

    simulate(main, make())


def test_one_submit_that_cannot_be_written_down_fails_alone() -> None:
    async def main(sim: Simulation) -> None:
        request = encode({"how": "plain"})
        good, bad = Submission("tsk_a", "flow", "", request, {}, "ann"), Submission("tsk_b", "flow", "", request, {}, "\udcff")
        first, second = await sim.ask("submit", [good, bad])
        assert first is None
        assert "nothing that can be recorded" in second["message"]
        await asyncio.sleep(1)
        assert "tsk_b" not in sim.engine.tasks
        assert not await sim.engine.budgets.used("tsk_b")
        assert [row["outcome"] for row in await sim.bus.tasks()] == ["success"]

    simulate(main, make())


def test_an_entry_condition_that_hangs_is_refused_and_its_runner_replaced() -> None:
    def waits(request: Go) -> bool:
        return True

    async def main(sim: Simulation) -> None:
        await asyncio.sleep(1)
        (name,) = sim.living("runner")
        peer = sim.peers[name][1]

        async def frozen(request: bytes) -> bytes:
            await asyncio.sleep(100_000)
            raise AssertionError("nobody waits for it")

        peer.exchange = frozen  # type: ignore[method-assign]
        began = asyncio.get_running_loop().time()
        with pytest.raises(EntryRefused, match="gave no answer within 10 seconds"):
            await sim.bus.submit_json("flow", {}, id="a")
        assert asyncio.get_running_loop().time() - began < 12
        assert await (await sim.bus.submit_json("flow", {}, id="b")).outcome() == "success"
        assert peer.gone
        assert name not in sim.living("runner")

    simulate(main, make(entry=waits), limit=1_000_000)


def test_a_poll_that_finds_nothing_leaves_nothing_behind_and_reads_only_what_is_new() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit_json("flow", {"how": "sleep"}, id="a")
        await asyncio.sleep(10)
        entries, ended = await sim.ask("entries", task.id, 0, 1.0)
        assert entries
        assert not ended
        for _ in range(5):
            assert await sim.ask("entries", task.id, entries[-1][0], 1.0) == ([], False)
        assert sim.engine._watching == {}
        assert await sim.ask("entries", task.id, entries[0][0], 1.0) == (entries[1:], False)
        with pytest.raises(UnknownTask):
            await sim.ask("entries", "tsk_nobody", 0, 1.0)

    simulate(main, make())
