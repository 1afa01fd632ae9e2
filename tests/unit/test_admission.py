"""What a driver may send wrong is refused in a sentence, and refuses nobody else who submits at the same moment."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from interlock import App, AsyncBus, Message, Refused, WorkflowContext
from interlock.orchestrator.admission import Submission
from interlock.schemas.budget import asked_amounts
from interlock.schemas.entries import Entry
from interlock.schemas.errors import BadDeclaration, BadTenant, InvalidMessage, LedgerDamaged, TaskConflict
from interlock.testing.simulation import Simulation, simulate


class Request(Message, contract="a.request", version="1.0.0"):
    n: int


app = App("a")


@app.workflow("w", version="1.0.0")
async def w(request: Request, ctx: WorkflowContext) -> Request:
    return request


def test_one_bad_submit_refuses_nobody_else() -> None:
    async def main() -> list[Any]:
        async with await AsyncBus.local(app) as bus:
            await bus.submit_json("w", {"n": 0}, id="known")
            coming = [
                bus.submit_json("w", b"{oops", id="known"),
                bus.submit_json("w", b"{oops"),
                bus.submit_json("w", {"n": 1}, limits={"tokens": "many"}),
                bus.submit_json("w", {"n": 1}, limits={"gold": 1}),
                bus.submit_json("w", {"n": 1}, id="good"),
            ]
            *refused, good = await asyncio.gather(*coming, return_exceptions=True)
            return [*refused, await good.outcome()]  # type: ignore[union-attr]

    *refused, outcome = asyncio.run(main())
    assert [type(error) for error in refused] == [TaskConflict, InvalidMessage, BadDeclaration, BadDeclaration]
    assert all(isinstance(error, Refused) for error in refused)
    assert outcome == "success"


@pytest.mark.parametrize("id", ["good", "tsk_", "tsk_A", "tsk_\udcff", "tsk_a/b", "tsk_" + "a" * 65, "msg_a", "", ["tsk_a"], None])
def test_a_name_that_is_none_is_refused_alone(id: Any) -> None:
    """Whoever speaks to the bus without our client may call a task anything."""

    async def main(sim: Simulation) -> None:
        bad, good = (Submission(one, "w", "", b'{"n":1}', {}, "ann") for one in (id, "tsk_good"))
        answers = await sim.ask("submit", [bad, good])
        assert answers[0]["code"] == "bad_task_id"
        assert answers[1] is None
        assert await sim.bus.task("tsk_good").outcome() == "success"
        assert "task.refused" not in {entry.kind for entry in sim.store.reader.all_entries()}

    simulate(main, app)


def test_who_cannot_be_looked_up_together_is_looked_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is damaged of one task is no reason to refuse another."""

    async def main(sim: Simulation) -> None:
        async def submit(n: int, *ids: str) -> list[Any]:
            answers: list[Any] = await sim.ask("submit", [Submission(id, "w", "", b'{"n":%d}' % n, {}, "ann") for id in ids])
            return [answer and answer["code"] for answer in answers]

        assert await submit(1, "tsk_a", "tsk_b") == [None, None]
        assert await sim.bus.task("tsk_a").outcome() == await sim.bus.task("tsk_b").outcome() == "success"
        assert await submit(2, "tsk_a", "tsk_c") == ["task_conflict", None]

        def damaged(tasks: Sequence[str]) -> dict[str, list[Entry]]:
            raise LedgerDamaged(seq=1, problem="somebody changed it")

        monkeypatch.setattr(sim.store.reader, "entries_of", damaged)
        assert await submit(2, "tsk_b", "tsk_d") == ["task_conflict", None]

    simulate(main, app)


@pytest.mark.parametrize("limits", [{"tokens": True}, {"tokens": 1.5}, {"steps": None}, {"writes/": 1}, {"usd": "inf"}, {"seconds": "-1"}])
def test_what_is_no_limit(limits: dict[str, Any]) -> None:
    with pytest.raises(BadDeclaration):
        asked_amounts(limits)


def test_limits_are_exact() -> None:
    assert {meter: str(amount) for meter, amount in asked_amounts({"usd": 0.1, "tokens": 5, "writes/db": "0"}).items()} == {
        "usd": "0.1",
        "tokens": "5",
        "writes/db": "0",
    }


def test_a_task_is_its_tenants_and_nobody_elses() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(w, Request(n=1), id="one", tenant="acme")
        assert await task.outcome() == "success"
        assert (await task.record()).tenant == "acme"
        other = await sim.bus.submit(w, Request(n=1), id="two")
        assert (await other.record()).tenant == "default"
        assert [(row["task"], row["tenant"]) for row in await sim.bus.tasks()] == [("tsk_two", "default"), ("tsk_one", "acme")]
        with pytest.raises(TaskConflict):
            await sim.bus.submit(w, Request(n=1), id="one", tenant="umbrella")
        for name in ("", "-acme", "a b", "a" * 65, "acme\n"):
            with pytest.raises(BadTenant):
                await sim.bus.submit(w, Request(n=1), tenant=name)

    simulate(main, app)
