"""How many members a pool should have, from what it has to do: a pure rule, looked at now and then.

It grows at once to what is needed, where something really waits, and shrinks by one member at a time after a quiet while. What is
needed are members with room for all that is at work and waits; so a load that stays as it is changes nothing twice. Who hears nothing of
the load changes nothing.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Demand(NamedTuple):
    """What a pool has to do: `busy` at work in its members, `waiting` for one of them, without a break for so many `seconds`. A member has
    `room` for so many at a time."""

    busy: int
    waiting: int
    seconds: float
    room: int

    @property
    def needed(self) -> int:
        """Members with room for all of it."""
        return -(-(self.busy + self.waiting) // self.room)


@dataclass(frozen=True, slots=True)
class ScalePace:
    """Seconds. `look`: between two looks at the load; `patience`: something may wait for so long without more members, unless it fills a
    whole member; `quiet`: fewer must be enough for so long before one leaves."""

    look: float = 1.0
    patience: float = 1.0
    quiet: float = 60.0


class Scaler:
    """One pool's rule. `look` is to be asked with a time that never goes back."""

    def __init__(self, pace: ScalePace) -> None:
        self._pace = pace
        self._quiet_since: float | None = None

    def look(self, now: float, size: int, least: int, most: int, demand: Demand | None) -> int:
        """The size that the pool should have now, `least` to `most`."""
        size = min(max(size, least), most)
        if demand is None:
            self._quiet_since = None  # nobody can say that it was quiet
            return size
        if demand.needed >= size:
            self._quiet_since = None
            waits = demand.waiting > 0 and (demand.waiting >= demand.room or demand.seconds >= self._pace.patience)
            return min(demand.needed, most) if waits and size < most else size
        if self._quiet_since is None:
            self._quiet_since = now
        if size > least and now - self._quiet_since >= self._pace.quiet:
            self._quiet_since = now
            return size - 1
        return size
