"""The circuit breakers of tools, and what the gateways say of theirs.

The orchestrator grants every tool call of every replica and hears how each ended, so the breaker of a tool is here and counts for the whole
bus. It is kept in memory alone: the next orchestrator begins with closed ones, and learns anew. A refusal is recorded as any other, so
another attempt of the dispatch hears the same. What is open or doubtful is cleared up whatever a breaker says.
"""

import asyncio
from typing import Any

from interlock.schemas.breaker import Breaker, Broken
from interlock.schemas.errors import CircuitOpen
from interlock.schemas.frames import BreakerMoved
from interlock.schemas.ports import Clock
from interlock.schemas.specs import ToolSpec
from interlock.schemas.times import rfc3339


class ToolBreakers:
    """By the tool's name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Breaker] = {}
        self._since: dict[str, int] = {}

    def stops(self, spec: ToolSpec) -> CircuitOpen | None:
        """Why the tool is not called now; where it may be, and its breaker is open, this call is the one that tries."""
        breaker = self._known.get(spec.name)
        return _refusal(spec, breaker.stops(_now())) if breaker is not None else None

    def broken(self, spec: ToolSpec) -> CircuitOpen | None:
        """The same for who does not call it yet."""
        breaker = self._known.get(spec.name)
        found = breaker.broken(_now()) if breaker is not None else None
        return _refusal(spec, found) if found is not None and found.again > 0 else None

    def ended(self, spec: ToolSpec, outage: str) -> None:
        """A call has ended; `outage`: how the system behind the tool failed it, empty where it did not."""
        if not spec.breaker:
            return
        if not outage:
            self._known.pop(spec.name, None)
            self._since.pop(spec.name, None)
        elif self._known.setdefault(spec.name, Breaker(spec.breaker)).failed(_now(), outage):
            self._since[spec.name] = self._clock.now()

    def shown(self) -> list[dict[str, Any]]:
        """Those that are open, as a status shows them."""
        found = ((name, self._known[name].broken(_now())) for name in self._since)
        return [
            {"what": f"tool {name}", "since": rfc3339(self._since[name]), "failures": broken.failures, "last": broken.last}
            for name, broken in found
            if broken is not None
        ]


class GatewayBreakers:
    """Those that gateways have said are open, by gateway and model."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[tuple[str, str], tuple[int, BreakerMoved]] = {}

    def moved(self, gateway: str, frame: BreakerMoved) -> None:
        if frame.open:
            self._open.setdefault((gateway, frame.model), (self._clock.now(), frame))
        else:
            self._open.pop((gateway, frame.model), None)

    def gone(self, gateway: str) -> None:
        """It took its breakers with it."""
        self._open = {key: said for key, said in self._open.items() if key[0] != gateway}

    def shown(self) -> list[dict[str, Any]]:
        """Those that are open, as a status shows them."""
        return [
            {
                "what": f"model {frame.model} at {frame.endpoint}, by {gateway}",
                "since": rfc3339(since),
                "failures": frame.failures,
                "last": frame.last,
            }
            for (gateway, _), (since, frame) in self._open.items()
        ]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _refusal(spec: ToolSpec, broken: Broken | None) -> CircuitOpen | None:
    return CircuitOpen(tool=spec.name, problem=str(broken)) if broken is not None else None
