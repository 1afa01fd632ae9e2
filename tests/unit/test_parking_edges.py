"""Parked tasks where it is rare: what comes late, many that wake at once, long histories, and bounds."""

import asyncio
import dataclasses

import pytest
import test_dead_letters as dead_letters
from test_parking import Go, Gone, Note, kinds, parked, play, submit

from interlock import AgentContext, App, Escalate, Never, WorkflowContext
from interlock.orchestrator import bounds, parking
from interlock.orchestrator.parking import ParkingPace
from interlock.schemas import entries as e
from interlock.schemas.alarms import LOOK_SECONDS
from interlock.schemas.canonical import encode
from interlock.schemas.errors import LedgerDamaged, Overloaded
from interlock.schemas.frames import CallEnded, Replied
from interlock.testing.simulation import Simulation, simulate
from interlock.testing.virtual_time import VirtualClock


def test_a_clock_that_is_wrong_when_somebody_is_due_keeps_nobody_waiting_by_its_error() -> None:
    async def main(sim: Simulation) -> None:
        began = asyncio.get_running_loop().time()
        task = await parked(sim, "sleep")
        await asyncio.sleep(began + 595 - asyncio.get_running_loop().time())
        assert isinstance(sim.clock, VirtualClock)
        sim.clock._start -= 3_600_000_000
        await asyncio.sleep(10)
        sim.clock._start += 3_600_000_000
        await task.result()
        assert asyncio.get_running_loop().time() - began < 1200 + 2 * LOOK_SECONDS

    play(main)


@pytest.mark.parametrize("why", ["the loop has other work", "they have not done theirs"])
def test_many_that_wake_at_once_do_so_a_few_at_a_time(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "WAKE_PAUSE", 1.0)

    async def main(sim: Simulation) -> None:
        tasks = [await submit(sim, "sleep", f"t{n}") for n in range(7)]
        await asyncio.sleep(20)
        assert len(sim.engine.parking) == 7
        entries = type(sim.store).entries

        def slow(task: str) -> list[e.Entry]:
            asyncio.get_running_loop()._now += parking.WAKE_SECONDS / 2  # type: ignore[attr-defined]
            return entries(sim.store, task)

        if why == "the loop has other work":
            sim.store.entries = slow  # type: ignore[method-assign]
        else:
            monkeypatch.setattr(parking, "AWAKE_AT_MOST", 2)
        await asyncio.sleep(600 - 20 + 0.5)
        assert len(sim.engine.parking) == 5
        assert {await task.outcome() for task in tasks} == {"success"}
        assert len(sim.engine.parking) == 0

    play(main)


def test_a_task_whose_entries_cannot_be_read_when_it_is_due_wakes_once_they_can() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "sleep")
        entries = type(sim.store).entries

        def damaged(id: str) -> list[e.Entry]:
            raise LedgerDamaged(seq=1, problem="its key cannot be read")

        sim.store.entries = damaged  # type: ignore[method-assign]
        await asyncio.sleep(600)
        assert task.id in sim.engine.parking
        sim.store.entries = lambda id: entries(sim.store, id)  # type: ignore[method-assign]
        await asyncio.sleep(parking.UNREADABLE_SECONDS)
        assert "timer.fired" in kinds(sim)
        assert (await task.result()).said.startswith("slept until")

    play(main)


def test_a_read_that_was_under_way_when_its_dispatch_was_suspended_keeps_nobody_in_memory() -> None:
    app = App("waits")

    @app.tool(effect="irreversible", system="world", repeat=Never())
    async def pay(amount: int) -> str:
        """Pay.

        Args:
            amount: How much.
        """
        return f"paid {amount}"

    @app.tool(effect="read")
    async def look(what: str) -> str:
        """Look.

        Args:
            what: At what.
        """
        await asyncio.sleep(2)
        return f"{what} seen, "

    @app.agent("payer", version="1.0.0", tools=[pay, look])
    async def payer(request: Note, ctx: AgentContext) -> Gone:
        return Gone(said="".join(await asyncio.gather(ctx.call(look, what="x"), ctx.call(pay, amount=7))))

    @app.workflow("flow", version="1.0.0", escalate=Escalate(to="ops", seconds=3600))
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        return await ctx.ask(Note(text="pay"), returns=Gone)

    async def main(sim: Simulation) -> None:
        task = await parked(sim, "pay")
        (item,) = await sim.bus.inbox.list()
        await sim.bus.inbox.approve(item["item"], by="ann")
        assert (await task.result()).said == "x seen, paid 7"
        steps = [row for row in sim.rows if row.kind == "settle"]
        assert len(steps) == 2

    simulate(main, app)


def test_a_long_history_is_parked_later() -> None:
    def arm(sim: Simulation) -> None:
        sim.parking = ParkingPace(still=5.0, each=10.0, look=1.0)

    async def main(sim: Simulation) -> None:
        task = await submit(sim, "receive")
        await task.send(Note(text="one"))
        await asyncio.sleep(13)
        assert task.id in sim.engine.tasks
        await asyncio.sleep(5)
        assert task.id in sim.engine.parking

    play(main, arm)


def test_a_late_reply_to_a_parked_dispatch_is_refused_and_recorded_with_its_task() -> None:
    async def main(sim: Simulation) -> None:
        task = await parked(sim, "pay")
        sent = next(fact for entry in sim.store.reader.entries(task.id) if isinstance(fact := entry.open(), e.MessageSent))
        replica = next(iter(sim.engine.peers.channels.values()))
        sim.engine.dispatches.replied(replica, Replied(sent.dispatch, sent.attempt, "park.gone", "1.0.0", b"{}", False, task.id))
        await asyncio.sleep(0.1)
        assert kinds(sim)[-1] == "reply.refused"
        await asyncio.sleep(15)
        assert task.id in sim.engine.parking
        (item,) = await sim.bus.inbox.list()
        await sim.bus.inbox.approve(item["item"], by="ann")
        assert (await task.result()).said == "paid 7"

    play(main)


def test_a_model_call_that_ends_for_a_parked_task_is_part_of_it() -> None:
    """Its gateway was making it when the orchestrator died; the fold that comes next has it, durable or not."""

    async def main(sim: Simulation) -> None:
        task = await parked(sim, "pay")
        sent = next(fact for entry in sim.store.reader.entries(task.id) if isinstance(fact := entry.open(), e.MessageSent))
        gateway = next(iter(sim.engine.peers.channels.values()))
        record = {"model": "m", "request": {}, "response": {"ok": 1}, "error": None, "usage": {}, "price": "", "latency_ms": 1.0}
        fields = {field.name: record.get(field.name, "") for field in dataclasses.fields(e.ModelCalled)}
        for name in ("effect", "dispatch", "attempt", "instead_of", "gateway"):
            del fields[name]
        sim.engine.calls.called(gateway, CallEnded("eff_x", 1, True, encode(fields), task.id, sent.dispatch))
        assert sim.engine.dispatches.live[sent.dispatch].effects["eff_x"].status == "ended"
        await task.kill("enough", by="ann")

    play(main)


def test_tasks_that_are_parked_count_against_a_bound_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "OPEN_AT_MOST", 2)

    async def main(sim: Simulation) -> None:
        await parked(sim, "human", "a")
        await parked(sim, "human", "b")
        with pytest.raises(Overloaded, match="2"):
            await submit(sim, "human", "c")

    play(main)


@pytest.mark.parametrize("retry", [True, False])
def test_a_dead_letter_is_decided_while_its_task_is_parked(retry: bool) -> None:
    async def main(sim: Simulation) -> None:
        dead_letters.poison(sim, "tsk_bad")
        task = await sim.bus.submit(dead_letters.flow, dead_letters.Go(name="bad"), id="bad")
        found = await dead_letters.letter(sim)
        sim.on_work = None
        await asyncio.sleep(15)
        assert task.id in sim.engine.parking
        assert (await sim.bus.status())["dead_letters"] == 1
        await (sim.bus.dead.retry if retry else sim.bus.dead.drop)(found["item"], "seen to", by="ann")
        assert ("did bad" if retry else "ann dropped it (seen to)") in (await task.result()).said
        assert (await sim.bus.status())["dead_letters"] == 0

    simulate(main, dead_letters.app)
