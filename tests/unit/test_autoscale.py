"""The rule by which pools follow their load, held against its laws; and a bus whose pool grows and shrinks by it."""

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from interlock import AgentContext, App, Message, WorkflowContext
from interlock.actors.supervisor.autoscale import Demand, ScalePace, Scaler
from interlock.testing.simulation import Simulation, simulate

PACE = ScalePace()

DEMANDS = st.builds(Demand, st.integers(0, 500), st.integers(0, 500), st.floats(0, 100), st.integers(1, 64))
BOUNDS = st.tuples(st.integers(0, 6), st.integers(0, 20)).map(lambda two: (two[0], two[0] + two[1]))


@given(BOUNDS, st.integers(0, 40), st.lists(st.tuples(st.floats(0, 100), st.none() | DEMANDS), max_size=30))
def test_it_stays_in_its_bounds_and_grows_and_shrinks_as_it_should(
    bounds: tuple[int, int], start: int, looks: list[tuple[float, Demand | None]]
) -> None:
    scaler, now, low_since = Scaler(PACE), 0.0, None
    size = min(max(start, bounds[0]), bounds[1])
    for pause, demand in looks:
        now += pause
        after = scaler.look(now, size, *bounds, demand)
        assert bounds[0] <= after <= bounds[1]
        assert after >= size - 1, "one at a time"
        if demand is None:
            assert after == size, "who hears nothing changes nothing"
        elif demand.waiting >= demand.room or (demand.waiting and demand.seconds >= PACE.patience):
            assert after >= min(demand.needed, bounds[1]), "up within one look"
        if demand is None or demand.needed >= size:
            low_since = None
        elif low_since is None:
            low_since = now
        if after < size:
            assert low_since is not None
            assert now - low_since >= PACE.quiet, "down after a quiet while alone"
            low_since = now
        size = after


@given(BOUNDS, st.integers(0, 40), st.integers(0, 500), st.integers(1, 64))
def test_a_constant_load_comes_to_one_size_and_stays_there(bounds: tuple[int, int], start: int, work: int, room: int) -> None:
    scaler, size, sizes = Scaler(PACE), min(max(start, bounds[0]), bounds[1]), []
    for look in range(30 * 41):
        busy = min(work, size * room)
        demand = Demand(busy, work - busy, float(look), room)
        size = scaler.look(look * 2.0, size, *bounds, demand)
        sizes.append(size)
    turns = [after - before for before, after in pairwise(sizes) if after != before]
    assert not (any(turn > 0 for turn in turns) and any(turn < 0 for turn in turns)), "never up and down"
    assert size == min(max(-(-work // room), bounds[0]), bounds[1])


class Job(Message, contract="autoscale.job", version="1.0.0"):
    n: int


app = App("autoscale")


@app.agent("worker", version="1.0.0", replicas=(1, 4), concurrency=1)
async def worker(request: Job, ctx: AgentContext) -> Job:
    await asyncio.sleep(30)
    return request


@app.workflow("work", version="1.0.0")
async def work(request: Job, ctx: WorkflowContext) -> Job:
    return await ctx.ask(request, returns=Job)


def test_a_bus_gives_its_pool_more_members_while_messages_wait_and_fewer_after() -> None:
    async def main(sim: Simulation) -> None:
        def members() -> int:
            return len(sim.supervisor.pools.members("worker"))

        tasks = [await sim.bus.submit(work, Job(n=n)) for n in range(9)]
        await asyncio.sleep(4)
        assert members() == 4
        assert (await sim.bus.status())["keeping"]["worker"]["most"] == 4
        sim.crash_supervisor()
        sim.crash_engine(down=5.0)
        assert [(await task.result()).n for task in tasks] == list(range(9))
        await asyncio.sleep(70)
        assert members() == 3
        await asyncio.sleep(150)
        assert members() == 1

    simulate(main, app)
