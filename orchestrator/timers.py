"""Timers: alarms on the event loop for moments that the ledger remembers; set again from there after a crash."""

import asyncio
from collections.abc import Callable

from interlock.schemas.ports import Clock


class Timers:
    """Named alarms at wall-clock times (microseconds). Setting a name again replaces its alarm.

    `attempt(task, fire)` is how one goes off."""

    def __init__(self, clock: Clock, attempt: Callable[[str, Callable[[], None]], None]) -> None:
        self._clock, self._attempt = clock, attempt
        self._handles: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def set(self, task: str, name: str, at: int, fire: Callable[[], None]) -> None:
        """Call `fire` once `at` has come, at once if it has passed."""
        self.cancel(task, name)
        delay = max(0.0, (at - self._clock.now()) / 1e6)
        self._handles[task, name] = asyncio.get_running_loop().call_later(delay, self._fire, (task, name), fire)

    def cancel(self, task: str, name: str) -> None:
        handle = self._handles.pop((task, name), None)
        if handle is not None:
            handle.cancel()

    def cancel_all(self) -> None:
        """Forget every alarm: this orchestrator counts as dead."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()

    def _fire(self, key: tuple[str, str], fire: Callable[[], None]) -> None:
        self._handles.pop(key, None)
        self._attempt(key[0], fire)
