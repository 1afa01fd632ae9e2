"""A message that ends replica after replica becomes a dead letter: kept whole, handed to nobody until a human has decided."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, AgentFailed, App, Budget, Escalate, Message, Outcome, TaskFailed, WorkflowContext
from interlock.local_ports import LocalHosts
from interlock.schemas import entries as e
from interlock.schemas.errors import AlreadyDecided, Erased, LetterOver, UnknownLetter
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="dead.go", version="1.0.0"):
    name: str


class Work(Message, contract="dead.work", version="1.0.0"):
    name: str


class Done(Message, contract="dead.done", version="1.0.0"):
    said: str


app = App("dead")


@app.agent("worker", version="1.0.0", replicas=(2, 4))
async def worker(request: Work, ctx: AgentContext) -> Done:
    await asyncio.sleep(1)
    return Done(said=f"did {request.name}")


@app.workflow("flow", version="1.0.0", budget=Budget(seconds=100_000), escalate=Escalate(to="ops", seconds=3600))
async def flow(request: Go, ctx: WorkflowContext) -> Done:
    try:
        return await ctx.ask(Work(name=request.name), returns=Done)
    except AgentFailed as error:
        return Done(said=str(error))


def poison(sim: Simulation, *tasks: str) -> list[str]:
    """Every replica that begins to work for one of these tasks ends, half a second later; who did."""
    ended: list[str] = []

    def work(name: str, task: str) -> None:
        if name.startswith("worker") and task in tasks:
            ended.append(name)
            asyncio.get_running_loop().call_later(0.5, sim.crash_peer, name)

    sim.on_work = work
    return ended


def test_nothing_is_handed_to_replicas_that_ended_while_they_were_idle() -> None:
    async def main(sim: Simulation) -> None:
        await asyncio.sleep(1)
        idle = sim.living("replica")
        assert len(idle) == 2
        for name in idle:
            sim.crash_peer(name)
            await LocalHosts(sim).lost(name, "its process ended")  # as a warden says
        task = await sim.bus.submit(flow, Go(name="good"), id="good")
        assert (await task.result()).said == "did good"
        facts = [event.fact async for event in task.events()]
        assert not any(isinstance(fact, e.DispatchAttempted) for fact in facts), "it accuses nobody"

    simulate(main, app)


async def letter(sim: Simulation) -> dict[str, Any]:
    """The dead letter, as soon as there is one."""
    while not (letters := await sim.bus.dead.list()):  # noqa: ASYNC110 - it waits for what announces itself to nobody
        await asyncio.sleep(0.5)
    (one,) = letters
    return one


def test_three_replicas_and_no_more_and_its_neighbours_are_no_dead_letters() -> None:
    async def main(sim: Simulation) -> None:
        ended = poison(sim, "tsk_bad")
        tasks = [await sim.bus.submit(flow, Go(name=id), id=id) for id in ("a", "b", "bad", "c", "d")]
        found = await letter(sim)
        assert found["task"] == "tsk_bad"
        assert len(set(ended)) == 3
        assert [await task.outcome() for task in tasks if task.id != "tsk_bad"] == [Outcome.SUCCESS] * 4
        (row,) = await sim.bus.tasks(state="waiting")
        assert row["task"] == "tsk_bad"
        status = await sim.bus.status()
        assert (status["dead_letters"], status["waiting_tasks"]) == (1, 1)
        whole = await sim.bus.dead.show(found["item"])
        assert whole["message"]["data"] == {"name": "bad"}
        assert whole["losses"] == [f"its replica {name} ended" for name in ended]
        await asyncio.sleep(600)
        assert len(ended) == 3, "nobody works on it"

    simulate(main, app)


def test_retried_it_is_handed_out_again_and_its_task_goes_on() -> None:
    async def main(sim: Simulation) -> None:
        poison(sim, "tsk_bad")
        task = await sim.bus.submit(flow, Go(name="bad"), id="bad")
        found = await letter(sim)
        sim.on_work = None
        await sim.bus.dead.retry(found["item"], "the agent is corrected")
        assert (await task.result()).said == "did bad"
        assert await sim.bus.dead.list() == []
        assert [one["decision"] for one in await sim.bus.dead.list(open_only=False)] == ["approved"]
        with pytest.raises(LetterOver, match="tsk_bad has ended as success"):
            await sim.bus.dead.drop(found["item"])

    simulate(main, app)


def test_retried_in_vain_it_is_another_dead_letter() -> None:
    async def main(sim: Simulation) -> None:
        ended = poison(sim, "tsk_bad")
        await sim.bus.submit(flow, Go(name="bad"), id="bad")
        first = await letter(sim)
        await sim.bus.dead.retry(first["item"])
        second = await letter(sim)
        assert second["item"] != first["item"]
        assert len(ended) == 6
        with pytest.raises(AlreadyDecided):
            await sim.bus.dead.drop(first["item"])

    simulate(main, app)


def test_dropped_its_ask_has_failed_and_the_workflow_may_go_another_way() -> None:
    async def main(sim: Simulation) -> None:
        poison(sim, "tsk_bad")
        task = await sim.bus.submit(flow, Go(name="bad"), id="bad")
        await sim.bus.dead.drop((await letter(sim))["item"], "not worth it", by="ops")
        assert "3 replicas ended on it, and ops dropped it (not worth it)" in (await task.result()).said

    simulate(main, app)


def test_where_nobody_decides_its_task_expires_and_the_letter_is_kept() -> None:
    async def main(sim: Simulation) -> None:
        poison(sim, "tsk_bad")
        task = await sim.bus.submit(flow, Go(name="bad"), id="bad")
        found = await letter(sim)
        with pytest.raises(TaskFailed, match="nobody at ops decided"):
            await task.result()
        assert (await sim.bus.dead.show(found["item"]))["message"]["data"] == {"name": "bad"}
        with pytest.raises(LetterOver, match="tsk_bad has ended as expired"):
            await sim.bus.dead.retry(found["item"])
        with pytest.raises(UnknownLetter):
            await sim.bus.dead.show("itm_none")
        await task.erase("asked to")
        with pytest.raises(Erased, match="What tsk_bad said was erased for good"):
            await sim.bus.dead.show(found["item"])

    simulate(main, app)


@pytest.mark.parametrize("kind", [e.DeadLettered.KIND, e.ItemAsked.KIND, e.DispatchSuspended.KIND, e.ItemDecided.KIND])
@pytest.mark.parametrize("retry", [True, False])
def test_an_orchestrator_may_die_at_any_step_of_it(kind: str, retry: bool) -> None:
    async def main(sim: Simulation) -> None:
        ended = poison(sim, "tsk_bad")
        crashed = False

        def crash(entry: e.Entry) -> None:
            nonlocal crashed
            if entry.kind == kind and not crashed:
                crashed = True
                sim.crash_engine(down=0.5)

        sim.on_entry = crash
        task = await sim.bus.submit(flow, Go(name="bad"), id="bad")
        found = await letter(sim)
        sim.on_work = None
        await (sim.bus.dead.retry if retry else sim.bus.dead.drop)(found["item"], by="ops")
        assert ("did bad" if retry else "ops dropped it") in (await task.result()).said
        assert crashed
        assert len(ended) == 3

    simulate(main, app)
