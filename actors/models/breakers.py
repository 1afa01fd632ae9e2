"""The circuit breakers of a gateway: one for each model at its endpoint, which fails at once while the endpoint is out of order.

Each gateway has its own and learns for itself: a pool of them costs an endpoint that is down a few tries more, and nothing is asked of
anybody on the way to a model. The orchestrator is told of those that open and close, to show them.
"""

import asyncio
from collections.abc import Callable, Iterator

from interlock.actors.models.wire import WireFailed
from interlock.schemas.breaker import Breaker, Broken
from interlock.schemas.frames import BreakerMoved

_TIMED_OUT = 408


class Breakers:
    """By model. `moved` hears of each that opens or closes."""

    def __init__(self, endpoint: str, moved: Callable[[BreakerMoved], None]) -> None:
        self._endpoint, self._moved = endpoint, moved
        self._known: dict[str, Breaker] = {}

    def stops(self, model: str) -> Broken | None:
        """Why the model is not to be called now; where it may be, and its breaker is open, this call is the one that tries."""
        breaker = self._known.get(model)
        return breaker.stops(asyncio.get_running_loop().time()) if breaker is not None else None

    def broken(self, model: str) -> Broken | None:
        """The same for who does not call it yet."""
        breaker = self._known.get(model)
        found = breaker.broken(asyncio.get_running_loop().time()) if breaker is not None else None
        return found if found is not None and found.again > 0 else None

    def answered(self, model: str) -> None:
        """The endpoint is there: it has answered, if only to say no."""
        breaker = self._known.pop(model, None)
        if breaker is not None and breaker.succeeded():
            self._moved(BreakerMoved(model, self._endpoint, False, 0, ""))

    def failed(self, model: str, failed: WireFailed) -> None:
        """A try gave no answer. Only what speaks of the endpoint counts against it."""
        if 0 < failed.status < 500 and failed.status != _TIMED_OUT:
            return self.answered(model)
        breaker = self._known.setdefault(model, Breaker())
        if breaker.failed(asyncio.get_running_loop().time(), failed.problem):
            self._moved(BreakerMoved(model, self._endpoint, True, breaker.failures, failed.problem))

    def open(self) -> Iterator[BreakerMoved]:
        """Those that are open, for an orchestrator that does not know of them yet."""
        now = asyncio.get_running_loop().time()
        for model, breaker in self._known.items():
            if (broken := breaker.broken(now)) is not None:
                yield BreakerMoved(model, self._endpoint, True, broken.failures, broken.last)
