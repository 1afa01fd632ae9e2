"""Alarms: very many moments by the wall clock, for which one timer is enough. Pure: whoever has them asks what is due.

A hundred thousand tasks that wait have one each, for weeks: a timer of the event loop for each of them takes several times the memory.
"""

import heapq
from collections.abc import Iterator

_STALE_AT_LEAST = 1000

LOOK_SECONDS = 60.0
"""A clock may be wrong for a while. Whoever was waiting by it then looks at it again after so long, and nobody waits by the error."""


class Alarms:
    """Names, each with one moment (microseconds; 0: with none)."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []  # what is not in `_at` with this moment any more counts for nothing

    def __contains__(self, name: str) -> bool:
        return name in self._at

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def set(self, name: str, at: int) -> None:
        """Know the name, and its moment instead of the one before."""
        self._at[name] = at
        if not at:
            return
        if len(self._heap) > 2 * len(self._at) + _STALE_AT_LEAST:
            self._heap = [(moment, one) for one, moment in self._at.items() if moment]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (at, name))

    def drop(self, name: str) -> None:
        """Know the name no more."""
        self._at.pop(name, None)

    def first(self) -> int:
        """The first moment of all; 0 where there is none."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else 0

    def pause(self, now: int) -> float:
        """The seconds until something is due or the clock is to be looked at again; 0 where something is due."""
        return min(max(0.0, (self.first() - now) / 1e6), LOOK_SECONDS)

    def due(self, now: int, at_most: int) -> list[str]:
        """Some names whose moment has come, the first first. They stay known, without a moment."""
        due: list[str] = []
        while len(due) < at_most and 0 < self.first() <= now:
            _, name = heapq.heappop(self._heap)
            self._at[name] = 0
            due.append(name)
        return due
