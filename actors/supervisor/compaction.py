"""Compaction: the journal forgets what no later supervisor needs, so that it grows with what is live and not with what ever was.

Forgotten is: the meters of a task that is closed, once no order against it is under way; its share of what is used in scopes goes into
their own rows in the same transaction, and those of windows that are over go too; what a sweep noted for an order that is carried
out; the life of a pool's member that is gone, but for the latest, whose number is not given again. Orders and receipts stay for ever: a
killed task does not rise again.
"""

import asyncio
from collections.abc import Callable, Sequence

from interlock.actors.supervisor.journal import Change, Journal
from interlock.actors.supervisor.kill import Ladder
from interlock.actors.supervisor.meters import Meters
from interlock.actors.supervisor.pools import Pools
from interlock.schemas.ports import Clock

COUNTERS = ("carried",)
METERS = ("open", "change", "reserve", "settle", "close")
SWEEPS = ("selected", "holding", "stopped")
LIVES = ("spawn", "ready", "leaving", "gone")

EVERY_SECONDS = 60.0
AT_ONCE = 100
"""So few that a reservation which comes meanwhile waits for milliseconds only."""
PAUSE_SECONDS = 0.05
OWING_SECONDS = 900.0
"""Of an effect in a scope whose task ended so long ago nobody will say any more how it ended: it counts as spent."""


class Compaction:
    """Works beside everything else. What is over is taken from those who know: each task or member when it ends, or when it is replayed."""

    def __init__(self, journal: Journal, meters: Meters, ladder: Ladder, pools: Pools, clock: Clock) -> None:
        self._journal = journal
        self._meters, self._ladder, self._pools = meters, ladder, pools
        self._clock = clock
        self._owing: dict[str, float] = {}  # since when

    async def run(self) -> None:
        """Compact now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._forfeit()
            await self._drop(METERS, self._meters.forgotten, self._meters.knows, self._meters.carry)
            self._meters.scopes.expire(self._clock.now())
            await self._drop(COUNTERS, self._meters.scopes.expired, self._meters.scopes.knows)
            await self._drop(SWEEPS, self._ladder.acknowledged, self._ladder.carries)
            await self._drop(LIVES, self._pools.gone, self._pools.needs)

    async def _forfeit(self) -> None:
        """Charge in full what tasks hold in scopes that ended long ago."""
        now = asyncio.get_running_loop().time()
        self._owing = {task: self._owing.get(task, now) for task in self._meters.owing()}
        late = [task for task, since in self._owing.items() if now - since >= OWING_SECONDS]
        await self._journal.durable(*(change for task in late for id in self._meters.under_way(task) for change in self._charge(task, id)))

    def _charge(self, task: str, id: str) -> list[Change]:
        return self._meters.forfeit(task, id)[1]

    async def _drop(
        self,
        kinds: tuple[str, ...],
        over: list[str],
        needed: Callable[[str], bool],
        carry: Callable[[Sequence[str]], list[Change]] = lambda _: [],
    ) -> None:
        """Forget the rows of those that are `over`, but for what `carry` says of them; one that is `needed` yet, or again, is kept for the
        next time."""
        kept: list[str] = []
        while over:
            some = over[:AT_ONCE]
            del over[:AT_ONCE]
            await self._journal.durable()  # also the last row about them is there to be dropped
            kept += [name for name in some if needed(name)]
            done = [name for name in some if not needed(name)]
            self._journal.forget(kinds, done, carry(done))
            await asyncio.sleep(PAUSE_SECONDS)
        over += kept
