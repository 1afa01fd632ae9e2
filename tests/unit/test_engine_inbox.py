"""What waits for people: approvals, questions, effects of which nobody knows whether they happened, code that changed under a task."""

import asyncio
from typing import Any

import pytest

from interlock import AgentContext, App, Escalate, Keyed, Message, Natural, Never, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode
from interlock.schemas.errors import AlreadyDecided, TaskFailed, ToolFailed, UnknownItem
from interlock.testing.simulation import Faults, Simulation, simulate


class Go(Message, contract="inbox.go", version="1.0.0"):
    value: int = 1


class Gone(Message, contract="inbox.gone", version="1.0.0"):
    said: str


class Outside:
    """What the tools do, in order."""

    def __init__(self) -> None:
        self.deeds: list[str] = []


def make(outside: Outside, repeat: Any, effect: str = "write", *, both: bool = False, seconds: float = 60.0) -> App:
    """One agent with one tool that takes a second, the half of it before and the half after its deed."""
    app = App("acts")

    @app.tool(effect=effect, system="world", repeat=repeat, timeout=5)  # type: ignore[arg-type]
    async def act(name: str) -> str:
        """Act.

        Args:
            name: What to do.
        """
        await asyncio.sleep(0.5)
        outside.deeds.append(name)
        await asyncio.sleep(0.5)
        return f"done {name}"

    @app.tool(effect="write", system="world", repeat=Never(), timeout=5)
    async def write(name: str) -> str:
        """Write.

        Args:
            name: What to write.
        """
        await asyncio.sleep(0.5)
        outside.deeds.append(f"write {name}")
        await asyncio.sleep(0.5)
        return f"wrote {name}"

    @app.agent("actor", version="1.0.0", tools=[act, write])
    async def actor(request: Go, ctx: AgentContext) -> Gone:
        if both:

            async def later() -> str:
                await asyncio.sleep(0.2)
                return await ctx.call(act, name="a")

            said = await asyncio.gather(ctx.call(write, name="b"), later())
            return Gone(said=" and ".join(said))
        return Gone(said=await ctx.call(act, name="a"))

    @app.workflow("flow", version="1.0.0", escalate=Escalate(to="ops", seconds=seconds))
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        return await ctx.ask(request, returns=Gone)

    return app


def of(sim: Simulation, kind: type[Any]) -> list[Any]:
    return [fact for entry in sim.store.reader.entries("tsk_a") if isinstance(fact := entry.open(), kind)]


async def begin(sim: Simulation) -> Any:
    return await sim.bus.submit(sim.app.workflows["flow"], Go(), id="a")


async def item(sim: Simulation, after: float = 3.0) -> dict[str, Any]:
    await asyncio.sleep(after)
    (found,) = await sim.bus.inbox.list()
    return found


async def ended(task: Any) -> tuple[str, str]:
    try:
        return "success", str((await task.result()).said)
    except TaskFailed as failure:
        return str(failure.outcome), str(failure.reason)


# --- approvals ---------------------------------------------------------------------------------------------------------------------


def test_an_irreversible_act_waits_for_exactly_its_approval() -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        asked = await item(sim)
        assert (asked["kind"], asked["to"], outside.deeds) == ("approval", "ops", [])
        assert decode(asked["details"]) == {"tool": "act", "agent": "actor", "arguments": {"name": "a"}}
        assert sim.peers["actor-1"][1].host.holds() == [], "who waits for a human holds no replica"
        await sim.bus.inbox.approve(asked["item"], by="ann")
        await sim.bus.inbox.approve(asked["item"], by="ann")
        with pytest.raises(AlreadyDecided, match="approved by ann"):
            await sim.bus.inbox.deny(asked["item"], by="bob")
        assert await ended(task) == ("success", "done a")
        assert outside.deeds == ["a"]

    simulate(main, make(outside, Never(), "irreversible"))


def test_a_denial_rejects_the_task_and_says_who_and_why() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        asked = await item(sim)
        sim.on_entry = lambda entry: sim.crash_engine() if entry.kind == "item.decided" else None
        await sim.bus.inbox.deny(asked["item"], "too dear", by="ann")
        outcome, reason = await ended(task)
        assert (outcome, "ann denied" in reason, "too dear" in reason) == ("rejected", True, True)
        with pytest.raises(UnknownItem):
            await sim.bus.inbox.approve(asked["item"])

    outside = Outside()
    simulate(main, make(outside, Never(), "irreversible"))
    assert outside.deeds == []


@pytest.mark.parametrize("crashed", [False, True])
def test_what_nobody_decides_expires(crashed: bool) -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await item(sim)
        if crashed:
            sim.on_entry = lambda entry: sim.crash_engine() if entry.kind == "item.decided" else None
        outcome, reason = await ended(task)
        assert (outcome, "nobody at ops" in reason) == ("expired", True)
        assert [fact.decision for fact in of(sim, e.ItemDecided)] == ["expired"]

    simulate(main, make(Outside(), Never(), "irreversible"))


def test_a_write_that_runs_beside_ends_before_its_dispatch_is_suspended() -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        asked = await item(sim)
        assert outside.deeds == ["write b"]
        assert len(of(sim, e.DispatchSuspended)) == 1
        await sim.bus.inbox.approve(asked["item"])
        assert await ended(task) == ("success", "wrote b and done a")
        assert outside.deeds == ["write b", "a"]

    simulate(main, make(outside, Never(), "irreversible", both=True))


def test_an_approval_that_comes_before_the_write_beside_has_ended() -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        asked = await item(sim, 0.4)
        await sim.bus.inbox.approve(asked["item"])
        assert await ended(task) == ("success", "wrote b and done a")
        assert outside.deeds == ["write b", "a"]

    simulate(main, make(outside, Never(), "irreversible", both=True))


# --- questions ---------------------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_once_and_replayed() -> None:
    app = App("asks")

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        answer = await ctx.ask_human("Which way?", left=1)
        await ctx.sleep(10)
        return Gone(said=f"{answer.approved} {answer.note} {answer.by}")

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        asked = await item(sim)
        assert (asked["kind"], asked["text"], decode(asked["details"])) == ("question", "Which way?", {"left": 1})
        await sim.bus.inbox.deny(asked["item"], "right", by="ann")
        sim.crash_peer(*sim.living("runner"))
        sim.crash_engine()
        assert await ended(task) == ("success", "False right ann")

    simulate(main, app)


def test_a_question_that_its_workflow_withdraws_is_closed() -> None:
    app = App("asks")

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        try:
            async with asyncio.timeout(5):
                await ctx.ask_human("Quick?")
        except TimeoutError:
            await ctx.sleep(5)
        return Gone(said="without")

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        asked = await item(sim)
        await asyncio.sleep(4)
        assert await sim.bus.inbox.list() == []
        with pytest.raises(AlreadyDecided, match="withdrawn"):
            await sim.bus.inbox.approve(asked["item"])
        assert await ended(task) == ("success", "without")

    simulate(main, app)


# --- unknown effects -----------------------------------------------------------------------------------------------------------------


async def hit(sim: Simulation, after: float) -> None:
    """The replica dies so many seconds after the act was granted."""
    intended = asyncio.Event()
    sim.on_entry = lambda entry: intended.set() if entry.kind == "effect.intended" else None
    await intended.wait()
    sim.on_entry = None
    await asyncio.sleep(after)
    sim.crash_peer(*(name for name in sim.living() if name.startswith("actor")))


@pytest.mark.parametrize("repeat", [Keyed("name"), Natural("name")])
@pytest.mark.parametrize("after", [0.2, 0.7])
def test_a_deed_that_may_be_repeated_is(repeat: Any, after: float) -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await hit(sim, after)
        assert await ended(task) == ("success", "done a")
        (unknown,) = of(sim, e.EffectUnknown)
        assert unknown.then == ("confirm" if isinstance(repeat, Natural) else "repeat")
        assert len({fact.effect for fact in of(sim, e.EffectIntended)}) == 1
        assert len({fact.key for fact in of(sim, e.EffectIntended)}) == 1

    simulate(main, make(outside, repeat))


@pytest.mark.parametrize("after", [0.2, 0.7])
@pytest.mark.parametrize("crash", ["", "item.decided", "dispatch.attempted", "effect.ended"])
def test_a_deed_that_must_not_be_repeated_asks_a_human(after: float, crash: str) -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await hit(sim, after)
        asked = await item(sim)
        assert asked["kind"] == "unknown"
        happened = outside.deeds == ["a"]
        struck: list[int] = []

        def strike(entry: Any) -> None:
            if entry.kind == crash and not struck:
                struck.append(entry.seq)
                sim.crash_engine()

        sim.on_entry = strike
        await (sim.bus.inbox.approve if happened else sim.bus.inbox.deny)(asked["item"], '"as told"', by="ann")
        assert await ended(task) == ("success", "as told" if happened else "done a")
        assert outside.deeds == ["a"]

    simulate(main, make(outside, Never()))


def test_two_unknown_deeds_of_one_dispatch_are_both_decided_before_it_goes_on() -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await hit(sim, 0.8)
        await asyncio.sleep(3)
        one, two = await sim.bus.inbox.list()
        assert sorted(outside.deeds) == ["a", "write b"]
        await sim.bus.inbox.approve(one["item"], '"first"')
        await asyncio.sleep(3)
        assert len(of(sim, e.DispatchAttempted)) == 0
        await sim.bus.inbox.approve(two["item"], '"second"')
        assert await ended(task) == ("success", "first and second")
        assert sorted(outside.deeds) == ["a", "write b"]

    simulate(main, make(outside, Never(), both=True))


@pytest.mark.parametrize(("kind", "count"), [("effect.unknown", 2), ("item.asked", 1)])
def test_an_orchestrator_that_dies_between_unknown_deeds_and_their_questions_is_asked_all_the_same(kind: str, count: int) -> None:
    outside = Outside()

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await hit(sim, 0.8)
        seen, died = [], asyncio.Event()

        def strike(entry: Any) -> None:
            seen.extend([entry] if entry.kind == kind else [])
            if len(seen) == count and not died.is_set():
                died.set()
                sim.faults = Faults(delay=1.0, longest=1.0)
                sim.crash_engine()

        sim.on_entry = strike
        await died.wait()
        (one,) = await sim.bus.inbox.list()
        await sim.bus.inbox.approve(one["item"], '"first"')  # before the new orchestrator has even met the replicas
        other = await item(sim)
        assert (other["kind"], sorted(outside.deeds)) == ("unknown", ["a", "write b"])
        await sim.bus.inbox.approve(other["item"], '"second"')
        assert await ended(task) == ("success", "first and second")
        assert sorted(outside.deeds) == ["a", "write b"]

    simulate(main, make(outside, Never(), both=True))


def test_a_result_that_is_lost_for_good_is_a_failure_that_says_so() -> None:
    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        await hit(sim, 0.7)
        asked = await item(sim)
        await sim.bus.inbox.approve(asked["item"], "saw it with my own eyes")
        outcome, reason = await ended(task)
        assert (outcome, "a person confirmed that it took effect" in reason) == ("failed", True)
        assert ToolFailed.code in str(of(sim, e.DispatchFailed)[0].error)

    simulate(main, make(Outside(), Never()))


def test_a_write_that_was_cut_off_by_its_own_time_limit_is_unknown() -> None:
    app = App("acts")
    deeds: list[int] = []

    @app.tool(effect="write", system="world", repeat=Never(), timeout=1)
    async def hang() -> str:
        """Hang."""
        deeds.append(1)
        await asyncio.sleep(100)
        return "never"

    @app.agent("actor", version="1.0.0", tools=[hang])
    async def actor(request: Go, ctx: AgentContext) -> Gone:
        return Gone(said=await ctx.call(hang))

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Go, ctx: WorkflowContext) -> Gone:
        return await ctx.ask(request, returns=Gone)

    async def main(sim: Simulation) -> None:
        task = await begin(sim)
        asked = await item(sim)
        assert asked["kind"] == "unknown"
        await sim.bus.inbox.approve(asked["item"], '"found it"')
        assert await ended(task) == ("success", "found it")
        assert deeds == [1]

    simulate(main, app)
