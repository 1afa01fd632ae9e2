"""The replica host: however an agent or a tool of it ends, it is said; nothing counts as let go of while a thread of it runs."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from interlock.actors.agent_context import AgentContext
from interlock.actors.definitions import AgentDefinition
from interlock.actors.host import Replica
from interlock.schemas.canonical import decode
from interlock.schemas.envelope import Envelope
from interlock.schemas.errors import InterlockError, ToolTimeout
from interlock.schemas.frames import Answered, Dispatch, DispatchFailure, Drop, EffectAsked, Granted, LetGo, Replied, ToolEnded
from interlock.schemas.message import Message
from interlock.schemas.specs import AgentSpec, ContractRef
from interlock.tools.tool import Tool, declare

TASK = "tsk_test"


class Order(Message, contract="test.order", version="1.0.0"):
    pass


class Done(Message, contract="test.done", version="1.0.0"):
    pass


class Board:
    def __init__(self) -> None:
        self.held: list[str] = []

    def enter(self, task: str) -> int:
        self.held.append(task)
        return 7

    def leave(self, slot: int) -> None:
        assert slot == 7
        self.held.remove(TASK)


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never holds")


class TestReplica(Replica):
    """A replica whose orchestrator grants everything at once and finds everything durable at once."""

    __test__ = False

    def __init__(self, agent: Callable[[Any, AgentContext], Any], *tools: Tool[..., Any]) -> None:
        spec = AgentSpec("a", "1.0.0", (), ())
        self.board = Board()
        self.sent: list[Any] = []
        super().__init__(AgentDefinition("a", "1.0.0", spec, agent, "", (Order,), (Done,), tools), agent, "a-1", self.board)

    def emit(self, frame: Any) -> None:
        self.sent.append(frame)
        if isinstance(frame, EffectAsked):
            self.take(Granted(frame.dispatch, frame.effect, "key", 30.0))
        elif isinstance(frame, ToolEnded):
            asyncio.get_running_loop().call_soon(self.take, Answered(frame.dispatch, frame.effect, frame.ok, frame.value))

    def begin(self) -> None:
        envelope = Envelope("1", "interlock://w", ContractRef("test.order", "1.0.0"), TASK, "", b"{}", "", "", "", "trusted")
        self.take(Dispatch("dsp_1", TASK, "1-1", "a", envelope.head(), b"{}", ["test.done 1.0.0"], []))

    async def last(self, kind: type[Any]) -> Any:
        await until(lambda: bool(self.sent) and isinstance(self.sent[-1], kind))
        return self.sent[-1]


# --- how it ends --------------------------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Beyond(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ValueError("\udcff"), "ValueError: ?"),
        (Mute(), "Mute: its words cannot be told: str() of it raised RuntimeError"),
        (InterlockError(detail="\udcff"), "?"),
        (Beyond("far"), "Beyond: far"),
    ],
)
def test_a_failure_is_said_whatever_its_words(error: BaseException, problem: str) -> None:
    async def agent(request: Order, ctx: AgentContext) -> Done:
        raise error

    async def main() -> None:
        replica = TestReplica(agent)
        replica.begin()
        failure = decode((await replica.last(DispatchFailure)).error)
        assert (failure["code"], failure["facts"]["problem"]) == ("agent_failed", problem)
        assert (replica.holds(), replica.board.held) == ([], [])

    asyncio.run(main())


# --- threads of tools ---------------------------------------------------------------------------------------------------


class Stage:
    """An agent with one plain tool, whose thread ends when it is let."""

    def __init__(self, seconds: float = 60) -> None:
        self.go = threading.Event()
        self.started = threading.Event()

        def pay() -> bool:
            """Pay."""
            self.started.set()
            return self.go.wait(20)

        self.tool = declare(pay, effect="read", timeout=seconds)
        self.replica = TestReplica(self.agent, self.tool)

    async def agent(self, request: Order, ctx: AgentContext) -> Done:
        with suppress(ToolTimeout):
            await ctx.call(self.tool)
        return Done()

    async def begin(self) -> None:
        self.replica.begin()
        await until(self.started.is_set)

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0.001)


def test_a_kill_is_not_done_while_the_thread_of_a_tool_runs() -> None:
    async def main() -> None:
        stage = Stage()
        await stage.begin()
        assert not await stage.replica.cancel(TASK)
        assert not await stage.replica.cancel(TASK)
        await stage.settle()
        assert stage.replica.board.held == [TASK]
        assert stage.replica.holds() == ["dsp_1 1-1"]
        assert LetGo("dsp_1", "1-1") not in stage.replica.sent
        stage.go.set()
        assert await stage.replica.last(LetGo) == LetGo("dsp_1", "1-1")
        assert await stage.replica.cancel(TASK)
        assert (stage.replica.holds(), stage.replica.board.held) == ([], [])
        assert stage.replica.sent.count(LetGo("dsp_1", "1-1")) == 1

    asyncio.run(main())


def test_a_dropped_dispatch_is_let_go_of_only_when_the_thread_of_its_tool_has_ended() -> None:
    async def main() -> None:
        stage = Stage()
        await stage.begin()
        for _ in range(2):
            stage.replica.take(Drop("dsp_1", "1-1", "withdrawn"))
            await stage.settle()
            assert not isinstance(stage.replica.sent[-1], LetGo)
        stage.go.set()
        await stage.replica.last(LetGo)
        await stage.settle()
        assert stage.replica.sent.count(LetGo("dsp_1", "1-1")) == 1
        assert stage.replica.board.held == []

    asyncio.run(main())


def test_an_answer_is_not_held_back_by_a_tool_that_was_given_up_on_but_a_kill_is() -> None:
    async def main() -> None:
        stage = Stage(seconds=0.01)
        await stage.begin()
        await stage.replica.last(Replied)
        assert stage.replica.holds() == []
        assert stage.replica.board.held == [TASK]
        assert not await stage.replica.cancel(TASK)
        stage.go.set()
        await until(lambda: stage.replica.board.held == [])
        assert await stage.replica.cancel(TASK)
        assert not any(isinstance(frame, LetGo) for frame in stage.replica.sent)

    asyncio.run(main())


def test_a_tool_that_makes_an_outcome_of_being_told_to_stop_holds_up_nothing() -> None:
    async def stubborn() -> bool:
        """Go on."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("half done") from None
        return True

    tool = declare(stubborn, effect="read")

    async def agent(request: Order, ctx: AgentContext) -> Done:
        await ctx.call(tool)
        return Done()

    async def main() -> None:
        replica = TestReplica(agent, tool)
        replica.begin()
        await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            assert await replica.cancel(TASK)
        assert isinstance(replica.sent[-1], LetGo)

    asyncio.run(main())
