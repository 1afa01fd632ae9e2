"""Compaction: the journal forgets what no later supervisor needs, so that it grows with what is live and not with what ever was.

Forgotten is: the meters of a task that is closed, once no order against it is under way; what a sweep noted for an order that is carried
out; the life of a pool's member that is gone, but for the latest, whose number is not given again. Orders and receipts stay for ever: a
killed task does not rise again.
"""

import asyncio
from collections.abc import Callable

from interlock.actors.supervisor.journal import Journal
from interlock.actors.supervisor.kill import Ladder
from interlock.actors.supervisor.meters import Meters
from interlock.actors.supervisor.pools import Pools

METERS = ("open", "reserve", "settle", "close")
SWEEPS = ("holding", "stopped")
LIVES = ("spawn", "ready", "leaving", "gone")

EVERY_SECONDS = 60.0
AT_ONCE = 100
"""So few that a reservation which comes meanwhile waits for milliseconds only."""
PAUSE_SECONDS = 0.05


class Compaction:
    """Works beside everything else. What is over is taken from those who know: each task or member when it ends, or when it is replayed."""

    def __init__(self, journal: Journal, meters: Meters, ladder: Ladder, pools: Pools) -> None:
        self._journal = journal
        self._meters, self._ladder, self._pools = meters, ladder, pools

    async def run(self) -> None:
        """Compact now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._drop(METERS, self._meters.forgotten, self._meters.knows)
            await self._drop(SWEEPS, self._ladder.acknowledged, self._ladder.carries)
            await self._drop(LIVES, self._pools.gone, self._pools.needs)

    async def _drop(self, kinds: tuple[str, ...], over: list[str], needed: Callable[[str], bool]) -> None:
        """Forget the rows of those that are `over`; one that is `needed` yet, or again, is kept for the next time."""
        kept: list[str] = []
        while over:
            some = over[:AT_ONCE]
            del over[:AT_ONCE]
            await self._journal.durable()  # also the last row about them is there to be dropped
            kept += [name for name in some if needed(name)]
            self._journal.forget(kinds, [name for name in some if not needed(name)])
            await asyncio.sleep(PAUSE_SECONDS)
        over += kept
