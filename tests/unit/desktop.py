"""What the tests of workflows share: messages, and one workflow on its deterministic loop, driven by hand."""

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from interlock.actors.context import WorkflowContext
from interlock.actors.desk import Desk
from interlock.actors.replay import ReplayLoop
from interlock.actors.rounds import AskRounds
from interlock.schemas.canonical import encode
from interlock.schemas.errors import AgentFailed
from interlock.schemas.frames import Command, Happened
from interlock.schemas.message import Message

START = 1_700_000_000_000_000
FAILURE = AgentFailed(agent="pricing", contract="test.question", problem="it broke")


class Question(Message, contract="test.question", version="1.0.0"):
    text: str


class Reply(Message, contract="test.reply", version="1.0.0"):
    text: str


class NewReply(Message, contract="test.reply", version="1.1.0"):
    text: str


class Refusal(Message, contract="test.refusal", version="1.0.0"):
    why: str


class Desktop:
    """One workflow on its loop, driven by hand."""

    def __init__(self, workflow: Callable[[WorkflowContext], Coroutine[Any, Any, Any]], task: str = "tsk_test") -> None:
        self.desk = Desk(task, START, AskRounds("workflow w", None))
        self.loop = ReplayLoop(self.desk)
        self.main = self.loop.create_task(workflow(WorkflowContext(self.desk)), context=contextvars.Context())
        self.events = 0
        self.commands = self.run()

    def run(self) -> list[Command]:
        self.loop.drive()
        return self.desk.take()

    def happen(self, n: int, kind: str, value: Any = None, seconds: float = 0, evidence: Any = None, **facts: Any) -> list[Command]:
        self.events += 1
        at = START + round(seconds * 1_000_000)
        self.desk.hear(Happened(self.desk.task, self.events, n, kind, encode(value), at, encode(evidence) if evidence else b"", **facts))
        return self.run()

    def reply(self, n: int, text: str = "yes", cls: type[Message] = Reply, **facts: Any) -> list[Command]:
        return self.happen(n, "reply", **{"value": {"text": text}, "name": cls.contract, "version": cls.contract_version, **facts})


def kinds(commands: list[Command]) -> list[tuple[int, str]]:
    return [(command.n, command.kind) for command in commands]


async def ask(ctx: WorkflowContext, text: str = "?") -> str:
    return (await ctx.ask(Question(text=text), returns=Reply)).text
