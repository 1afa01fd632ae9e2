"""Undo: what a task that did not succeed has done is taken back, last first, each once, whoever dies meanwhile."""

import asyncio
from typing import Any

import pytest

from interlock.actors.supervisor.receipt import text
from interlock.schemas.errors import AlreadyEnded
from interlock.schemas.record import Receipt
from interlock.schemas.undo import undoing_of
from interlock.testing.simulation import Simulation, simulate
from tests.unit.undo_stage import BOTH, ID, UNDOING, World, make, outcome, states, submit


def test_what_a_killed_task_did_is_undone_last_first_and_the_receipt_says_so() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        task = await submit(sim)
        await asyncio.sleep(1)
        receipt = await task.kill("wrong month", by="ann")
        assert world.done == BOTH[:2]
        assert [(one["tool"], one["of"], one["state"], one["undoing"]) for one in receipt["undos"]] == [
            ("cancel", "reserve", "open", UNDOING)
        ] * 2
        assert f"{UNDOING} undoes it; `interlock kill {UNDOING}` stops that" in text(Receipt(**receipt))
        assert await outcome(sim) == "success"
        assert world.done == BOTH
        assert states(sim) == ["undone", "undone"]
        assert await outcome(sim, ID) == "killed"
        again = await task.kill("again")
        assert [one["state"] for one in again["undos"]] == ["undone", "undone"]
        assert (again["order"], again["why"]) == (receipt["order"], "wrong month")

    simulate(main, make(world))


@pytest.mark.parametrize("then", ["fail", "hang"])
def test_so_is_what_a_task_did_that_failed_or_ran_out_of_its_budget(then: str) -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        await submit(sim, then)
        ended = await outcome(sim, ID)
        assert ended == ("failed" if then == "fail" else "budget_exceeded")
        assert await outcome(sim) == "success"
        assert world.done == (BOTH if then == "fail" else ["book flight", "cancel flight"])
        assert await outcome(sim, ID) == ended

    simulate(main, make(world))


def test_a_task_that_succeeds_is_not_undone() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        await (await submit(sim, "end")).result()
        await asyncio.sleep(60)
        assert world.done == BOTH[:2]
        assert [row["type"] for row in await sim.bus.tasks()] == ["trip"]

    simulate(main, make(world))


def test_nothing_is_undone_that_did_not_happen_or_that_nobody_wants_undone() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        task = await submit(sim, "hang")
        await asyncio.sleep(1)
        receipt = await task.kill("enough", undo=False)
        await asyncio.sleep(60)
        assert world.done == ["book flight"]
        assert [one["state"] for one in receipt["undos"]] == ["not wanted"]
        early = await submit(sim, "early", id="b")
        await asyncio.sleep(1)
        await early.kill("enough")
        assert states(sim, early.id) == ["not needed"]
        assert await outcome(sim, undoing_of("tsk_b")) == "success"
        assert "cancel flight" not in world.done

    simulate(main, make(world))


def test_whoever_dies_at_whichever_entry_each_is_undone_once() -> None:
    """The orchestrator dies after each entry that there is from the kill on in a calm run, and some of those who work for it with it."""

    def play(at: int) -> int:
        world = World()

        async def main(sim: Simulation) -> int:
            task = await submit(sim)
            await asyncio.sleep(30)
            entries = 0

            def heard(entry: Any) -> None:
                nonlocal entries
                entries += 1
                if entries == at:
                    sim.crash_engine(down=0.1)
                    for name in sim.living()[: at % 3]:
                        sim.crash_peer(name)

            sim.on_entry = heard
            await task.kill("enough")
            await asyncio.sleep(60)
            assert (await outcome(sim), await outcome(sim, ID)) == ("success", "killed")
            assert world.done == BOTH
            assert states(sim) == ["undone", "undone"]
            assert not sim.engine.tasks
            sim.store.reader.verify()
            return entries

        return simulate(main, make(world))

    for at in range(1, play(0) + 1):
        play(at)


def test_killed_again_the_undoing_stops_and_what_is_left_is_said() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        task = await submit(sim)
        await asyncio.sleep(1)
        begun = asyncio.Event()
        world.on_cancel = begun.set
        world.broken = {"hotel"}
        await task.kill("wrong month", by="ann")
        await asyncio.wait_for(begun.wait(), 60)
        stopped = await sim.bus.task(UNDOING).kill("leave it", by="bob")
        assert (stopped["task"], stopped["by"]) == (UNDOING, "bob")
        await asyncio.sleep(60)
        assert world.done == BOTH[:2]
        assert await outcome(sim) == "killed"
        assert states(sim)[0] == "stopped"
        assert (await task.kill("once more", by="eve"))["by"] == "ann"

    simulate(main, make(world))


def test_a_kill_that_is_made_again_while_the_first_one_is_being_undone_stops_nothing_of_it() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        task = await submit(sim)
        await asyncio.sleep(1)
        begun = asyncio.Event()
        world.on_cancel = begun.set
        first = await task.kill("wrong month", by="ann")
        await asyncio.wait_for(begun.wait(), 60)
        assert await task.kill("wrong month", by="ann") == first
        assert await sim.supervisor.ladder.kill(ID, "ann", "wrong month") == Receipt(**first)
        assert await outcome(sim) == "success"
        assert states(sim) == ["undone", "undone"]

    simulate(main, make(world))


def test_of_a_task_that_ended_by_itself_the_undoing_is_killed_by_its_own_name() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        world.broken = {"hotel"}
        task = await submit(sim, "fail")
        assert await outcome(sim, ID) == "failed"
        await asyncio.sleep(1)
        with pytest.raises(AlreadyEnded):
            await task.kill("leave it", by="bob")
        assert (await sim.bus.task(UNDOING).kill("leave it", by="bob"))["task"] == UNDOING
        assert (await outcome(sim), await outcome(sim, ID)) == ("killed", "failed")

    simulate(main, make(world))
