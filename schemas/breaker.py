"""Circuit breakers: what fails again and again is left alone for a while, and then tried by one. Pure: whoever has one tells the time.

closed: all may pass. So many failures in a row, with no success between, and it is *open*: nobody passes. After a pause it is *half open*:
one may pass, and another one whenever a pause has gone by without news of it; a success closes it, a failure begins the pause anew.
Only what speaks of the other side may be told here: that it does not answer, or that it is out of order.
"""

from typing import NamedTuple

FAILURES = 5
PAUSE_SECONDS = 30.0


class Broken(NamedTuple):
    """An open breaker: `seconds` since it opened, `failures` in a row, the `last` of them, the seconds until it is tried `again`."""

    seconds: float
    failures: int
    last: str
    again: float

    def __str__(self) -> str:
        when = f"in {self.again:.0f} s" if self.again >= 1 else "at once" if self.again <= 0 else "within a second"
        since = f"its circuit breaker opened {self.seconds:.0f} s ago, after {self.failures} failures in a row"
        return f"{since}, the last one: {self.last}; it is tried again {when}"


class Breaker:
    """One thing that may be out of order. Times are seconds of one clock that never goes back."""

    __slots__ = ("_again", "_bound", "_failures", "_last", "_opened", "_pause")

    def __init__(self, failures: int = FAILURES, pause: float = PAUSE_SECONDS) -> None:
        self._bound, self._pause = failures, pause
        self._failures, self._last = 0, ""
        self._opened: float | None = None
        self._again = 0.0

    @property
    def failures(self) -> int:
        """How many there were in a row, up to now."""
        return self._failures

    def broken(self, now: float) -> Broken | None:
        """Why nobody should pass; none while it is closed."""
        if self._opened is None:
            return None
        return Broken(now - self._opened, self._failures, self._last, max(0.0, self._again - now))

    def stops(self, now: float) -> Broken | None:
        """Why this one may not pass; none where it may, and of an open breaker it is then the one that tries."""
        if self._opened is None:
            return None
        if now < self._again:
            return self.broken(now)
        self._again = now + self._pause
        return None

    def succeeded(self) -> bool:
        """The other side did its work. Whether that closed the breaker."""
        was_open, self._opened, self._failures = self._opened is not None, None, 0
        return was_open

    def failed(self, now: float, why: str) -> bool:
        """The other side did not do its work. Whether that opened the breaker."""
        self._failures, self._last = self._failures + 1, why
        if self._failures < self._bound:
            return False
        opens = self._opened is None
        if opens:
            self._opened = now
        self._again = now + self._pause
        return opens
