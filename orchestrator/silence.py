"""Silence: who is asked something and does not answer, though nobody has seen its process end.

A peer answers every exchange at once, or as soon as another one relieves it. So an exchange that stays open is relieved now and then, and
whoever answers neither is silent. Time is counted in looks: an orchestrator that was itself stopped for a while suspects nobody for that.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.orchestrator.channel import Channel


class Silence:
    """One channel's watch: while an exchange is open it looks every `look` seconds, and tells `silent(seconds)` for how long nothing has
    been answered by then. It costs nothing per exchange but the question whether it runs."""

    def __init__(self, channel: "Channel", look: float, silent: Callable[[float], None]) -> None:
        self._channel, self._look, self._silent = channel, look, silent
        self._timer: asyncio.TimerHandle | None = None
        self._answers, self._seconds, self._looked = 0, 0.0, 0.0

    def begin(self) -> None:
        """An exchange has begun."""
        if self._timer is None:
            self._answers, self._seconds = self._channel.answers, 0.0
            self._again()

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        self._looked = loop.time()
        self._timer = loop.call_later(self._look, self._fire)

    def _fire(self) -> None:
        channel = self._channel
        if not channel.alive or not channel.asking:
            self._timer = None
            return
        if channel.answers != self._answers:
            self._answers, self._seconds = channel.answers, 0.0
        else:
            self._seconds += min(asyncio.get_running_loop().time() - self._looked, 2 * self._look)
            channel.ping()
            self._silent(self._seconds)
        self._again()
