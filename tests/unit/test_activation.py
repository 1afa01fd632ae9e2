"""How a workflow ends: its result and exit condition, or what it raised; and which definitions are refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from interlock.actors.activation import Activation
from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition, condition_name
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import AgentFailed, BadDeclaration, BudgetExceeded, InterlockError
from interlock.schemas.frames import Command, Happened, Start
from interlock.schemas.message import Message


class Number(Message, contract="test.number", version="1.0.0"):
    value: int


Workflow = Callable[[Number, WorkflowContext], Any]


def activation(workflow: Workflow, **conditions: Any) -> Activation:
    return Activation(
        WorkflowDefinition("w", "1.0.0", workflow, Number, Number, **conditions), Start("tsk_test", "w", b'{"value":1}', 0, [])
    )


def ends(workflow: Workflow, **conditions: Any) -> list[Command]:
    return activation(workflow, **conditions).begin()


def done(value: int) -> Command:
    return Command(0, "done", "test.number", "1.0.0", encode({"value": value}), [])


def error_of(commands: list[Command]) -> dict[str, Any]:
    (command,) = commands
    assert command.kind == "failed"
    error: dict[str, Any] = decode(command.data)
    return error


def test_what_a_workflow_raises_is_how_its_task_fails() -> None:
    async def breaks(request: Number, ctx: WorkflowContext) -> Number:
        raise KeyError("order")

    error = error_of(ends(breaks))
    assert error["code"] == "workflow_failed"
    assert error["facts"] == {"workflow": "w", "error": "KeyError", "problem": "'order'"}


BUDGET = BudgetExceeded(limit="steps", allowed=1, used=1, reserved=0, asked=1)
AGENT = AgentFailed(agent="a", contract="c", problem="p")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        ([BUDGET], "budget_exceeded"),
        ([AGENT], "agent_failed"),
        ([AGENT, BUDGET], "budget_exceeded"),
        ([AGENT, AGENT], "workflow_failed"),
        ([InterlockError(detail="x", more=object())], "workflow_failed"),
        ([SystemExit(1)], "workflow_failed"),
        ([asyncio.CancelledError()], "workflow_failed"),
    ],
)
def test_an_error_of_the_bus_passes_as_itself_also_out_of_a_group(raised: list[BaseException], code: str) -> None:
    async def breaks(request: Number, ctx: WorkflowContext) -> Number:
        raise raised[0]

    async def breaks_in_a_group(request: Number, ctx: WorkflowContext) -> Number:
        raise BaseExceptionGroup("several", raised)

    assert error_of(ends(breaks_in_a_group))["code"] == code
    if len(raised) == 1:
        assert error_of(ends(breaks))["code"] == code


def test_a_group_of_errors_tells_each() -> None:
    async def breaks(request: Number, ctx: WorkflowContext) -> Number:
        raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [TypeError("two")])])

    assert error_of(ends(breaks))["facts"]["problem"] == "ValueError: one; TypeError: two"


def test_a_result_of_another_class_is_a_failure() -> None:
    async def wrong(request: Number, ctx: WorkflowContext) -> Any:
        return {"value": 1}

    assert "it returned dict where Number is declared" in error_of(ends(wrong))["message"]


async def echo(request: Number, ctx: WorkflowContext) -> Number:
    return request


def positive(result: Number) -> bool:
    return result.value > 0


def by_name(degraded: bool, request: Number, *, evidence: list[Any], strict: bool = True) -> bool:
    return strict and not degraded and evidence == [] and request.value > 0


def breaking(result: Number) -> bool:
    raise ValueError("no idea")


@pytest.mark.parametrize(
    "exit", [positive, by_name, lambda invoice: invoice.value > 0, lambda: True, lambda request, result: request == result]
)
def test_an_exit_condition_that_holds_lets_the_result_pass(exit: Callable[..., bool]) -> None:
    assert ends(echo, exit=exit) == [done(1)]


@pytest.mark.parametrize(("exit", "condition"), [(lambda result: 0, "<lambda>"), (breaking, "breaking (it raised ValueError: no idea)")])
def test_an_exit_condition_that_does_not_hold_fails_the_task(exit: Callable[..., bool], condition: str) -> None:
    error = error_of(ends(echo, exit=exit))
    assert (error["code"], error["facts"]) == ("exit_failed", {"condition": condition})


def test_an_exit_condition_sees_evidence_and_degradation() -> None:
    seen: list[Any] = []

    def exit(evidence: list[Any], degraded: bool) -> bool:
        seen.append((evidence, degraded))
        return True

    async def asking(request: Number, ctx: WorkflowContext) -> Number:
        return await ctx.ask(request, returns=Number)

    live = activation(asking, exit=exit)
    live.begin()
    tool = {"tool": "get", "ok": True, "value": 1}
    reply = Happened("tsk_test", 1, 1, "reply", encode({"value": 7}), 1, encode([tool]), "test.number", "1.0.0", degraded=True)
    assert live.deliver(reply) == [done(7)]
    assert seen == [([tool], True)]


async def async_condition(result: Number) -> bool:
    return False


@pytest.mark.parametrize("broken", [{"exit": async_condition}, {"entry": async_condition}, {"exit": lambda one, two: True}])
def test_a_definition_that_could_not_work_is_refused_at_once(broken: dict[str, Any]) -> None:
    with pytest.raises(BadDeclaration):
        WorkflowDefinition("w", "1.0.0", echo, Number, Number, **broken)
    with pytest.raises(BadDeclaration):
        WorkflowDefinition("w", "1.0.0", positive, Number, Number)  # type: ignore[arg-type]


def test_conditions_have_names() -> None:
    assert (condition_name(None), condition_name(positive)) == ("", "positive")
