"""Demand: what each pool has to do, for whoever gives it more members or fewer.

While something waits the supervisor is told so, once a second; it then asks how much. Where nothing waits this costs nothing.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from interlock.orchestrator.channel import Channel
from interlock.orchestrator.router import Pool
from interlock.schemas.specs import MODELS, RUNNERS

if TYPE_CHECKING:
    from interlock.orchestrator.engine import Engine

TELL_SECONDS = 1.0

ROOM = {RUNNERS: 20_000, MODELS: 512}
"""Workflows that one runner holds, and calls that one gateway makes, before another shares them: both take whatever comes."""

Needs = dict[str, tuple[int, int, float, int]]


class Demands:
    """The engine's desk for loads. `tell` is called while something waits; set it to whoever wants to know."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.tell: Callable[[], None] = lambda: None
        self._telling = False
        self._since: dict[str, float] = {}

    def pressed(self) -> None:
        """Something waits; may be said as often as one likes."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def given(self, pool: str, member: Channel) -> None:
        """A runner or a gateway has got one more."""
        if member.load > ROOM[pool]:
            self.pressed()

    def handed(self, agent: str) -> None:
        """A replica of this agent has got a dispatch. Where it ends with it, another shall be ready for the next one."""
        pool = self._engine.router.pools.get(agent)
        if pool is not None and pool.agent.exclusive:
            self.pressed()

    def loads(self) -> Needs:
        """Per pool: at work, waiting, for how many seconds without a break as far as anybody looked, and the room of one member."""
        now = asyncio.get_running_loop().time()
        found: Needs = {}
        for name, busy, waiting, room in self._counted():
            since = self._since.setdefault(name, now) if waiting else now
            if not waiting:
                self._since.pop(name, None)
            found[name] = (busy, waiting, now - since, room)
        return found

    def _counted(self) -> list[tuple[str, int, int, int]]:
        pools = self._engine.router.pools.values()
        counted = [(pool.agent.name, busy := _load(pool.channels), _waiting(pool, busy), pool.agent.concurrency) for pool in pools]
        for name, members in ((RUNNERS, self._engine.workflows.runners), (MODELS, self._engine.calls.gateways)):
            load = _load(members)
            taken = min(load, ROOM[name] * len(members))
            counted.append((name, taken, load - taken, ROOM[name]))
        return counted

    def _tell(self) -> None:
        self._telling = False
        if not self._engine.detached and any(waiting for _, waiting, _, _ in self.loads().values()):
            self.tell()
            self.pressed()


def _waiting(pool: Pool, busy: int) -> int:
    """What waits for a replica; where each ends with its dispatch, the next message counts before it comes: one process is kept for it."""
    waiting = len(pool.queue) + len(pool.suspects)
    return waiting + (pool.agent.exclusive and waiting + busy > 0)


def _load(members: Collection[Channel]) -> int:
    return sum(member.load for member in members)
