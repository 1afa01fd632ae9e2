"""A workflow that hangs or ends its process costs one runner: it is resumed last and alone, and the second time it has failed."""

import asyncio
from collections import Counter

import pytest

from interlock import AgentContext, App, Message, Outcome, TaskFailed, WorkflowContext
from interlock.orchestrator.peers import PEER_LOOK
from interlock.orchestrator.silence import Silence
from interlock.schemas import entries as e
from interlock.schemas.budget import Budget
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="stalled.go", version="1.0.0"):
    pass


class Ask(Message, contract="stalled.ask", version="1.0.0"):
    pass


app = App("stalled")


@app.agent("helper", version="1.0.0", replicas=(1, 2))
async def helper(request: Ask, ctx: AgentContext) -> Go:
    await asyncio.sleep(1)
    return Go()


@app.workflow("flow", version="1.0.0", budget=Budget(seconds=1000))
async def flow(request: Go, ctx: WorkflowContext) -> Go:
    for _ in range(3):
        await ctx.ask(Ask(), returns=Go)
    return request


@app.workflow("slow", version="1.0.0", resume_seconds=60, budget=Budget(seconds=1000))
async def slow(request: Go, ctx: WorkflowContext) -> Go:
    await ctx.ask(Ask(), returns=Go)
    return request


def strike(sim: Simulation, task: str, times: int, *, hang: bool, skip: int = 0) -> list[tuple[str, float]]:
    """The first `times` runners that resume the task, after `skip` of its resumes, end or hang in the middle of it; who, and when."""
    struck: list[tuple[str, float]] = []
    seen = 0

    def work(name: str, at_work: str) -> None:
        nonlocal seen
        if not name.startswith("runners") or at_work != task:
            return
        seen += 1
        if seen > skip and len(struck) < times:
            struck.append((name, asyncio.get_running_loop().time()))
            (sim.freeze_peer if hang else sim.crash_peer)(name)

    sim.on_work = work
    return struck


def kinds(sim: Simulation, task: str) -> list[str]:
    return [entry.kind for entry in sim.store.reader.entries(task)]


@pytest.mark.parametrize("hang", [False, True])
def test_twice_in_the_middle_of_one_task_is_its_failure_and_costs_nobody_else_anything(hang: bool) -> None:
    async def main(sim: Simulation) -> None:
        struck = strike(sim, "tsk_bad", 100, hang=hang, skip=1)
        tasks = [await sim.bus.submit(flow, Go(), id=id) for id in ("one", "bad", "two")]
        outcomes = [await task.outcome() for task in tasks]
        assert outcomes == [Outcome.SUCCESS, Outcome.FAILED, Outcome.SUCCESS]
        assert len({name for name, _ in struck}) == 2
        with pytest.raises(TaskFailed, match="stalled: 2 runners were lost in the middle of workflow flow") as failed:
            await tasks[1].result()
        assert failed.value.reason.startswith("stalled")
        lost = [fact for entry in await tasks[1].entries() if isinstance(fact := entry.open(), e.RunnerLost)]
        assert [(fact.runner, fact.strike) for fact in lost] == [(name, number) for number, (name, _) in enumerate(struck, 1)]
        assert ("for 10 s" if hang else "its process ended") in lost[0].why
        for innocent in (tasks[0], tasks[2]):
            assert e.RunnerLost.KIND not in kinds(sim, innocent.id)
            assert kinds(sim, innocent.id).count(e.MessageSent.KIND) == 3

    simulate(main, app)


def test_one_that_comes_to_rest_again_was_hit_by_chance() -> None:
    async def main(sim: Simulation) -> None:
        seen = 0

        def work(name: str, task: str) -> None:
            nonlocal seen
            if name.startswith("runners"):
                seen += 1
                if seen in (1, 3, 5):  # never twice at one place: each time it has come to rest where it was struck
                    sim.crash_peer(name)

        sim.on_work = work
        task = await sim.bus.submit(flow, Go(), id="a")
        assert await task.outcome() == Outcome.SUCCESS
        assert [fact.strike for entry in await task.entries() if isinstance(fact := entry.open(), e.RunnerLost)] == [1, 1, 1]

    simulate(main, app)


def test_one_that_dies_at_another_place_each_time_is_ended_all_the_same() -> None:
    @app_of_many.workflow("long", version="1.0.0", budget=Budget(seconds=10_000))
    async def long(request: Go, ctx: WorkflowContext) -> Go:
        for _ in range(20):
            await ctx.sleep(1)
        return request

    async def main(sim: Simulation) -> None:
        seen = 0

        def work(name: str, task: str) -> None:
            nonlocal seen
            seen += name.startswith("runners")
            if name.startswith("runners") and seen % 2:
                sim.crash_peer(name)

        sim.on_work = work
        task = await sim.bus.submit(long, Go(), id="a")
        assert await task.outcome() == Outcome.FAILED
        assert kinds(sim, task.id).count(e.RunnerLost.KIND) == 5

    simulate(main, app_of_many)


app_of_many = App("many")


def test_a_workflow_may_declare_that_it_takes_long() -> None:
    async def main(sim: Simulation) -> None:
        struck = strike(sim, "tsk_a", 1, hang=True)
        began = asyncio.get_running_loop().time()
        task = await sim.bus.submit(slow, Go(), id="a")
        assert await task.outcome() == Outcome.SUCCESS
        assert len(struck) == 1
        assert 60 <= asyncio.get_running_loop().time() - began < 70

    simulate(main, app)


def test_a_new_orchestrator_knows_the_suspect() -> None:
    async def main(sim: Simulation) -> None:
        struck = strike(sim, "tsk_a", 2, hang=False)
        sim.on_entry = lambda entry: sim.crash_engine(down=0.1) if entry.kind == e.RunnerLost.KIND and len(struck) == 1 else None
        task = await sim.bus.submit(flow, Go(), id="a")
        assert await task.outcome() == Outcome.FAILED
        assert len(struck) == 2

    simulate(main, app)


def test_a_silent_replica_is_replaced_and_its_dispatch_goes_elsewhere() -> None:
    async def main(sim: Simulation) -> None:
        hung: list[str] = []

        def work(name: str, task: str) -> None:
            if name.startswith("helper") and not hung:
                hung.append(name)
                sim.freeze_peer(name)

        sim.on_work = work
        began = asyncio.get_running_loop().time()
        task = await sim.bus.submit(flow, Go(), id="a")
        assert await task.outcome() == Outcome.SUCCESS
        assert 30 <= asyncio.get_running_loop().time() - began < 50
        assert hung[0] not in sim.living()

    simulate(main, app)


def test_a_channel_is_looked_at_by_one_timer_however_long_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    patient, looks = App("patient"), list[Silence]()
    fire = Silence._fire
    monkeypatch.setattr(Silence, "_fire", lambda self: looks.append(self) or fire(self))

    @patient.agent("thinker", version="1.0.0")
    async def thinker(request: Ask, ctx: AgentContext) -> Go:
        await asyncio.sleep(500)
        return Go()

    @patient.workflow("long", version="1.0.0", budget=Budget(seconds=1000))
    async def long(request: Go, ctx: WorkflowContext) -> Go:
        return await ctx.ask(Ask(), returns=Go)

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(long, Go(), id="a")
        assert await task.outcome() == Outcome.SUCCESS
        assert max(Counter(looks).values()) <= 500 / PEER_LOOK

    simulate(main, patient)


def test_a_replica_that_works_long_and_answers_is_left_alone() -> None:
    patient = App("patient")

    @patient.agent("helper", version="1.0.0")
    async def work(request: Ask, ctx: AgentContext) -> Go:
        await asyncio.sleep(600)
        return Go()

    @patient.workflow("flow", version="1.0.0", budget=Budget(seconds=1000))
    async def wait(request: Go, ctx: WorkflowContext) -> Go:
        return await ctx.ask(Ask(), returns=Go)

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(wait, Go(), id="a")
        assert await task.outcome() == Outcome.SUCCESS
        assert kinds(sim, task.id).count(e.DispatchAttempted.KIND) == 0

    simulate(main, patient)
