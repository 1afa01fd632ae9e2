"""What a workflow may do through its context, and what it hears."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from desktop import FAILURE, START, Desktop, NewReply, Question, Refusal, Reply, ask

from interlock.actors.context import Answer, WorkflowContext
from interlock.schemas.canonical import decode
from interlock.schemas.errors import AgentFailed, BadDeclaration, Unreadable
from interlock.schemas.frames import Command
from interlock.schemas.message import Message

# --- asking -----------------------------------------------------------------------------------------------------------


def test_an_ask_is_a_command_and_its_reply_a_typed_message() -> None:
    async def workflow(ctx: WorkflowContext) -> Reply:
        return await ctx.ask(Question(text="a"), returns=Reply)

    bench = Desktop(workflow)
    assert bench.commands == [Command(1, "ask", "test.question", "1.0.0", b'{"text":"a"}', ["test.reply 1.0.0"])]
    assert bench.reply(1, "b") == []
    assert bench.main.result() == Reply(text="b")


@pytest.mark.parametrize(("sent", "cls"), [(NewReply, NewReply), (Reply, Reply), (Refusal, Refusal)])
def test_the_class_of_a_reply_is_that_of_its_contract_and_version(sent: type[Message], cls: type[Message]) -> None:
    async def workflow(ctx: WorkflowContext) -> Message:
        return await ctx.ask(Question(text="a"), returns=(Reply, NewReply, Refusal))

    bench = Desktop(workflow)
    bench.reply(1, cls=sent, value={"why": "no"} if sent is Refusal else {"text": "yes"})
    assert type(bench.main.result()) is cls


def test_a_reply_of_another_version_goes_to_the_class_of_its_contract() -> None:
    bench = Desktop(ask)
    bench.reply(1, "new", cls=NewReply)
    assert bench.main.result() == "new"


@pytest.mark.parametrize("facts", [{"name": "test.other"}, {"value": {"text": 3.5, "more": 1}}])
def test_a_reply_that_the_class_cannot_read_is_a_failure_of_the_ask(facts: dict[str, Any]) -> None:
    async def workflow(ctx: WorkflowContext) -> str:
        with pytest.raises(Unreadable):
            await ask(ctx)
        return "caught"

    bench = Desktop(workflow)
    bench.reply(1, **facts)
    assert bench.main.result() == "caught"


def test_a_recorded_failure_raises_at_the_ask() -> None:
    async def workflow(ctx: WorkflowContext) -> str:
        with pytest.raises(AgentFailed, match="it broke") as caught:
            await ask(ctx)
        return str(caught.value.agent)

    bench = Desktop(workflow)
    bench.happen(1, "failure", FAILURE.to_wire())
    assert bench.main.result() == "pricing"


def test_a_human_is_asked_and_answers() -> None:
    async def workflow(ctx: WorkflowContext) -> Answer:
        return await ctx.ask_human("Deploy?", text="shadowed", commit="abc")

    bench = Desktop(workflow)
    (command,) = bench.commands
    assert (command.kind, decode(command.data)) == ("human", {"text": "Deploy?", "details": {"text": "shadowed", "commit": "abc"}})
    bench.happen(1, "answer", {"approved": True, "note": "fine", "by": "ada"})
    assert bench.main.result() == Answer(approved=True, note="fine", by="ada")


def test_evidence_and_degradation_are_those_of_the_replies_heard() -> None:
    async def workflow(ctx: WorkflowContext) -> list[Any]:
        seen: list[Any] = [(ctx.evidence, ctx.degraded)]
        await ask(ctx)
        seen.append((ctx.evidence, ctx.degraded))
        await ask(ctx)
        return [*seen, (ctx.evidence, ctx.degraded)]

    bench = Desktop(workflow)
    tool = {"tool": "get", "ok": False, "value": 1}
    bench.reply(1, evidence=[tool], degraded=True)
    bench.reply(2, evidence=[tool])
    assert bench.main.result() == [([], False), ([tool], True), ([tool, tool], True)]


@pytest.mark.parametrize(("message", "returns"), [("text", Reply), (Question(text=""), Message)])
def test_what_has_no_contract_cannot_be_asked(message: Any, returns: Any) -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        await ctx.ask(message, returns=returns)

    bench = Desktop(workflow)
    assert bench.commands == []
    assert isinstance(bench.main.exception(), BadDeclaration)


# --- time, chance, ids ------------------------------------------------------------------------------------------------


def test_time_is_that_of_the_event_and_never_goes_back() -> None:
    async def workflow(ctx: WorkflowContext) -> list[datetime]:
        times = [ctx.now()]
        for _ in range(2):
            await ask(ctx)
            times.append(ctx.now())
        return times

    bench = Desktop(workflow)
    start = datetime.fromtimestamp(START / 1e6, UTC)
    for n, seconds in ((1, 90), (2, 60)):
        bench.reply(n, seconds=seconds)
    assert bench.main.result() == [start, start + timedelta(seconds=90), start + timedelta(seconds=90)]


def test_chance_and_ids_follow_from_the_task_alone() -> None:
    async def workflow(ctx: WorkflowContext) -> list[Any]:
        return [ctx.random().random(), ctx.random().random(), ctx.uuid(), ctx.uuid()]

    one, again, other = (Desktop(workflow, task).main.result() for task in ("tsk_a", "tsk_a", "tsk_b"))
    assert one == again
    assert len({*one, *other}) == 8
