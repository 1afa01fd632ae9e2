"""Over a major by migrations: whoever reads a message gets it in a version that it knows, or the ask is refused with both sides named."""

import asyncio
from collections import deque
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from interlock import AgentContext, App, Message, WorkflowContext
from interlock.proving import prove_migrations
from interlock.schemas import entries as e
from interlock.schemas.errors import AgentFailed, BadDeclaration, InterlockError, NoRoute, TaskFailed
from interlock.schemas.registry.ways import fits, way
from interlock.schemas.specs import AppSpec, ContractRef, MigrationSpec
from interlock.testing.simulation import Simulation, simulate


class Plan(Message, contract="plan.request", version="1.2.0"):
    goal: str


class Plan2(Message, contract="plan.request", version="2.0.0"):
    goals: list[str]


class Plan3(Message, contract="plan.request", version="3.1.0"):
    goals: list[str]
    strict: bool


class Made(Message, contract="plan.reply", version="1.0.0"):
    text: str = Field(max_length=50)


class Made2(Message, contract="plan.reply", version="2.0.0"):
    texts: list[str]


def made(agent_reads: type[Message] = Plan3, agent_says: type[Message] = Made2, migrations: bool = True) -> App:
    """A workflow that knows only the first major of either contract, and an agent that knows only the last."""
    app = App("plans")

    @app.agent("planner", version="1.0.0", accepts=agent_reads, returns=agent_says)
    async def planner(request: Any, ctx: AgentContext) -> Any:
        texts = [f"{goal}!" for goal in request.goals] if hasattr(request, "goals") else [request.goal]
        return Made2(texts=texts) if agent_says is Made2 else Made(text=" ".join(texts))

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Plan, ctx: WorkflowContext) -> Made:
        return await ctx.ask(request, returns=Made)

    if migrations:

        @app.migration(Plan, Plan2)
        def one_goal_of_many(old: Plan) -> Plan2:
            return Plan2(goals=[old.goal])

        @app.migration(Plan2, Plan3)
        def strict(old: Plan2) -> Plan3:
            if old.goals == ["never"]:
                raise ValueError("there is no strict never")
            return Plan3(goals=old.goals, strict=True)

        @app.migration(Made2, Made)
        def joined(new: Made2) -> Made:
            return Made(text=" ".join(new.texts)[:50])

    return app


def facts(sim: Simulation, kind: type[e.Fact]) -> list[Any]:
    return [entry.open() for entry in sim.store.reader.all_entries(limit=10_000) if entry.kind == kind.KIND]


def test_both_ways_are_migrated_and_what_travels_and_is_recorded_is_what_was_written() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Plan(goal="ship"), id="a")
        assert await task.result() == Made(text="ship!")
        (sent,), (received,) = facts(sim, e.MessageSent), facts(sim, e.MessageReceived)
        assert sent.migrated == ["plan.request 1.2.0 to 2.0.0", "plan.request 2.0.0 to 3.1.0"]
        assert sent.envelope["data"] == {"goal": "ship"}
        assert received.migrated == ["plan.reply 2.0.0 to 1.0.0"]
        assert received.envelope["data"] == {"texts": ["ship!"]}

    simulate(main, made())


def test_another_runner_and_another_replica_read_it_alike() -> None:
    """The names of the migrations are in the record, so a replay and a second attempt take the same way."""

    async def main(sim: Simulation) -> None:
        crashes = deque(["Dispatch", "Happened"])

        def strike(name: str, frame: Any) -> None:
            if crashes and type(frame).__name__ == crashes[0]:
                crashes.popleft()
                sim.crash_peer(name)

        sim.on_frame = strike
        task = await sim.bus.submit(sim.app.workflows["flow"], Plan(goal="ship"), id="a")
        assert await task.result() == Made(text="ship!")
        assert not crashes

    simulate(main, made())


def test_an_orchestrator_that_begins_in_the_middle_hands_out_the_same_way() -> None:
    async def main(sim: Simulation) -> None:
        def strike(entry: e.Entry) -> None:
            if entry.kind == e.MessageSent.KIND:
                sim.on_entry = None
                sim.crash_engine(down=0.1)

        sim.on_entry = strike
        task = await sim.bus.submit(sim.app.workflows["flow"], Plan(goal="ship"), id="a")
        assert await asyncio.wait_for(task.result(), 600) == Made(text="ship!")

    simulate(main, made())


def test_a_migration_that_fails_fails_the_ask_and_says_which() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Plan(goal="never"), id="a")
        with pytest.raises(TaskFailed, match=r"migration plan\.request 2\.0\.0 to 3\.1\.0 failed .* there is no strict never"):
            await task.result()

    simulate(main, made())


def test_without_a_way_the_ask_is_refused_with_both_sides_named() -> None:
    heard: list[InterlockError] = []
    app = made(migrations=False)

    @app.workflow("asking", version="1.0.0")
    async def asking(request: Plan, ctx: WorkflowContext) -> Made:
        try:
            return await ctx.ask(request, returns=Made)
        except (NoRoute, AgentFailed) as error:
            heard.append(error)
            raise

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["asking"], Plan(goal="ship"))
        with pytest.raises(TaskFailed):
            await task.result()

    simulate(main, app)
    assert isinstance(heard[0], NoRoute)
    assert "plan.request 1.2.0" in str(heard[0])
    assert "planner (takes plan.request 3.1.0, answers with plan.reply 2.0.0)" in str(heard[0])


def test_whoever_needs_no_migration_is_asked_before_whoever_does() -> None:
    app = made()

    @app.agent("elder", version="1.0.0")
    async def elder(request: Plan, ctx: AgentContext) -> Made:
        return Made(text="as ever")

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Plan(goal="ship"))
        assert await task.result() == Made(text="as ever")
        (sent,) = facts(sim, e.MessageSent)
        assert (sent.agent, sent.migrated) == ("elder", [])

    simulate(main, app)


def test_an_agent_that_reads_two_majors_gets_each_as_its_class() -> None:
    seen: list[type[Message]] = []
    app = App("both")

    @app.agent("planner", version="1.0.0", accepts=(Plan3, Plan), returns=Made)
    async def planner(request: Any, ctx: AgentContext) -> Made:
        seen.append(type(request))
        return Made(text="")

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Plan, ctx: WorkflowContext) -> Made:
        await ctx.ask(Plan3(goals=[], strict=False), returns=Made)
        return await ctx.ask(request, returns=Made)

    async def main(sim: Simulation) -> None:
        await (await sim.bus.submit(sim.app.workflows["flow"], Plan(goal="x"))).result()

    simulate(main, app)
    assert seen == [Plan3, Plan]


def test_what_could_not_be_applied_is_refused_where_it_is_declared() -> None:
    app = made()

    async def later(old: Plan) -> Plan2:
        return Plan2(goals=[old.goal])

    for source, target, function, problem in (
        (Plan, Made2, lambda old: old, "another contract"),
        (Plan, Plan, lambda old: old, "within a major"),
        (Plan, Plan2, later, "it is async"),
        (Plan, Plan2, lambda old: old, "declared twice"),
    ):
        with pytest.raises(BadDeclaration, match=problem):
            app.migration(source, target)(function)  # type: ignore[type-var]


def test_a_migration_that_makes_something_else_is_said_to() -> None:
    app = made(migrations=False)
    app.migration(Plan, Plan3)(lambda old: old)  # type: ignore[arg-type,return-value]
    app.migration(Made2, Made)(lambda new: Made.model_construct(text="x" * 51))
    first, second = app.migrations
    with pytest.raises(InterlockError, match="it made Plan of it"):
        first.apply(Plan(goal=""))
    with pytest.raises(InterlockError, match="Class Made cannot read this"):
        second.apply(Made2(texts=[]))


def test_migrations_are_part_of_what_is_deployed() -> None:
    spec = made().spec()
    assert AppSpec.from_wire(spec.to_wire()) == spec
    assert "plan.request 2.0.0" in spec.schemas
    assert spec.version != made(migrations=False).spec().version


VERSIONS = st.builds("{}.{}.0".format, st.integers(1, 4), st.integers(0, 1))
REFS = st.builds(ContractRef, st.just("c"), VERSIONS)


@given(st.lists(st.builds(MigrationSpec, REFS, REFS), max_size=8), REFS, REFS)
def test_a_way_ends_where_it_is_read_each_step_of_it_can_be_made_and_none_is_shorter(
    migrations: list[MigrationSpec], written: ContractRef, reader: ContractRef
) -> None:
    reached, steps = {written}, 0
    while not any(fits(reader, one.name, one.version) for one in reached):
        more = {one.target for one in migrations for here in reached if fits(one.source, here.name, here.version)} - reached
        if not more:
            assert way(migrations, written, reader) is None
            return
        reached, steps = reached | more, steps + 1
    found = way(migrations, written, reader)
    assert found is not None
    assert len(found) == steps
    here = written
    for one in found:
        assert fits(one.source, here.name, here.version)
        here = one.target
    assert fits(reader, here.name, here.version)
    assert way(migrations[::-1], written, reader) == found


def test_a_migration_that_does_not_hold_for_all_its_source_allows_is_refused_before_the_app_runs() -> None:
    app = made(migrations=False)
    app.migration(Plan2, Plan)(lambda old: Plan(goal=old.goals[0]))
    with pytest.raises(BadDeclaration, match=r'of the message \{"goals":\[\]\} it makes none that Plan allows: IndexError'):
        prove_migrations(app)
    with pytest.raises(BadDeclaration, match="IndexError"):
        simulate(lambda sim: asyncio.sleep(0), app)


def test_what_a_migration_makes_must_satisfy_its_target_and_a_value_error_says_that_there_is_none() -> None:
    app = made(migrations=False)
    app.migration(Made2, Made)(lambda new: Made(text=" ".join(new.texts)))
    with pytest.raises(BadDeclaration, match="makes none that Made allows: text: String should have at most 50 characters"):
        prove_migrations(app)

    honest = made(migrations=False)

    @honest.migration(Made2, Made)
    def short(new: Made2) -> Made:
        if len(" ".join(new.texts)) > 50:
            raise ValueError("too long for the first major")
        return Made(text=" ".join(new.texts))

    prove_migrations(honest)


def test_what_makes_nothing_of_anything_or_another_thing_each_time_is_refused() -> None:
    app = made(migrations=False)

    @app.migration(Plan, Plan2)
    def never(old: Plan) -> Plan2:
        return Plan2(goals=[str(int(f"no number {old.goal}"))])

    with pytest.raises(BadDeclaration, match="it made nothing of any of 100 messages"):
        prove_migrations(app)

    other, calls = made(migrations=False), count()
    other.migration(Plan, Plan2)(lambda old: Plan2(goals=[str(next(calls))]))
    with pytest.raises(BadDeclaration, match="something else of it the second time"):
        prove_migrations(other)
