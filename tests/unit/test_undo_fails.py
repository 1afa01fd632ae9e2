"""Undoing that fails, that nobody can vouch for, that has no budget left, or that somebody stops."""

import asyncio
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import pytest
from test_cli import Shell

from interlock import AgentContext, Budget, LocalBus, Message, Natural, Never, WorkflowContext
from interlock.cli import connection
from interlock.schemas.errors import BadTaskId, TaskFailed, TaskLive, UnknownTaskType
from interlock.schemas.undo import UNDO, undoing_of
from interlock.testing.simulated_ports import Wardens
from interlock.testing.simulation import Simulation, simulate
from tests.unit.undo_stage import BOTH, ID, UNDOING, Book, Booked, Part, PartBooked, World, make, outcome, states, submit


@pytest.mark.parametrize("mended", [True, False])
def test_an_undo_that_fails_asks_a_human_and_the_others_follow(mended: bool) -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        world.broken = {"hotel"}
        await submit(sim, "fail")
        await outcome(sim, ID)
        await asyncio.sleep(30)  # it has left memory meanwhile
        (item,) = await sim.bus.inbox.list()
        assert (item["task"], item["to"], item["kind"]) == (UNDOING, "boss", "question")
        assert "Undoing tsk_a by cancel failed: " in item["text"]
        assert "the desk is closed" in item["text"]
        assert states(sim) == ["open", "failed"]
        if mended:
            world.broken.clear()
        await (sim.bus.inbox.approve if mended else sim.bus.inbox.deny)(item["item"], "", by="boss")
        assert await outcome(sim) == "success"
        assert world.done[2:] == (["cancel hotel", "cancel flight"] if mended else ["cancel flight"])
        assert states(sim) == ["undone", "undone" if mended else "failed"]

    simulate(main, make(world))


def test_undoing_has_a_budget_of_its_own_and_waits_where_that_is_used_up() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        await submit(sim, "fail")
        await outcome(sim, ID)
        await asyncio.sleep(5)
        assert world.done == BOTH[:3]
        (item,) = await sim.bus.inbox.list()
        assert "limit on steps is reached" in item["text"]
        await sim.bus.task(UNDOING).change_budget({"steps": 5}, "one more")
        await sim.bus.inbox.approve(item["item"], by="boss")
        assert await outcome(sim) == "success"
        assert world.done == BOTH

    simulate(main, make(world, Budget(steps=1)))


def test_who_stops_everything_has_it_undone_and_who_does_so_again_stops_that_too() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        await submit(sim)
        await asyncio.sleep(1)
        receipt = await sim.bus.kill(everything=True, why="enough", by="ann")
        assert {one["state"] for one in receipt["undos"]} == {"open"}
        assert await outcome(sim) == "success"
        assert world.done == BOTH
        await sim.bus.resume(why="well again")
        world.broken = {"hotel"}
        await submit(sim, id="b", trip="oslo")
        await asyncio.sleep(1)
        await sim.bus.kill(type="trip", why="enough", by="ann")
        await asyncio.sleep(5)
        again = await sim.bus.kill(type="trip", why="and that too", by="bob")
        assert again["tasks"] == 1
        assert await outcome(sim, undoing_of("tsk_b")) == "killed"

    simulate(main, make(world))


def test_where_not_all_was_seen_to_stop_a_human_decides() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        task = await submit(sim, "hang")
        await asyncio.sleep(1)
        holder = next(name for name in sim.holders([ID]) if name.startswith("desk"))
        sim.freeze_peer(holder)
        end = Wardens.end

        async def blind(self: Wardens, names: Any) -> dict[str, str]:
            return {**await end(self, [name for name in names if name != holder]), holder: "unverified"}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Wardens, "end", blind)
            assert not (await task.kill("enough"))["verified"]
            await asyncio.sleep(5)
            (item,) = await sim.bus.inbox.list()
            assert "not all of its processes were seen to stop" in item["text"]
            assert world.done == ["book flight"]
            await sim.bus.inbox.approve(item["item"], by="boss")
            assert await outcome(sim) == "success"
        assert world.done == ["book flight", "cancel flight"]

    simulate(main, make(world))


def test_nobody_can_take_the_place_of_an_undoing_task() -> None:
    async def main(sim: Simulation) -> None:
        with pytest.raises(BadTaskId):
            await submit(sim, id=UNDOING.removeprefix("tsk_"))
        with pytest.raises(UnknownTaskType):
            await sim.bus.submit_json(UNDO, {"task": ID, "type": "trip"}, id="b")

    simulate(main, make(World()))


def test_what_a_task_did_is_erased_once_it_is_undone() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        world.broken = {"hotel"}
        task = await submit(sim, "fail", trip="a secret place")
        await outcome(sim, ID)
        await asyncio.sleep(5)
        with pytest.raises(TaskLive):
            await task.erase("gone")
        world.broken.clear()
        (item,) = await sim.bus.inbox.list()
        await sim.bus.inbox.approve(item["item"], by="boss")
        await outcome(sim)
        await task.erase("gone")
        said = [entry.open() for id in (ID, UNDOING) for entry in sim.store.reader.entries(id)]
        assert "a secret place" not in str(said)
        assert states(sim) == ["undone", "undone"]

    simulate(main, make(world))


def test_what_nobody_could_undo_is_not_registered() -> None:
    app = make(World())
    other = make(World())

    @other.tool(effect="write", system="travel", repeat=Natural("part"))
    async def orphan(part: str) -> bool:
        """Nobody has it.

        Args:
            part: Any.
        """
        return True

    @other.tool(effect="read")
    async def look(part: str) -> bool:
        """Look.

        Args:
            part: Any.
        """
        return True

    @app.workflow("wrong", version="1.0.0")
    async def wrong(request: Book, ctx: WorkflowContext) -> Booked:
        ctx.on_undo(orphan if request.then == "orphan" else look, part="hotel")
        await ctx.ask(Part(trip=request.trip, part="hotel"), returns=PartBooked)
        return Booked(parts=[])

    async def main(sim: Simulation) -> None:
        for then, words in (("orphan", "no agent that is deployed has it"), ("look", "look is no tool that writes")):
            with pytest.raises(TaskFailed, match=words):
                await (await sim.bus.submit_json("wrong", {"trip": "rome", "then": then}, id=then)).result()
        await asyncio.sleep(60)
        assert len(await sim.bus.tasks()) == 2

    simulate(main, app)


def test_a_live_task_is_undone_before_it_is_erased() -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        task = await submit(sim)
        await asyncio.sleep(1)
        told = await task.erase("gone", by="ann")
        assert told["receipt"]["by"] == "ann"
        assert world.done == BOTH
        assert "rome" not in str([entry.open() for id in (ID, UNDOING) for entry in sim.store.reader.entries(id)])

    simulate(main, make(world))


@pytest.mark.parametrize("happened", [True, False])
def test_of_an_undo_that_nobody_knows_a_human_says_whether_it_was_done(happened: bool) -> None:
    world = World()

    async def main(sim: Simulation) -> None:
        def strike() -> None:
            world.on_cancel = None
            holder = next(name for name in sim.holders([UNDOING]) if name.startswith("desk"))
            asyncio.get_running_loop().call_later(0.15 if happened else 0.05, sim.crash_peer, holder, context=outside)

        outside = copy_context()
        world.on_cancel = strike
        await submit(sim, "fail", parts=["flight"])
        await outcome(sim, ID)
        await asyncio.sleep(10)
        (item,) = await sim.bus.inbox.list()
        assert (item["task"], item["kind"], item["to"]) == (UNDOING, "unknown", "boss")
        assert states(sim) == ["unknown"]
        await (sim.bus.inbox.approve if happened else sim.bus.inbox.deny)(item["item"], by="boss")
        assert await outcome(sim) == "success"
        assert world.done == ["book flight", "cancel flight"]
        assert states(sim) == ["undone"]

    simulate(main, make(world, repeat=Never()))


def test_the_command_line_says_how_undoing_stands() -> None:
    world = World()
    with LocalBus(make(world)) as bus, pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "connect", lambda address, name: nullcontext(bus))
        shell = Shell(bus)
        for id, words, state in (("a", (), "undone"), ("b", ("--no-undo",), "NOT DONE, nobody wanted it")):
            task = bus.submit_json("trip", {"trip": "rome", "parts": ["flight"]}, id=id)
            assert next(True for event in task.events() if event.kind == "timer.set")
            said = shell.lines("kill", id, *words)
            if not words:
                assert f"  {UNDOING} undoes it; `interlock kill {UNDOING}` stops that" in said
                assert bus.task(UNDOING).outcome(timeout=60) == "success"
            assert f"undo by cancel of reserve: {state}" in shell.lines("show", id)
    assert world.done == ["book flight", "cancel flight", "book flight"]


class Spare(Message, contract="trip.spare", version="1.0.0"):
    part: str


def test_where_an_agent_is_stopped_another_one_undoes_that_has_the_tool() -> None:
    world = World()
    app = make(world)

    @app.agent("spare", version="1.0.0", tools=[app.agents["desk"].tools[1]])
    async def spare(request: Spare, ctx: AgentContext) -> Spare:
        return request

    async def main(sim: Simulation) -> None:
        await submit(sim, "hang")
        await asyncio.sleep(1)
        await sim.bus.kill(agent="desk", why="it writes nonsense")
        assert (await outcome(sim, ID), await outcome(sim)) == ("failed", "success")
        assert world.done == ["book flight", "cancel flight"]

    simulate(main, app)
