"""The desk of one workflow: all that goes out of it and all that comes in passes here.

Commands are numbered from 1 in the order in which the workflow makes them, and each event settles the command that it names or brings a
message from outside. A closed desk belongs to a task that was dropped from memory: whatever still runs there can neither ask nor hear
anything.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from interlock.actors.rounds import AskRounds
from interlock.schemas.canonical import decode, encode
from interlock.schemas.frames import Command, Happened

Settle = Callable[[Happened], None]
"""Called once with what became of a command."""


class Detached(BaseException):
    """This workflow was dropped from memory. Not an `Exception`, so that no workflow takes it for something that happened."""


class Desk:
    """Time (`start`, `at`: microseconds since the epoch), evidence and degradation are as of the event delivered last. An ask that would
    go one more of its `rounds` is given as refused, and fails as others do: so a replay fails it by the record and looks at no round."""

    def __init__(self, task: str, start: int, rounds: AskRounds) -> None:
        self.task = task
        self._rounds = rounds
        self.start = self.at = start
        self.evidence: list[dict[str, Any]] = []
        self.degraded = False
        self.count = 0
        self.closed = False
        self._made: list[Command] = []
        self._open: dict[int, Settle] = {}
        self._arrived: dict[tuple[str, str], asyncio.Queue[bytes]] = {}

    def check(self) -> None:
        """Raise `Detached` on a closed desk."""
        if self.closed:
            raise Detached(self.task)

    def give(self, kind: str, name: str, version: str, data: bytes, returns: list[str], settle: Settle) -> int:
        """A new command; `settle` is called when an event says what became of it. Returns its number."""
        self.check()
        self.count += 1
        looped = self._rounds.ask(self.count, name, data) if kind == "ask" else None
        refused = b"" if looped is None else encode(looped.to_wire())
        self._made.append(Command(self.count, kind, name, version, data, returns, refused))
        self._open[self.count] = settle
        return self.count

    def say(self, kind: str, name: str, version: str, data: bytes) -> None:
        """A new command of which nothing comes."""
        self.check()
        self.count += 1
        self._made.append(Command(self.count, kind, name, version, data, []))

    def withdraw(self, n: int) -> None:
        """The workflow no longer waits for command `n`: cancels it if it is still open."""
        if self._open.pop(n, None) is not None:
            self._made.append(Command(n, "cancel", "", "", b"null", []))

    def arrived(self, contract: str, version: str) -> asyncio.Queue[bytes]:
        """The data of the messages of one major of a contract that were sent into the task and not received yet, in order."""
        return self._arrived.setdefault((contract, version.partition(".")[0]), asyncio.Queue())

    def hear(self, event: Happened) -> None:
        """Settle the command that the event is about, or keep the message that it brings until it is received. A command that was
        withdrawn in the meantime is not looked at, only time passes."""
        self.at = max(self.at, event.at)
        self._rounds.hear(event)
        if event.kind == "message":
            self.arrived(event.name, event.version).put_nowait(event.value)
            return
        settle = self._open.pop(event.n, None)
        if settle is None:
            return
        if event.evidence:
            self.evidence.extend(decode(event.evidence))
        if event.degraded:
            self.degraded = True
        settle(event)

    def take(self) -> list[Command]:
        """The commands made since the last time."""
        made, self._made = self._made, []
        return made

    def close(self) -> None:
        self.closed = True
        self._open.clear()
        self._made.clear()
        self._arrived.clear()
