"""Tasks that only wait leave memory, and come back with whatever happens to them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from interlock import AgentContext, App, Budget, Escalate, Message, Never, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.errors import UnknownItem
from interlock.schemas.frames import Forget, Start
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="park.go", version="1.0.0"):
    how: str


class Note(Message, contract="park.note", version="1.0.0"):
    text: str


class Gone(Message, contract="park.gone", version="1.0.0"):
    said: str


def make() -> App:
    app = App("waits")

    @app.tool(effect="irreversible", system="world", repeat=Never())
    async def pay(amount: int) -> str:
        """Pay.

        Args:
            amount: How much.
        """
        return f"paid {amount}"

    @app.agent("payer", version="1.0.0", tools=[pay])
    async def payer(request: Note, ctx: AgentContext) -> Gone:
        return Gone(said=await ctx.call(pay, amount=7))

    @app.workflow("flow", version="1.0.0", escalate=Escalate(to="ops", seconds=3600), budget=Budget(seconds=90_000), receives=(Note,))
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        if request.how == "sleep":
            await ctx.sleep(600)
            await ctx.sleep(600)
            return Gone(said=f"slept until {ctx.now():%H:%M}")
        if request.how == "human":
            return Gone(said=(await ctx.ask_human("Well?")).note)
        if request.how == "receive":
            return Gone(said=" ".join([(await ctx.receive(Note)).text for _ in range(2)]))
        if request.how == "moment":
            await ctx.sleep(3)
            return Gone(said="soon")
        return await ctx.ask(Note(text="pay"), returns=Gone)

    return app


def play(main: Callable[[Simulation], Coroutine[Any, Any, None]], arm: Callable[[Simulation], None] | None = None) -> None:
    simulate(main, make(), arm=arm)


async def submit(sim: Simulation, how: str, id: str = "a") -> Any:
    return await sim.bus.submit(sim.app.workflows["flow"], Go(how=how), id=id)


async def parked(sim: Simulation, how: str, id: str = "a") -> Any:
    """A task that waits so and has left memory."""
    task = await submit(sim, how, id)
    await asyncio.sleep(15)
    assert task.id in sim.engine.parking
    assert task.id not in sim.engine.tasks
    return task


def kinds(sim: Simulation, task: str = "tsk_a") -> list[str]:
    return [entry.kind for entry in sim.store.reader.entries(task)]


def frames(sim: Simulation) -> list[Any]:
    """What peers take from now on."""
    seen: list[Any] = []
    sim.on_frame = lambda _, frame: seen.append(frame)
    return seen


def holds(sim: Simulation) -> list[str]:
    """What the runners hold."""
    return [held for name in sim.living("runner") for held in sim.peers[name][1].host.holds()]


def nothing_is_kept(sim: Simulation) -> None:
    engine = sim.engine
    assert not engine.tasks
    assert not engine.dispatches.live
    assert not engine.inbox._tasks
    assert not [key for key in engine.timers._handles if key[0]]
    assert not holds(sim)
    assert all(channel.load == 0 for channel in engine.workflows.runners)


def test_a_task_that_sleeps_leaves_memory_and_comes_back_in_time() -> None:
    async def main(sim: Simulation) -> None:
        taken = frames(sim)
        began = asyncio.get_running_loop().time()
        task = await parked(sim, "sleep")
        nothing_is_kept(sim)
        assert (await task.result()).said.startswith("slept until")
        assert asyncio.get_running_loop().time() - began == pytest.approx(1200, abs=1)
        assert [type(frame) for frame in taken] == [Start, Forget, Start, Forget, Start, Forget]
        assert kinds(sim).count("task.parked") == 2
        assert len(sim.engine.parking) == 0

    play(main)


def test_a_short_wait_is_waited_for_in_memory() -> None:
    async def main(sim: Simulation) -> None:
        task = await submit(sim, "moment")
        assert (await task.result()).said == "soon"
        assert "task.parked" not in kinds(sim)

    play(main)


def test_a_human_answers_a_parked_task() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "human")
        nothing_is_kept(sim)
        (item,) = await sim.bus.inbox.list()
        (row,) = await sim.bus.tasks()
        assert row["state"] == "waiting"
        status = await sim.bus.status()
        assert (status["live_tasks"], status["parked_tasks"], status["waiting_tasks"]) == (1, 1, 1)
        with pytest.raises(UnknownItem):
            await sim.bus.inbox.approve("itm_other", by="ann")
        await sim.bus.inbox.approve(item["item"], "yes indeed", by="ann")
        assert (await task.result()).said == "yes indeed"
        assert (await sim.bus.status())["waiting_tasks"] == 0

    play(main)


def test_an_approval_of_a_parked_dispatch_is_carried_out_once() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "pay")
        nothing_is_kept(sim)
        (item,) = await sim.bus.inbox.list()
        await sim.bus.inbox.approve(item["item"], by="ann")
        await sim.bus.inbox.approve(item["item"], by="ann")
        assert (await task.result()).said == "paid 7"
        assert kinds(sim).count("effect.intended") == 1

    play(main)


def test_an_item_of_a_parked_task_expires() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "pay")
        assert await task.outcome() == "expired"
        assert asyncio.get_running_loop().time() == pytest.approx(3600, abs=5)

    play(main)


def test_messages_into_a_parked_task_are_received() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "receive")
        await task.send(Note(text="one"), id="m1")
        assert task.id in sim.engine.tasks
        await asyncio.sleep(15)
        assert task.id in sim.engine.parking
        await task.send(Note(text="one"), id="m1")
        await task.send(Note(text="two"), id="m2")
        assert (await task.result()).said == "one two"

    play(main)


def test_a_parked_task_is_killed() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "human")
        receipt = await task.kill("enough", by="ann")
        assert receipt["task"] == task.id
        assert await task.outcome() == "killed"
        assert len(sim.engine.parking) == 0
        assert await sim.bus.inbox.list() == []

    play(main)


def test_the_seconds_of_a_parked_task_run_out() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "receive")
        assert await task.outcome() == "budget_exceeded"
        assert asyncio.get_running_loop().time() == pytest.approx(90_000, abs=5)

    play(main)


def test_a_submit_that_is_repeated_meets_the_parked_task() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "human")
        assert (await submit(sim, "human")).id == task.id
        assert task.id in sim.engine.parking
        assert kinds(sim).count("task.accepted") == 1

    play(main)


def test_who_watches_a_parked_task_hears_of_what_comes_next() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "human")
        last = sim.store.reader.entries(task.id)[-1].seq
        waiting = asyncio.create_task(sim.ask("entries", task.id, last, 100.0))
        await asyncio.sleep(1)
        (item,) = await sim.bus.inbox.list()
        await sim.bus.inbox.deny(item["item"], "no", by="ann")
        entries, _ = await waiting
        assert entries[0][4] == "item.decided"

    play(main)


@pytest.mark.parametrize("runner_too", [False, True])
def test_a_new_orchestrator_neither_reads_nor_replays_what_is_parked(runner_too: bool) -> None:
    async def main(sim: Simulation) -> None:
        tasks = [await parked(sim, how, how) for how in ("human", "pay", "receive", "sleep")]
        read: list[str] = []
        entries = type(sim.store).entries
        taken = frames(sim)
        sim.crash_engine(down=1.0)
        if runner_too:
            sim.crash_peer(sim.living("runner")[0])
        await asyncio.sleep(10)
        sim.store.entries = lambda task: read.append(task) or entries(sim.store, task)  # type: ignore[method-assign]
        assert len(sim.engine.parking) == 4
        nothing_is_kept(sim)
        assert not [frame for frame in taken if isinstance(frame, Start)]
        assert (await sim.bus.status())["waiting_tasks"] == 2
        for item in await sim.bus.inbox.list():
            await sim.bus.inbox.approve(item["item"], "so be it", by="ann")
        await tasks[2].send(Note(text="one"))
        await tasks[2].send(Note(text="two"))
        assert {await task.outcome() for task in tasks} == {"success"}

    play(main)


def test_a_runner_that_is_at_rest_is_not_told_to_replay_after_a_restart() -> None:
    """One that holds all is believed; one that is gone held nothing that has to be asked for before its next event."""

    async def main(sim: Simulation) -> None:
        await submit(sim, "human")
        await asyncio.sleep(1)
        taken = frames(sim)
        sim.crash_engine(down=0.1)
        await asyncio.sleep(1)
        assert holds(sim) == ["tsk_a 0"]
        assert taken == []

    play(main)


def test_what_happens_while_it_is_leaving_keeps_it() -> None:
    """Between the entry that says so and its being durable, something else comes."""

    async def main(sim: Simulation) -> None:
        task = await submit(sim, "receive")

        record = sim.engine.record

        def racing(state: Any, fact: e.Fact, *rest: Any, **more: Any) -> int:
            at = record(state, fact, *rest, **more)
            if isinstance(fact, e.TaskParked):
                sim.engine.record = record  # type: ignore[method-assign]
                doing.append(asyncio.ensure_future(task.send(Note(text="one"), id="m1")))
                sim.engine.timers.set("", "test", sim.clock.now(), lambda: None)
                record(state, e.PostRefused("m0", "park.note", {}, "ann"))
            return at

        doing: list[Any] = []
        sim.engine.record = racing  # type: ignore[method-assign]
        await asyncio.sleep(7)
        assert task.id in sim.engine.tasks
        await asyncio.sleep(15)
        assert task.id in sim.engine.parking
        await asyncio.gather(*doing)
        await task.send(Note(text="two"), id="m2")
        assert (await task.result()).said == "one two"

    play(main)


def test_nobody_is_parked_while_the_ledger_is_stalled() -> None:
    async def main(sim: Simulation) -> None:
        task = await submit(sim, "human")
        await asyncio.sleep(1)
        sim.fill_disk()
        await asyncio.sleep(30)
        assert task.id in sim.engine.tasks
        assert not sim.store.pending
        sim.free_disk()
        await asyncio.sleep(3)
        assert task.id in sim.engine.parking

    play(main)
