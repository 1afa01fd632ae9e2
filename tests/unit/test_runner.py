"""The runner: events in order, histories replayed, divergence shown, conditions judged, errors told."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import field_validator

from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition
from interlock.actors.runner import Runner
from interlock.schemas import frames as wire
from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import InterlockError
from interlock.schemas.frames import CheckEntry, Command, Commands, EntryChecked, Forget, Happened, Start, tagged, untagged
from interlock.schemas.message import Message

TASK = "tsk_test"


class Number(Message, contract="test.number", version="1.0.0"):
    value: int


Workflow = Callable[[Number, WorkflowContext], Any]


async def doubling(request: Number, ctx: WorkflowContext) -> Number:
    """Asks twice, each time with twice the number."""
    for _ in range(2):
        request = await ctx.ask(Number(value=2 * request.value), returns=Number)
    return request


class TestRunner(Runner):
    __test__ = False

    def __init__(self, workflow: Workflow, board: Any = None, **conditions: Any) -> None:
        definition = WorkflowDefinition("w", "1.0.0", workflow, Number, Number, **conditions)
        super().__init__({"w": definition}, board)
        self.sent: list[Any] = []

    def emit(self, frame: Any) -> None:
        self.sent.append(frame)

    def give(self, frame: Any) -> list[Any]:
        self.sent = []
        self.take(frame)
        return self.sent

    def start(self, *history: Any, request: int = 1, workflow: str = "w") -> list[Command]:
        return self._commands(self.give(Start(TASK, workflow, encode({"value": request}), 0, [tagged(frame) for frame in history])))

    def reply(self, event: int, n: int, value: int, **facts: Any) -> list[Command]:
        return self._commands(self.give(reply(event, n, value, **facts)))

    @staticmethod
    def _commands(frames: list[Commands]) -> list[Command]:
        (frame,) = frames
        assert frame.diverged == b""
        return [untagged(wire) for wire in frame.commands]


def reply(event: int, n: int, value: int, evidence: Any = None, degraded: bool = False) -> Happened:
    data, tools = encode({"value": value}), encode(evidence) if evidence else b""
    return Happened(TASK, event, n, "reply", data, event * 1_000_000, tools, "test.number", "1.0.0", degraded)


def asked(n: int, value: int) -> Command:
    return Command(n, "ask", "test.number", "1.0.0", encode({"value": value}), ["test.number 1.0.0"])


def done(value: int) -> Command:
    return Command(0, "done", "test.number", "1.0.0", encode({"value": value}), [])


def error_of(commands: list[Command]) -> dict[str, Any]:
    (command,) = commands
    assert command.kind == "failed"
    error: dict[str, Any] = decode(command.data)
    return error


# --- events -----------------------------------------------------------------------------------------------------------


def test_a_workflow_runs_from_start_to_done() -> None:
    runner = TestRunner(doubling)
    assert runner.start() == [asked(1, 2)]
    assert runner.holds() == [f"{TASK} 0"]
    assert runner.reply(1, 1, 5) == [asked(2, 10)]
    assert runner.holds() == [f"{TASK} 1"]
    assert runner.reply(2, 2, 7) == [done(7)]
    assert runner.give(Forget(TASK)) == []
    assert runner.holds() == []


def test_every_event_is_answered_also_when_nothing_is_asked() -> None:
    async def both(request: Number, ctx: WorkflowContext) -> Number:
        one, other = await asyncio.gather(*(ctx.ask(Number(value=value), returns=Number) for value in (1, 2)))
        return Number(value=one.value + other.value)

    runner = TestRunner(both)
    runner.start()
    assert runner.give(reply(1, 2, 20)) == [Commands(TASK, 1, [], b"")]
    assert runner.reply(2, 1, 10) == [done(30)]


def test_duplicates_are_ignored_and_gaps_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    runner = TestRunner(doubling)
    runner.start()
    runner.reply(1, 1, 5)
    assert runner.give(reply(1, 1, 6)) == []
    assert caplog.records == []
    assert runner.give(reply(3, 2, 6)) == []
    assert "event 3 came after event 1" in caplog.text
    assert runner.reply(2, 2, 6) == [done(6)]


def test_a_task_that_is_not_here_is_nobodys_business() -> None:
    runner = TestRunner(doubling)
    assert runner.give(reply(1, 1, 5)) == []
    assert runner.give(Forget(TASK)) == []


def test_after_the_end_events_change_nothing() -> None:
    async def impatient(request: Number, ctx: WorkflowContext) -> Number:
        asyncio.create_task(ctx.ask(request, returns=Number))
        await asyncio.sleep(0)
        return request

    runner = TestRunner(impatient)
    assert runner.start() == [asked(1, 1), done(1)]
    assert runner.give(reply(1, 1, 5)) == [Commands(TASK, 1, [], b"")]


def test_a_closed_runner_holds_nothing() -> None:
    runner = TestRunner(doubling)
    runner.start()
    runner.close()
    assert runner.holds() == []
    assert runner.give(reply(1, 1, 5)) == []


# --- replay -----------------------------------------------------------------------------------------------------------


def test_a_replay_goes_on_where_the_record_ends() -> None:
    runner = TestRunner(doubling)
    assert runner.give(Start(TASK, "w", b'{"value":1}', 0, [tagged(asked(1, 2)), tagged(reply(1, 1, 5))])) == [
        Commands(TASK, 1, [tagged(asked(2, 10))], b"")
    ]
    assert runner.reply(2, 2, 7) == [done(7)]


def test_a_new_start_takes_the_place_of_the_old_one() -> None:
    runner = TestRunner(doubling)
    runner.start()
    assert runner.start(asked(1, 2), reply(1, 1, 5), asked(2, 10)) == []
    assert runner.reply(2, 2, 7) == [done(7)]


def test_equal_json_is_equal_however_it_is_written() -> None:
    assert TestRunner(doubling).start(asked(1, 2)._replace(data=b'{ "value" : 2 }')) == []


RECORDS = {
    "other content": ([asked(1, 3)], 1, "test.number 1.0.0 for test.number 1.0.0 with other content", "test.number 1.0.0 for test.number"),
    "another contract": ([asked(1, 2)._replace(name="test.text")], 1, "test.number 1.0.0", "test.text 1.0.0"),
    "another version": ([asked(1, 2)._replace(version="2.0.0")], 1, "test.number 1.0.0", "test.number 2.0.0"),
    "other answers": ([asked(1, 2)._replace(returns=["test.text 1.0.0"])], 1, "for test.number 1.0.0", "for test.text 1.0.0"),
    "another kind": ([Command(1, "sleep", "", "", b"5.0", [])], 1, "test.number 1.0.0", "sleep 5.0"),
    "more asks": ([asked(1, 2), asked(2, 4)], 2, "nothing", "test.number 1.0.0"),
    "an answer to nothing": ([asked(1, 2), reply(1, 2, 5)], 2, "nothing", "command 2"),
    "a cancellation": ([asked(1, 2), Command(1, "cancel", "", "", b"null", [])], 1, "for it still", "cancel 1"),
    "later": ([asked(1, 2), reply(1, 1, 5), asked(2, 11)], 2, "with other content", "test.number"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_replay_that_differs_from_the_record_stops_and_sends_nothing(name: str) -> None:
    history, n, found, recorded = RECORDS[name]
    runner = TestRunner(doubling)
    (frame,) = runner.give(Start(TASK, "w", b'{"value":1}', 0, [tagged(one) for one in history]))
    error = decode(frame.diverged)
    assert (frame.commands, error["code"], error["facts"]["task"], error["facts"]["n"]) == ([], "diverged", TASK, n)
    assert found in error["facts"]["found"]
    assert recorded in error["facts"]["recorded"]
    assert runner.holds() == []
    assert runner.give(reply(2, 1, 5)) == []


def test_a_cancellation_that_was_too_late_to_be_recorded_is_no_divergence() -> None:
    async def timed(request: Number, ctx: WorkflowContext) -> Number:
        async with asyncio.timeout(5):
            await ctx.ask(request, returns=Number)
        return await ctx.ask(request, returns=Number)

    sleep, cancel = Command(1, "sleep", "", "", b"5.0", []), Command(1, "cancel", "", "", b"null", [])
    live = TestRunner(timed)
    assert live.start() == [sleep, asked(2, 1)]
    assert live.reply(1, 2, 0) == [cancel, asked(3, 1)]
    fired = Happened(TASK, 2, 1, "timer", b"null", 2_000_000, b"")
    history = [sleep, asked(2, 1), reply(1, 2, 0), fired, asked(3, 1)]
    again = TestRunner(timed)
    assert again.start(*history) == [cancel]
    assert again.reply(3, 3, 9) == [done(9)]


def test_a_workflow_that_is_not_here_or_cannot_read_its_request_fails() -> None:
    assert error_of(TestRunner(doubling).start(workflow="other"))["code"] == "unknown_task_type"
    (frame,) = TestRunner(doubling).give(Start(TASK, "w", b'{"value":"many"}', 0, []))
    assert error_of([untagged(wire) for wire in frame.commands])["facts"]["pointer"] == "/value"


# --- whatever user code raises ----------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Moody(Message, contract="test.moody", version="1.0.0"):
    value: int

    @field_validator("value")
    @classmethod
    def _judge(cls, value: int) -> int:
        if value > 20:
            raise asyncio.CancelledError
        if value > 2:
            raise RuntimeError("\udcff")
        return value


def raising(error: BaseException) -> Workflow:
    async def workflow(request: Number, ctx: WorkflowContext) -> Number:
        raise error

    return workflow


MUTE = "its words cannot be told: str() of it raised RuntimeError"


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ValueError("\udcff"), "?"),
        (Mute(), MUTE),
        (InterlockError(detail="\udcff"), "?"),
        (ExceptionGroup("two", [ValueError("\udcff"), Mute()]), f"ValueError: ?; Mute: {MUTE}"),
        (ValueError("x" * 100_000), "x" * 4_000),
        (InterlockError(detail="x" * 100_000), "x" * 4_000),
    ],
)
def test_what_a_workflow_raises_always_travels(error: BaseException, problem: str) -> None:
    found = error_of(TestRunner(raising(error)).start())
    assert (found["code"], found["facts"]["problem"]) == ("workflow_failed", problem)


async def moody(request: Moody, ctx: WorkflowContext) -> Moody:
    return await ctx.ask(request, returns=Moody)


def test_a_message_class_that_raises_anything_fails_its_own_task_only() -> None:
    runner = TestRunner(doubling)
    runner._workflows = {"w": WorkflowDefinition("w", "1.0.0", moody, Moody, Moody)}
    assert error_of(runner.start(request=3))["facts"]["error"] == "RuntimeError"
    assert error_of(runner.start(request=30))["facts"]["error"] == "CancelledError"
    runner.start(request=1)
    assert runner.holds() == [f"{TASK} 0"]
    (frame,) = runner.give(Happened(TASK, 1, 1, "reply", encode({"value": 9}), 0, b"", "test.moody", "1.0.0"))
    assert frame.after == 1
    assert error_of([untagged(wire) for wire in frame.commands])["facts"] == {"workflow": "w", "error": "RuntimeError", "problem": "?"}
    assert runner.holds() == []
    assert runner.give(Happened(TASK, 2, 1, "reply", b"{}", 0, b"")) == []


# --- entry ------------------------------------------------------------------------------------------------------------


async def echo(request: Number, ctx: WorkflowContext) -> Number:
    return request


def positive(result: Number) -> bool:
    return result.value > 0


def breaking(result: Number) -> bool:
    raise ValueError("no idea")


def cancelled(result: Number) -> bool:
    raise asyncio.CancelledError


def surrogate(result: Number) -> bool:
    raise ValueError("\udcff")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (None, ""),
        (positive, ""),
        (lambda request: request.value > 5, "does not hold"),
        (breaking, "raised ValueError: no idea"),
        (lambda request: sys.exit(1), "raised SystemExit: 1"),
        (surrogate, "raised ValueError: ?"),
        (cancelled, "raised CancelledError: "),
    ],
)
def test_an_entry_condition_is_checked(entry: Any, problem: str) -> None:
    runner = TestRunner(echo, entry=entry)
    assert runner.give(CheckEntry(TASK, "w", b'{"value":1}')) == [EntryChecked(TASK, problem == "", problem)]
    assert runner.holds() == []


@pytest.mark.parametrize("frame", [CheckEntry(TASK, "other", b'{"value":1}'), CheckEntry(TASK, "w", b"{}")])
def test_an_entry_that_cannot_be_checked_is_refused(frame: CheckEntry) -> None:
    (checked,) = TestRunner(echo, entry=positive).give(frame)
    assert not checked.ok
    assert checked.problem.startswith("could not be checked: ")


# --- around it --------------------------------------------------------------------------------------------------------


class TestBoard:
    __test__ = False

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def enter(self, task: str) -> int:
        self.notes.append(task)
        return 7

    def leave(self, slot: int) -> None:
        self.notes.append(slot)


def test_the_task_stands_on_the_board_while_its_code_runs() -> None:
    board = TestBoard()

    async def workflow(request: Number, ctx: WorkflowContext) -> Number:
        board.notes.append("runs")
        return request

    runner = TestRunner(workflow, board, entry=lambda request: board.notes.append("entry") or True)
    runner.give(CheckEntry(TASK, "w", b'{"value":1}'))
    runner.start()
    assert board.notes == [TASK, "entry", 7, TASK, "runs", 7]


def test_what_nobody_looked_at_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def workflow(request: Number, ctx: WorkflowContext) -> Number:
        async def breaks() -> None:
            raise ValueError("unseen")

        asyncio.create_task(breaks())
        return request

    with caplog.at_level(logging.WARNING):
        TestRunner(workflow).start()
    assert "ValueError: unseen" in caplog.text


def test_a_new_orchestrator_hears_what_runs_here_and_goes_on() -> None:
    definition = WorkflowDefinition("w", "1.0.0", doubling, Number, Number)

    async def main() -> None:
        runner = Runner({"w": definition})

        async def exchange(epoch: int, first: int, acknowledged: int, *frames: Any) -> tuple[list[Any], list[Any]]:
            head, answers = wire.unpack(await runner.exchange(wire.pack([epoch, first, acknowledged, 0, False], wire.carried(frames))))
            return head, answers

        head, answers = await exchange(1, 1, 0, Start(TASK, "w", b'{"value":1}', 0, []))
        assert (head[3], head[4]) == (False, [f"{TASK} 0"])
        assert answers == [Commands(TASK, 0, [tagged(asked(1, 2))], b"")]
        _, answers = await exchange(1, 2, 1, reply(1, 1, 5))
        assert answers == [Commands(TASK, 1, [tagged(asked(2, 10))], b"")]
        head, answers = await exchange(2, 1, 0)
        assert head[4] == [f"{TASK} 1"]
        assert answers == [Commands(TASK, 1, [tagged(asked(2, 10))], b""), Commands(TASK, 1, [], b"")]
        _, answers = await exchange(2, 1, 2, reply(2, 2, 7))
        assert answers == [Commands(TASK, 2, [tagged(done(7))], b"")]

    asyncio.run(main())
