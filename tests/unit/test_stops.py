"""Stops: what they name ends together, with one receipt; what they close stays closed until it is opened; whoever dies meanwhile."""

import asyncio
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import AgentContext, App, Budget, Message, Never, ToolContext, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.errors import (
    AlreadyDecided,
    BadDeclaration,
    Closed,
    TaskFailed,
    UnknownAgent,
    UnknownReplica,
    UnknownTaskType,
)
from interlock.schemas.stops import RESUME, SCOPES, STOP, Closures, Selection, StopOrder
from interlock.testing.simulation import Simulation, simulate

EVERYTHING = Selection("everything")


class Full(Exception):
    """What a bus says that takes no more."""


class Go(Message, contract="stops.go", version="1.0.0"):
    seconds: float = 1000.0


class Gone(Message, contract="stops.gone", version="1.0.0"):
    said: str = ""


def make() -> App:
    """Two task types over one agent that takes its time."""
    app = App("stops")

    @app.agent("waiter", version="1.0.0", replicas=(2, 2))
    async def waiter(request: Go, ctx: AgentContext) -> Gone:
        await asyncio.sleep(request.seconds)
        return Gone()

    for name in ("flow", "other"):

        @app.workflow(name, version="1.0.0", budget=Budget(seconds=10_000))
        async def flow(request: Go, ctx: WorkflowContext) -> Gone:
            try:
                return await ctx.ask(request, returns=Gone)
            except Closed as closed:
                return Gone(said=str(closed))

    return app


def waiters(sim: Simulation) -> list[str]:
    return [name for name in sim.living() if name.startswith("waiter-")]


async def submit(sim: Simulation, id: str, seconds: float = 1000.0, type: str = "flow", **more: Any) -> Any:
    return await sim.bus.submit_json(type, {"seconds": seconds}, id=id, **more)


async def reason(task: Any) -> str:
    with pytest.raises(TaskFailed) as failed:
        await asyncio.wait_for(task.result(), 600)
    assert failed.value.outcome == "killed"
    return str(failed.value.reason)


def of(sim: Simulation, kind: type[Any]) -> list[Any]:
    """Of the bus itself and of all tasks."""
    found = (entry.open() for task in ("", *(f"tsk_{id}" for id in "abcde")) for entry in sim.store.reader.entries(task))
    return [fact for fact in found if isinstance(fact, kind)]


@pytest.mark.parametrize(
    ("named", "killed"),
    [({"everything": True}, "abc"), ({"type": "flow"}, "ac"), ({"tenant": "acme"}, "c")],
)
def test_what_a_stop_names_ends_together_and_stays_closed_over_all_deaths(named: dict[str, Any], killed: str) -> None:
    async def main(sim: Simulation) -> None:
        tasks = {
            "a": await submit(sim, "a"),
            "b": await submit(sim, "b", type="other"),
            "c": await submit(sim, "c", tenant="acme"),
        }
        await asyncio.sleep(1)
        receipt = await sim.bus.kill(**named, why="enough", by="ann")
        assert (receipt["tasks"], receipt["verified"], receipt["by"]) == (len(killed), True, "ann")
        for id in killed:
            assert (await reason(tasks[id])).startswith("ann killed it: enough (")
        sim.crash_engine()
        sim.crash_supervisor()
        for name in sim.living():
            sim.crash_peer(name)
        await asyncio.sleep(60)
        with pytest.raises(Closed) as closed:
            await submit(sim, "d", tenant="acme")
        assert closed.value.by == "ann"
        assert f"interlock resume{closed.value.option}`" in str(closed.value)
        (shown,) = (await sim.bus.status())["stops"]
        assert (shown["by"], shown["why"]) == ("ann", "enough")
        assert {row["task"] for row in await sim.bus.tasks() if row["outcome"] == "killed"} == {f"tsk_{id}" for id in killed}
        await sim.bus.resume(why="it is mended", by="bob")
        assert (await sim.bus.status())["stops"] == []
        assert (await (await submit(sim, "e", 1.0, tenant="acme")).result())["said"] == ""
        assert [(one.what, one.by) for one in of(sim, e.StopOrdered)] == [("stop", "ann"), ("resume", "bob")]
        assert len(of(sim, e.StopCarriedOut)) == 1
        assert len(of(sim, e.ReceiptRecorded)) == len(killed)
        first = await tasks[killed[0]].kill("again")
        assert (first["part_of"], first["verified"]) == (receipt["task"], True)

    simulate(main, make())


def test_an_agent_that_is_stopped_fails_what_it_has_and_gets_nothing_until_it_is_opened() -> None:
    async def main(sim: Simulation) -> None:
        under_way = await submit(sim, "a")
        await asyncio.sleep(1)
        receipt = await sim.bus.kill(agent="waiter", why="it writes nonsense", by="ann")
        assert {one["how"] for one in receipt["processes"]} <= {"killed", "gone"}
        assert [one["incarnation"] for one in receipt["processes"]] == ["waiter-1", "waiter-2"]
        assert "agent waiter (it writes nonsense)" in (await under_way.result())["said"]
        later = await (await submit(sim, "b", 1.0)).result()
        assert "`interlock resume --agent waiter` opens it" in later["said"]
        sim.crash_supervisor()
        sim.crash_engine()
        await asyncio.sleep(60)
        assert waiters(sim) == []
        assert "Stopped by ann" in (await (await submit(sim, "c", 1.0)).result())["said"]
        await sim.bus.resume(agent="waiter", why="it is mended")
        assert (await (await submit(sim, "d", 1.0)).result())["said"] == ""

    simulate(main, make())


@pytest.mark.parametrize("where", ["in memory", "parked", "parked before a crash", "parked long ago"])
def test_what_waits_for_a_human_fails_with_its_agent_and_the_question_with_it(where: str) -> None:
    app, paid = App("payments"), []

    @app.tool(effect="irreversible", system="bank", repeat=Never())
    async def pay(amount: float, ctx: ToolContext) -> str:
        """Pay."""
        paid.append(amount)
        return "ok"

    @app.agent("payer", version="1.0.0", tools=[pay])
    async def payer(request: Go, ctx: AgentContext) -> Gone:
        return Gone(said=await ctx.call(pay, amount=request.seconds))

    @app.workflow("flow", version="1.0.0", budget=Budget(working_seconds=60))
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        try:
            return await ctx.ask(request, returns=Gone)
        except Closed:
            for _ in range(100):
                await ctx.sleep(1)
            raise AssertionError("its working seconds were over before") from None

    async def main(sim: Simulation) -> None:
        if where == "parked long ago":  # by an orchestrator that did not say of which agents
            store = sim.store.append
            sim.store.append = lambda id, fact, then=None: store(  # type: ignore[method-assign, misc]
                id, replace(fact, agents=[]) if isinstance(fact, e.TaskParked) else fact, then
            )
        task = await submit(sim, "a")
        await asyncio.sleep(1 if where == "in memory" else 20)
        assert (task.id in sim.engine.parking) == (where != "in memory")
        if where.startswith("parked "):
            sim.crash_engine()
            await asyncio.sleep(5)
        assert task.id not in sim.engine.tasks or where == "in memory"
        (asked,) = await sim.bus.inbox.list()
        assert (await sim.bus.kill(agent="payer", why="the wrong account", by="ann"))["verified"]
        await asyncio.sleep(1)
        assert await sim.bus.inbox.list() == []
        await sim.bus.resume(agent="payer", why="it is mended")
        with pytest.raises(AlreadyDecided, match="withdrawn"):
            await sim.bus.inbox.approve(asked["item"])
        assert (await task.outcome(), paid) == ("budget_exceeded", [])

    simulate(main, app)


def test_a_replica_that_is_killed_is_replaced_and_its_work_goes_on() -> None:
    async def main(sim: Simulation) -> None:
        task = await submit(sim, "a", 10.0)
        await asyncio.sleep(1)
        held = next(name for name in waiters(sim) if sim.peers[name][1].host.holds())
        receipt = await sim.bus.kill(replica=held, why="it is slow", by="ann")
        assert [(one["incarnation"], one["how"]) for one in receipt["processes"]] == [(held, "killed")]
        assert (await task.result())["said"] == ""
        assert len(waiters(sim)) == 2
        assert (await sim.bus.status())["stops"] == []

    simulate(main, make())


def test_a_drill_stops_synthetic_tasks_and_no_real_one() -> None:
    async def main(sim: Simulation) -> None:
        real = await submit(sim, "a", 10.0)
        await asyncio.sleep(1)
        receipt = await sim.bus.drill(tasks=5, by="ann")
        assert (receipt["tasks"], receipt["verified"], receipt["selection"]) == (5, True, "task type interlock.drill")
        assert (await real.result())["said"] == ""
        assert (await sim.bus.status())["stops"] == []
        await sim.bus.kill(type="interlock.drill", why="as a drill that died in the middle leaves it", by="ann")
        assert (await sim.bus.drill(tasks=1))["tasks"] == 1

    simulate(main, make())


def test_what_does_not_exist_cannot_be_stopped() -> None:
    async def main(sim: Simulation) -> None:
        for named, error in (({"agent": "x"}, UnknownAgent), ({"type": "x"}, UnknownTaskType), ({"replica": "x-1"}, UnknownReplica)):
            with pytest.raises(error):
                await sim.bus.kill(**named, why="a slip")  # type: ignore[arg-type]
        for both in ({}, {"agent": "waiter", "everything": True}, {"agent": ""}):
            with pytest.raises(BadDeclaration):
                await sim.bus.kill(**both, why="a slip")  # type: ignore[arg-type]
        assert (await sim.bus.status())["stops"] == []

    simulate(main, make())


def test_what_was_deployed_once_can_be_stopped_and_opened_by_its_name() -> None:
    async def main(sim: Simulation) -> None:
        task = await submit(sim, "a")
        await asyncio.sleep(1)
        await sim.engine.deploy(App("stops").spec(), "ann")
        for named in ({"type": "flow"}, {"agent": "waiter"}):
            await sim.bus.kill(**named, why="its code is gone")  # type: ignore[arg-type]
            sim.crash_engine()
            await asyncio.sleep(5)
            await sim.bus.resume(**named, why="nothing of it is left")  # type: ignore[arg-type]
        assert "its code is gone" in await reason(task)
        assert (await sim.bus.status())["stops"] == []

    simulate(main, make())


def test_a_drill_that_is_refused_leaves_nothing_behind() -> None:
    async def main(sim: Simulation) -> None:
        submit_json, count = sim.bus.submit_json, 0

        async def some(*args: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count > 2:
                raise Full("there are too many tasks")
            return await submit_json(*args, **more)

        sim.bus.submit_json = some  # type: ignore[method-assign]
        with pytest.raises(Full):
            await sim.bus.drill(tasks=4)
        status = await sim.bus.status()
        assert (status["live_tasks"], status["stops"]) == (0, [])

    simulate(main, make())


def test_whichever_row_the_supervisor_dies_after_a_stop_is_carried_out_to_its_end() -> None:
    victim, rows = 0, 0

    async def main(sim: Simulation) -> None:
        nonlocal rows
        tasks = [await submit(sim, id) for id in "ab"]
        await asyncio.sleep(1)
        before = len(sim.rows)

        def die(row: Any) -> None:
            if len(sim.rows) == before + victim:
                sim.crash_supervisor()

        sim.on_row = die
        stopping = asyncio.create_task(sim.bus.kill(everything=True, why="enough", by="ann"))
        await asyncio.wait([stopping], timeout=120)
        for task in tasks:
            await reason(task)
        with pytest.raises(Closed):
            await submit(sim, "c")
        await asyncio.sleep(120)
        assert not sim.supervisor.ladder.under_way()
        assert len(of(sim, e.StopCarriedOut)) == 1
        assert len(of(sim, e.ReceiptRecorded)) == len(of(sim, e.TaskEnded)) == 2
        rows = len(sim.rows) - before

    simulate(main, make())
    while (victim := victim + 1) < rows:
        simulate(main, make())


stops = st.lists(
    st.builds(
        StopOrder,
        id=st.uuids().map(str),
        what=st.sampled_from([STOP, RESUME]),
        scope=st.sampled_from(SCOPES),
        name=st.sampled_from(["", "a", "b"]),
        by=st.just("ann"),
        why=st.just("enough"),
        requested=st.integers(1, 6),
    ),
    max_size=4,
    unique_by=(lambda stop: stop.id, lambda stop: (stop.scope, stop.name, stop.requested)),
)


@given(stops)
def test_what_is_closed_depends_on_when_orders_were_given_and_not_on_when_they_are_heard_of(orders: list[StopOrder]) -> None:
    found = set()
    for heard in permutations(orders):
        closures = Closures()
        for order in (*heard, *heard[:1]):
            closures.take(order)
        found.add(frozenset(stop.id for stop in closures))
    assert len(found) == 1
