"""Routing, and what is refused on the way: the ask fails or the submit does, never the bus."""

import asyncio
from typing import Any

import pytest
from pydantic import Field

from interlock import AgentContext, App, Message, Untrusted, WorkflowContext
from interlock.schemas import entries as e
from interlock.schemas.canonical import decode, encode
from interlock.schemas.envelope import Envelope
from interlock.schemas.errors import (
    AgentFailed,
    AmbiguousRoute,
    BudgetRaised,
    BudgetTooSmall,
    EntryRefused,
    InterlockError,
    InvalidMessage,
    NoRoute,
    TaskConflict,
    TaskFailed,
    UnknownTaskType,
)
from interlock.schemas.frames import Replied
from interlock.testing.simulation import Simulation, simulate


class Ask(Message, contract="engine.ask", version="1.0.0"):
    value: int = Field(default=0, ge=-10)
    mail: Untrusted[str] = ""


class Other(Message, contract="engine.other", version="1.0.0"):
    value: int = 0


class Reply(Message, contract="engine.reply", version="1.0.0"):
    value: int = Field(ge=-10)


class Lax(Message, contract="engine.lax", version="1.0.0"):
    value: Any = None


def make(function: Any = None, **options: Any) -> App:
    """An app of one agent that adds one, and one workflow, `function` or a single ask."""
    app = App("one")

    @app.agent("adder", version="1.0.0")
    async def adder(request: Ask, ctx: AgentContext) -> Reply:
        return Reply(value=request.value + 1)

    async def asking(request: Ask, ctx: WorkflowContext) -> Reply:
        return await ctx.ask(Ask(value=request.value, mail=request.mail), returns=Reply)

    app.workflow("flow", version="1.0.0", **options)(function or asking)
    return app


def facts(sim: Simulation, task: str = "tsk_a") -> list[Any]:
    return [entry.open() for entry in sim.store.reader.entries(task)]


def of(sim: Simulation, kind: type[Any], task: str = "tsk_a") -> list[Any]:
    return [fact for fact in facts(sim, task) if isinstance(fact, kind)]


async def run(sim: Simulation, request: Message | None = None) -> Any:
    task = await sim.bus.submit(sim.app.workflows["flow"], request or Ask(value=1), id="a")
    return await task.result()


def test_a_message_finds_the_agent_that_takes_and_answers_it() -> None:
    async def main(sim: Simulation) -> None:
        assert await run(sim) == Reply(value=2)
        (sent,) = of(sim, e.MessageSent)
        envelope = Envelope.decode(encode(sent.envelope))
        assert (sent.agent, str(envelope.contract), envelope.subject) == ("adder", "engine.ask 1.0.0", "tsk_a")

    simulate(main, make())


def refusal(app: App) -> tuple[Any, list[Any]]:
    """How the workflow's ask is refused, and what is recorded of it."""

    async def main(sim: Simulation) -> tuple[Any, list[Any]]:
        result = await run(sim)
        return result, facts(sim)

    return simulate(main, app)


@pytest.mark.parametrize("twice", [False, True])
def test_no_route_and_two_routes_fail_the_ask_alone(twice: bool) -> None:
    caught: list[InterlockError] = []

    async def flow(request: Ask, ctx: WorkflowContext) -> Reply:
        try:
            await ctx.ask(Ask() if twice else Other(), returns=Reply)
        except (NoRoute, AmbiguousRoute) as error:
            caught.append(error)
        return await ctx.ask(Lax(value=1), returns=Reply)

    app = make(flow)

    @app.agent("lax", version="1.0.0")
    async def lax(request: Lax, ctx: AgentContext) -> Reply:
        return Reply(value=7)

    if twice:

        @app.agent("rival", version="1.0.0")
        async def rival(request: Ask, ctx: AgentContext) -> Reply:
            return Reply(value=0)

    result, recorded = refusal(app)
    assert result == Reply(value=7)
    assert isinstance(caught[0], AmbiguousRoute if twice else NoRoute)
    assert "adder, rival" in str(caught[0]) if twice else "engine.other 1.0.0" in str(caught[0])
    failed = next(fact for fact in recorded if isinstance(fact, e.DispatchFailed))
    assert failed.error["code"] == caught[0].code


def test_a_message_that_its_contract_refuses_fails_the_ask_alone() -> None:
    async def flow(request: Ask, ctx: WorkflowContext) -> Reply:
        wrong = Ask.model_construct(value=-99, mail="")
        with pytest.raises(InvalidMessage, match="at /value"):
            await ctx.ask(wrong, returns=Reply)
        return await ctx.ask(Ask(value=4), returns=Reply)

    result, _ = refusal(make(flow))
    assert result == Reply(value=5)


def test_the_refusal_of_an_ask_survives_the_orchestrator_that_made_it() -> None:
    async def flow(request: Ask, ctx: WorkflowContext) -> Reply:
        try:
            await ctx.ask(Other(), returns=Reply)
        except NoRoute:
            return Reply(value=-1)
        raise AssertionError

    async def main(sim: Simulation) -> None:
        sim.on_entry = lambda entry: sim.crash_engine() if entry.kind == "message.sent" else None
        assert await run(sim) == Reply(value=-1)

    simulate(main, make(flow))


@pytest.mark.parametrize(("reply", "problem"), [(Lax(value=1), "declares Reply"), (Reply.model_construct(value=-99), "at /value")])
def test_a_wrong_reply_is_the_agents_failure(reply: Message, problem: str) -> None:
    app = App("one")

    @app.agent("wrong", version="1.0.0")
    async def wrong(request: Ask, ctx: AgentContext) -> Reply:
        return reply  # type: ignore[return-value]

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Ask, ctx: WorkflowContext) -> Reply:
        try:
            return await ctx.ask(request, returns=Reply)
        except AgentFailed as error:
            return Reply(value=1 if problem in str(error) else 0)

    async def main(sim: Simulation) -> None:
        assert await run(sim) == Reply(value=1)

    simulate(main, app)


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_agent_that_lets_its_own_exit_or_cancellation_out_has_failed(cancelled: bool) -> None:
    app = App("one")

    @app.agent("leaving", version="1.0.0")
    async def leaving(request: Ask, ctx: AgentContext) -> Reply:
        raise asyncio.CancelledError if cancelled else SystemExit(3)

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Ask, ctx: WorkflowContext) -> Reply:
        return await ctx.ask(request, returns=Reply)

    async def main(sim: Simulation) -> None:
        with pytest.raises(TaskFailed, match="CancelledError" if cancelled else "SystemExit: 3"):
            await run(sim)

    simulate(main, app)


def test_an_ask_that_is_dropped_before_it_began_frees_its_replica() -> None:
    async def flow(request: Ask, ctx: WorkflowContext) -> Reply:
        asking = asyncio.ensure_future(ctx.ask(Ask(value=1), returns=Reply))
        await asyncio.sleep(0)
        asking.cancel()
        return Reply(value=9)

    async def main(sim: Simulation) -> None:
        await run(sim)
        await asyncio.sleep(5)
        status = await sim.bus.status()
        assert all(peer["load"] == 0 for peer in status["peers"])
        assert sim.peers["adder-1"][1].host.holds() == []

    simulate(main, make(flow))


def test_a_reply_that_comes_too_late_is_refused_and_recorded() -> None:
    app = App("one")

    @app.agent("slow", version="1.0.0")
    async def slow(request: Ask, ctx: AgentContext) -> Reply:
        await asyncio.sleep(1)
        return Reply(value=1)

    @app.workflow("flow", version="1.0.0")
    async def flow(request: Ask, ctx: WorkflowContext) -> Reply:
        try:
            async with asyncio.timeout(0.5):
                return await ctx.ask(request, returns=Reply)
        except TimeoutError:
            await ctx.sleep(3)
            return Reply(value=0)

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Ask(), id="a")
        await asyncio.sleep(0.1)
        replica = sim.peers["slow-1"][1].host
        dispatch, attempt = replica.holds()[0].split()
        assert await task.result() == Reply(value=0)
        channel = sim.engine.peers.channels["slow-1"]
        channel._on_frames(channel, [Replied(dispatch, attempt, "engine.reply", "1.0.0", Reply(value=5).encoded(), False, task.id)])
        await sim.engine.durable()
        late = [entry.open() for entry in sim.store.disk.log if entry.kind == "reply.refused"]  # type: ignore[attr-defined]
        assert late[0].dispatch == dispatch
        assert late[0].error["code"] == "stale_attempt"
        assert len(of(sim, e.TaskEnded)) == 1

    simulate(main, app)


def test_the_same_submit_is_the_same_task_and_another_under_its_id_is_refused() -> None:
    async def main(sim: Simulation) -> None:
        flow = sim.app.workflows["flow"]
        first, second = await asyncio.gather(*(sim.bus.submit(flow, Ask(value=1), id="a") for _ in range(2)))
        assert first.id == second.id == "tsk_a"
        with pytest.raises(TaskConflict):
            await sim.bus.submit(flow, Ask(value=2), id="a")
        await first.result()
        sim.crash_engine()
        assert (await sim.bus.submit(flow, Ask(value=1), id="a")).id == "tsk_a"
        with pytest.raises(TaskConflict):
            await sim.bus.submit(flow, Ask(value=2), id="a")
        assert await second.result() == Reply(value=2)
        assert len(of(sim, e.TaskAccepted)) == 1

    simulate(main, make())


def test_what_cannot_start_is_refused_and_the_refusal_recorded() -> None:
    async def main(sim: Simulation) -> None:
        bus = sim.bus
        for request, limits, error in (
            ({"value": "x"}, {}, InvalidMessage),
            ({"value": 1}, {"tokens": 10**9}, BudgetRaised),
            ({"value": 1}, {"steps": 0}, BudgetTooSmall),
            ({"value": -1}, {}, EntryRefused),
        ):
            with pytest.raises(error):
                await bus.submit_json("flow", request, limits=limits)
        with pytest.raises(UnknownTaskType, match="flow"):
            await bus.submit_json("flaw", {})
        refused = [entry.open().error["code"] for entry in sim.store.reader.all_entries() if entry.kind == "task.refused"]
        assert all(entry.task for entry in sim.store.reader.all_entries() if entry.kind == "task.refused"), "no restart reads them"
        assert refused == ["invalid_message", "budget_raised", "budget_too_small", "entry_refused"]
        assert await bus.tasks() == []

    def not_negative(request: Ask) -> bool:
        return request.value >= 0

    simulate(main, make(entry=not_negative))


def test_a_result_that_breaks_the_exit_condition_is_a_failure() -> None:
    def small(result: Reply) -> bool:
        return result.value < 10

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["flow"], Ask(value=10), id="a")
        with pytest.raises(TaskFailed, match="small does not hold") as failure:
            await task.result()
        assert failure.value.outcome == "failed"
        (ended,) = of(sim, e.TaskEnded)
        assert ended.error["code"] == "exit_failed"

    simulate(main, make(exit=small))


def test_the_request_is_decoded_once_and_kept_as_it_came() -> None:
    async def main(sim: Simulation) -> None:
        await run(sim, Ask(value=3, mail="<b>hi</b>"))
        (accepted,) = of(sim, e.TaskAccepted)
        assert decode(encode(accepted.request)) == {"value": 3, "mail": "<b>hi</b>"}
        assert accepted.label == "untrusted:engine.ask/mail"

    simulate(main, make())
