"""Erasing and pruning on a whole bus: a live task is killed first, what is done stays done, what a live task needs stays."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from test_deeds import BUS, Orders, arm, bill, facts, make

from interlock import App, Finding, Keyed, Message, WorkflowContext
from interlock.orchestrator.admission import Submission
from interlock.orchestrator.ledger.memory import MemoryLedger
from interlock.schemas import entries as e
from interlock.schemas.bus_entries import RETENTION_DAYS
from interlock.schemas.errors import Erased, InvalidMessage, RetentionTooShort, TaskFailed, TaskLive, TaskOver, UnknownTask
from interlock.schemas.record import Outcome
from interlock.testing.simulation import Simulation, simulate

WORD = "abracadabra"
DAYS = 86_400_000_000


class Ask(Message, contract="erasure.ask", version="1.0.0"):
    text: str
    seconds: float = 0.0


class Told(Message, contract="erasure.told", version="1.0.0"):
    text: str


PLAYBOOK = {
    "rules": [
        {"agent": "thinker", "tool_results": 0, "answer": {"tool_calls": [{"name": "look", "arguments": {"what": WORD}}]}},
        {"agent": "thinker", "tool_results": 1, "answer": {"json": {"text": f"It is {WORD}."}}},
    ]
}


def thinking() -> App:
    """`think` asks a model with a tool and sleeps, `question` asks a human, `listen` waits for a message."""
    app = App("thinking")

    @app.tool(effect="read")
    async def look(what: str) -> str:
        """Look.

        Args:
            what: At what.
        """
        return f"{what} is there"

    app.agent("thinker", version="1.0.0", accepts=Ask, returns=Told, instructions="Think.", tools=[look], model="scripted-1")

    @app.workflow("think", version="1.0.0")
    async def think(request: Ask, ctx: WorkflowContext) -> Told:
        told = await ctx.ask(request, returns=Told)
        await ctx.sleep(request.seconds)
        return told

    @app.workflow("question", version="1.0.0")
    async def question(request: Ask, ctx: WorkflowContext) -> Told:
        answer = await ctx.ask_human(request.text, about=request.text)
        return Told(text=answer.note)

    @app.workflow("listen", version="1.0.0", receives=Ask)
    async def listen(request: Ask, ctx: WorkflowContext) -> Told:
        return Told(text=(await ctx.receive(Ask)).text)

    return app


async def ended(sim: Simulation, id: str, workflow: str = "think", **more: Any) -> Any:
    task = await sim.bus.submit(sim.app.workflows[workflow], Ask(text=WORD, **more), id=id)
    await task.outcome()
    return task


def kept(sim: Simulation) -> str:
    """All that can be read of what the ledger keeps."""
    assert isinstance(sim.store, MemoryLedger)
    disk = sim.store.disk
    return repr([entry.open() for entry in disk.log]) + repr(disk.tables.rows)


def test_a_task_that_has_ended_is_erased_for_good() -> None:
    async def main(sim: Simulation) -> None:
        task = await ended(sim, "one")
        assert (await task.result()).text == f"It is {WORD}."
        before = await task.record()
        assert WORD in kept(sim)
        erased = await task.erase("asked to", by="ann")
        assert (erased["by"], erased["why"], erased["plain"], erased["traces"], erased["receipt"]) == ("ann", "asked to", 0, False, None)
        assert WORD not in kept(sim)
        assert await task.record() == before, "what it did and cost is no content"
        assert [event.kind async for event in task.events()][-1] == "task.erased"
        assert await task.erase("again") == erased, "once"
        assert sim.store.reader.verify() == len(sim.store.reader.all_entries(limit=10_000))

    simulate(main, thinking(), PLAYBOOK)


def test_who_wants_its_result_or_to_submit_it_again_hears_that_it_was_erased() -> None:
    async def main(sim: Simulation) -> None:
        task = await ended(sim, "one")
        await task.erase("asked to")
        sim.crash_engine()
        again = sim.bus.task("one")
        assert await again.outcome() == Outcome.SUCCESS
        with pytest.raises(Erased, match="That it happened and how it ended stays on record"):
            await again.result()
        with pytest.raises(Erased):
            await sim.bus.submit(sim.app.workflows["think"], Ask(text=WORD), id="one")
        assert (await ended(sim, "two")).id == "tsk_two"

    simulate(main, thinking(), PLAYBOOK)


def test_a_live_task_is_killed_first_and_what_comes_late_is_not_kept() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["think"], Ask(text=WORD), id="one")
        asked = await sim.bus.submit(sim.app.workflows["question"], Ask(text=WORD), id="two")
        await asyncio.sleep(30)  # the question is parked by now
        sleeper = await sim.bus.submit(sim.app.workflows["think"], Ask(text=WORD, seconds=1000), id="three")
        for live in (sleeper, asked):
            with pytest.raises(TaskLive):
                await sim.ask("erase", live.id, "ann", "why")
            erased = await live.erase("asked to")
            assert erased["receipt"]["verified"]
            assert await live.outcome() == Outcome.KILLED
        assert await task.outcome() == Outcome.SUCCESS
        assert WORD in kept(sim), "others keep what they said"
        await task.erase("asked to")
        await asyncio.sleep(60)
        assert WORD not in kept(sim)
        sim.store.reader.verify()

    simulate(main, thinking(), PLAYBOOK)


def test_an_orchestrator_that_dies_before_it_hears_of_the_order_is_waited_for() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["think"], Ask(text=WORD, seconds=1000), id="one")
        await asyncio.sleep(5)
        kill = task.kill

        async def killed(why: str, *, by: str | None = None) -> dict[str, Any]:
            sim.crash_engine(down=10.0)  # the receipt does not wait for the next one, who finds the task alive and hears of the order then
            return await kill(why, by=by)

        task.kill = killed  # type: ignore[method-assign]
        erased = await task.erase("law", by="ann")
        assert erased["receipt"] is not None
        assert await task.outcome() == Outcome.KILLED
        assert WORD not in kept(sim)

    simulate(main, thinking(), PLAYBOOK)


@pytest.mark.parametrize("kind", ["task.ended", "task.erased", "receipt.recorded"])
def test_an_orchestrator_that_dies_on_the_way_leaves_no_half_of_it(kind: str) -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["think"], Ask(text=WORD, seconds=1000), id="one")
        await asyncio.sleep(30)
        died: list[str] = []

        def die(entry: e.Entry) -> None:
            if entry.kind == kind and not died:
                died.append(kind)
                sim.crash_engine()

        sim.on_entry = die
        await task.erase("asked to")
        await asyncio.sleep(30)
        assert died
        assert WORD not in kept(sim)
        assert len(facts(sim, e.TaskErased)) == 1
        sim.store.reader.verify()

    simulate(main, thinking(), PLAYBOOK)


def test_a_refused_submit_can_be_erased_and_its_id_is_used_up() -> None:
    async def main(sim: Simulation) -> None:
        with pytest.raises(InvalidMessage):
            await sim.bus.submit_json("think", {"text": WORD, WORD: WORD}, id="one")
        with pytest.raises(UnknownTask):
            await sim.bus.task("two").erase("asked to")
        assert WORD in kept(sim)
        await sim.bus.task("one").erase("asked to")
        assert WORD not in kept(sim)
        with pytest.raises(Erased):
            await sim.bus.submit_json("think", {"text": WORD}, id="one")

    simulate(main, thinking(), PLAYBOOK)


def test_a_deed_of_an_erased_task_is_done_and_stays_done(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders.db")

    async def main(sim: Simulation) -> None:
        first = await bill(sim, "a")
        assert (await first.result()).number == "INV-1"
        await first.erase("asked to")
        sim.crash_engine()
        second = await bill(sim, "b", total="160.00")
        with pytest.raises(TaskFailed, match="did this before, under its key, for tsk_a: it is done and is not done again"):
            await second.result()
        assert orders.rows() == [("7294", "INV-1", "159.00")]
        assert orders.calls == ["159.00"], "it is never done again"
        (end,) = facts(sim, e.EffectEnded, "tsk_b")
        assert (end.ok, end.value["code"], bool(end.same_as)) == (False, "result_erased", True)
        assert (await (await bill(sim, "c", order="7295")).result()).number == "INV-2"
        sim.store.reader.verify()

    simulate(main, make(orders, BUS))


def test_only_what_model_calls_of_old_tasks_said_is_pruned() -> None:
    async def main(sim: Simulation) -> None:
        old = await ended(sim, "old")
        live = await sim.bus.submit(sim.app.workflows["think"], Ask(text=WORD, seconds=3600), id="live")
        await asyncio.sleep(30)
        assert (await sim.bus.prune())["tasks"] == 0
        sim.clock._start += (RETENTION_DAYS + 1) * DAYS  # type: ignore[attr-defined]
        young = await ended(sim, "young")
        would = await sim.bus.prune(dry_run=True)
        assert (would["tasks"], would["pruned"], would["days"]) == (1, False, RETENTION_DAYS)
        assert would["bytes"] > would["pieces"] > 3
        assert await sim.bus.prune(by="ann") == {**would, "pruned": True}
        assert (await sim.bus.prune())["tasks"] == 0
        assert {fact.request for fact in facts(sim, e.ModelCalled, old.id)} == {e.PRUNED}
        assert (await old.result()).text == f"It is {WORD}.", "what it said otherwise stays"
        for task in (young, live):
            assert not [fact for fact in facts(sim, e.ModelCalled, task.id) if isinstance(fact.response, e.Gone)]
        sim.store.reader.verify()
        sim.crash_engine()
        assert (await live.result()).text == f"It is {WORD}."

    simulate(main, thinking(), PLAYBOOK)


def test_it_is_kept_for_thirty_days_at_least() -> None:
    async def main(sim: Simulation) -> None:
        with pytest.raises(RetentionTooShort, match="kept for 30 days at least, and 29 were asked for"):
            await sim.bus.prune(days=29)

    simulate(main, thinking(), PLAYBOOK)


def test_a_message_into_an_erased_task_is_told_that_it_is_over() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["listen"], Ask(text=WORD), id="one")
        await task.send(Ask(text=WORD), id="p")
        assert (await task.result()).text == WORD
        await task.erase("asked to")
        with pytest.raises(TaskOver):
            await task.send(Ask(text=WORD), id="p")
        assert WORD not in kept(sim)

    simulate(main, thinking(), PLAYBOOK)


def test_what_a_probe_says_that_fails_goes_with_its_task(tmp_path: Path) -> None:
    """A human is told it; what is never erased says only that it could not tell."""
    orders = Orders(tmp_path / "orders.db")

    async def broken(order: str) -> Finding:
        """Look.

        Args:
            order: Whose.
        """
        raise LookupError(f"no row for {WORD}")

    async def main(sim: Simulation) -> None:
        arm(sim, orders, "replica", "after intent")
        task = await bill(sim, "one")
        await asyncio.sleep(20)
        (item,) = await sim.bus.inbox.list()
        assert "its probe cannot tell" in item["text"]
        assert WORD in item["text"]
        await task.erase("asked to")
        assert isinstance(sim.store, MemoryLedger)
        assert [entry.kind for entry in sim.store.disk.log if WORD.encode() in entry.data] == []

    simulate(main, make(orders, Keyed("order", scope="bus", probe=broken)))


def test_no_task_comes_in_under_an_id_while_it_is_erased() -> None:
    """A submit is refused, the same again waits behind it, and then somebody wants to erase what there is."""
    willing = [False]

    def may_come(request: Ask) -> bool:
        return willing[0]

    app = App("asking")

    @app.workflow("sleep", version="1.0.0", entry=may_come)
    async def sleep(request: Ask, ctx: WorkflowContext) -> Told:
        await ctx.sleep(1000)
        return Told(text=request.text)

    async def submit(sim: Simulation) -> list[Any]:
        return await sim.service.submit([Submission("tsk_one", "sleep", "1.0.0", Ask(text=WORD).model_dump_json().encode(), {}, "ann")])

    async def main(sim: Simulation) -> None:
        assert (await submit(sim))[0]["code"] == "entry_refused"
        first, second = (asyncio.create_task(submit(sim)) for _ in range(2))
        await asyncio.sleep(0)
        erasing = asyncio.create_task(sim.service.erase("tsk_one", "ann", "asked to"))
        checked = sim.engine.admission.checked
        sim.engine.admission.checked = lambda frame: (checked(frame), willing.__setitem__(0, True))[0]  # type: ignore[method-assign]
        assert (await first)[0]["code"] == "entry_refused"
        assert await second == [None]
        with pytest.raises(TaskLive):
            await erasing
        assert sim.engine.is_live("tsk_one")
        assert sim.store.reader.verify() == len(sim.store.reader.all_entries())

    simulate(main, app)
