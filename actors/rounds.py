"""Rounds: whether somebody goes round in circles, told by what was asked and what came of it.

A model does within a dispatch where the same tool with the same arguments gives the same result again and again. A workflow does where
what it asks and hears repeats as a whole, and it then asks for the next round. What is asked at the same time is asked once, and where
anything else was heard in between (a timer, a person, a message from outside) the world may have changed.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from interlock.schemas.canonical import decode, encode
from interlock.schemas.errors import LoopDetected
from interlock.schemas.frames import Happened
from interlock.schemas.words import clean

LONGEST = 8
"""The longest round of a workflow's asks that is seen to repeat."""

_SHOWN = 8
_CHARS = 80


class Made(NamedTuple):
    """A tool call that a model made, its arguments as the model wrote them, and what it was told of it."""

    tool: str
    arguments: str
    result: str

    @property
    def name(self) -> bytes:
        """Equal for calls that are: however their arguments are written."""
        try:
            arguments = encode(decode(self.arguments))
        except ValueError:
            arguments = self.arguments.encode(errors="replace")
        parts = (self.tool.encode(errors="replace"), arguments, self.result.encode(errors="replace"))
        return b"".join(hashlib.sha256(part).digest() for part in parts)


class ToolRounds:
    """The tool calls of one dispatch of `who`. None as `most`: they may repeat for ever."""

    def __init__(self, who: str, most: int | None) -> None:
        self._who, self._most = who, most
        self._times: dict[bytes, int] = {}
        self._trail: list[tuple[bytes, str]] = []

    def turn(self, calls: Sequence[Made]) -> None:
        """Take the calls of one turn; raises `LoopDetected` where one of them was made, with the same result, in `most` turns."""
        for name, call in {call.name: call for call in calls}.items():
            times = self._times[name] = self._times.get(name, 0) + 1
            self._trail.append((name, _cut(f"{call.tool}({call.arguments})")))
            if self._most is not None and times >= self._most:
                raise LoopDetected(who=self._who, times=times, cycle=_shown(self._round(name)))

    def _round(self, name: bytes) -> list[str]:
        """From the last time to this one."""
        last = max(n for n, (other, _) in enumerate(self._trail[:-1]) if other == name)
        return [words for _, words in self._trail[last:]]


_Ask = tuple[str, int, bytes, int]
"""The contract, a hash of what was asked, its words, and how much had been heard before."""

_Exchange = tuple[tuple[str, int, str, int, int], bytes]
"""What was asked and heard, as hashes (a round is only looked for in memory), and the words of the ask."""


class AskRounds:
    """What one workflow, `who`, asks agents and hears from them. None as `most`: its rounds may repeat for ever."""

    def __init__(self, who: str, most: int | None) -> None:
        self._who, self._most = who, most
        self._open: dict[int, _Ask] = {}
        self._trail: list[_Exchange] = []
        self._asked: set[int] = set()  # most asks are new, and then nothing is compared
        self._heard = 0

    def ask(self, n: int, name: str, data: bytes) -> LoopDetected | None:
        """Take command `n`; the error where it would begin a round that was gone through `most` times, one like the other."""
        if self._most is None:
            return None
        asked = hash(data)
        length = self._round(name, asked, self._most) if asked in self._asked else 0
        if length:
            words = [_words(one, said) for (one, *_), said in self._trail[-length:]]
            return LoopDetected(who=self._who, times=self._most, cycle=_shown([*words, words[0]]))
        self._open[n] = (name, asked, data, self._heard)
        return None

    def _round(self, name: str, asked: int, most: int) -> int:
        """How many asks long the round is that this one would begin again; 0 where there is none."""
        trail = self._trail
        for length in range(1, min(LONGEST, len(trail) // most) + 1):
            first = trail[-length][0]
            if (first[1], first[0]) == (asked, name) and all(
                trail[-n][0] == trail[-n - length][0] for n in range(1, length * (most - 1) + 1)
            ):
                return length
        return 0

    def hear(self, event: Happened) -> None:
        """Take an event that the workflow hears."""
        if event.kind not in ("reply", "failure"):
            self._trail.clear()
            self._asked.clear()
        ask = self._open.pop(event.n, None)
        if ask is None or event.kind != "reply" or self._most is None:
            return
        name, asked, data, after = ask
        exchange = (name, asked, event.name, hash(event.value), hash(event.evidence))
        if self._heard > after and any(other == exchange for other, _ in self._trail[after - self._heard :]):
            return
        self._heard += 1
        self._asked.add(asked)
        self._trail.append((exchange, data[: 4 * _CHARS]))
        if len(self._trail) > 2 * LONGEST * self._most:
            del self._trail[: LONGEST * self._most]
            self._asked = {exchange[1] for exchange, _ in self._trail}


def _words(name: str, data: bytes) -> str:
    return _cut(f"{name} {data.decode(errors='replace')}")


def _cut(words: str) -> str:
    words = " ".join(clean(words, 4 * _CHARS).split())
    return words if len(words) <= _CHARS else f"{words[: _CHARS - 1]}…"


def _shown(words: list[str]) -> str:
    """The round as a person reads it; the middle of a long one is left out."""
    if len(words) > _SHOWN:
        words = [*words[: _SHOWN // 2], f"… {len(words) - _SHOWN} more …", *words[-_SHOWN // 2 :]]
    return " → ".join(words)
