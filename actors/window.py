"""The context window: a conversation stays under its bound, and what it is for stays in it.

First old tool results are cut, then the oldest turns are folded into a note of what was done, and the goal is restated after it. System
prompt and request are never touched, and a tool call is never parted from its results. What is left follows from the conversation alone,
so another attempt that has the same conversation folds it alike.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from interlock.actors.aim import Aim
from interlock.schemas.canonical import encode

Talk = dict[str, Any]

OPENING = 2
"""System prompt and request."""

FOLDED = re.compile(r"\[folded: (\d+) turns, (\d+) tool results\]")
"""How the note begins: what stood in its place."""

KEPT_CHARS = 1_000
_CUT = " … [cut: what followed is not shown any more; read it again where it matters]"
_ARGUMENT_CHARS, _SAID_CHARS = 120, 240
_NOTE_SHARE = 8
"""The note is at most this part of the window."""


class Made(NamedTuple):
    """Room that was made: how many results were cut, how many messages folded, and the bytes before and after."""

    cut: int
    folded: int
    before: int
    after: int


class Window:
    """The window of one conversation, `most` bytes of its messages as JSON. None: it has no bound."""

    def __init__(self, most: int | None, aim: Aim) -> None:
        self._bound, self._aim = most, aim
        self._most = most or 0
        self._lines: list[str] = []
        self._turns = self._results = self._forgotten = 0

    def fit(self, talk: list[Talk], beside: int = 0) -> Made | None:
        """Make room where the messages are over the bound; none where they are not, or nothing can be taken away. A quarter stays free, so
        that not every turn makes room anew. `beside` are bytes that are sent with them once."""
        before = size(talk)
        if self._bound is None or before <= self._bound - beside:
            return None
        self._most = self._bound - beside
        enough = min(self._bound * 3 // 4, self._most)
        last = self._last(talk)
        cut = _cut_results(talk[self._first() : last], before - enough)
        folded = 0
        if size(talk) > self._most:
            folded = self._fold(talk, enough)
        if size(talk) > self._most:
            cut += self._cut_last(talk)
        return Made(cut, folded, before, size(talk)) if cut or folded else None

    def _first(self) -> int:
        """Where the turns begin that were not folded."""
        return OPENING + 2 * bool(self._turns)

    def _last(self, talk: list[Talk]) -> int:
        """Where the last turn begins: nobody has answered it yet."""
        return max((n for n, message in enumerate(talk) if message["role"] == "assistant"), default=len(talk))

    def _fold(self, talk: list[Talk], enough: int) -> int:
        """Fold turn by turn, the oldest first, and none that was not answered yet; how many messages."""
        folded = 0
        first = self._first()
        while size(talk) > enough and (turn := _turn(talk, first)) is not None and first + turn <= self._last(talk):
            self._note(talk[first : first + turn])
            folded += turn
            talk[OPENING : first + turn] = self._said()
            first = self._first()
        return folded

    def _note(self, turn: list[Talk]) -> None:
        self._turns += 1
        self._results += sum(message["role"] == "tool" for message in turn)
        self._lines += _lines(turn)
        while len(self._lines) > 1 and sum(len(line.encode()) for line in self._lines) > self._most // _NOTE_SHARE:
            self._forgotten += 1
            del self._lines[0]

    def _said(self) -> list[Talk]:
        head = f"[folded: {self._turns} turns, {self._results} tool results] What I did before, the oldest first:"
        forgotten = [f"- {self._forgotten} things before these"] if self._forgotten else []
        note = "\n".join([head, *forgotten, *self._lines])
        return [{"role": "assistant", "content": note}, {"role": "user", "content": self._aim.restated()}]

    def _cut_last(self, talk: list[Talk]) -> int:
        """Cut the results that nobody has read yet, no shorter than they must be."""
        chars = self._most
        cut = 0
        while size(talk) > self._most and chars > KEPT_CHARS:
            chars = max(chars // 2, KEPT_CHARS)
            cut = max(cut, _cut_results(talk[self._last(talk) :], size(talk), chars))
        return cut


def size(talk: list[Talk]) -> int:
    """The bytes of these messages as JSON."""
    return len(encode(talk))


def _turn(talk: list[Talk], first: int) -> int | None:
    """How many messages belong to the turn that begins there: what the model said, and what it was told of it."""
    if first >= len(talk):
        return None
    following = (n for n in range(first + 1, len(talk)) if talk[n]["role"] == "assistant")
    return next(following, len(talk)) - first


def _cut_results(talk: list[Talk], excess: int, chars: int = KEPT_CHARS) -> int:
    """Cut long tool results of these messages, the first ones first, until `excess` bytes are gone; how many. The messages are
    replaced in their places."""
    cut = 0
    for message in talk:
        if excess <= 0:
            break
        if message["role"] != "tool" or len(message["content"]) <= chars + len(_CUT):
            continue
        before = len(encode(message))
        message["content"] = shortened(message["content"], chars)
        excess -= before - len(encode(message))
        cut += 1
    return cut


def shortened(content: str, chars: int) -> str:
    """Its first characters, and that there were more."""
    return content[:chars] + _CUT


def _lines(turn: list[Talk]) -> Iterator[str]:
    """What was done in a turn, a line for each thing."""
    results = {message["tool_call_id"]: message["content"] for message in turn if message["role"] == "tool"}
    for message in turn:
        if message.get("content") and message["role"] != "tool":
            who = "I said" if message["role"] == "assistant" else "I was told"
            yield f"- {who}: {_brief(message['content'], _SAID_CHARS)}"
        for call in message.get("tool_calls", ()):
            function = call["function"]
            made = f"{_brief(function['name'], _ARGUMENT_CHARS)}({_brief(function['arguments'], _ARGUMENT_CHARS)})"
            yield f"- {made} → {_brief(results.get(call['id'], ''), _SAID_CHARS)}"


def _brief(text: str, chars: int) -> str:
    words = " ".join(text[: 2 * chars].split())
    return words if len(words) <= chars else f"{words[: chars - 1]}…"
