"""Pools: how many incarnations each should have, and the work of keeping it so.

A pool's size is durable and so is every name that was given: a name is `<pool>-<number>` and never used again. Who is lost is
replaced, more slowly while they die young; who is too many leaves first (gets nothing new, ends what it has) and is stopped then.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from interlock.actors.supervisor.journal import Change, Journal, Row
from interlock.schemas.errors import BadDeclaration, NotBorn, UnknownAgent
from interlock.schemas.words import clean, words_of

_LOG = logging.getLogger(__name__)
_LOOK_FOR_BIRTH = 0.02

ROOM_SECONDS = 30.0
"""How long whoever starts a bus waits for a pool that no node has room for, before it is told so."""


class Spawner(Protocol):
    """Who really makes processes."""

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        """Make one member, ready for work on return."""

    async def stop(self, incarnation: str) -> None:
        """End one that has nothing to do any more, or never came to life; harmless where there is none."""

    def waits(self, incarnation: str) -> str:
        """What keeps one that is being made from having a process, in words; empty where nothing is known to."""


class PoolState(NamedTuple):
    """How a pool stands: members `wanted`, and those that are `ready`, `starting` or `leaving`. `trouble` says in words what keeps it from
    its size, empty where nothing does."""

    wanted: int
    ready: int
    starting: int
    leaving: int
    trouble: str


@dataclass(frozen=True, slots=True)
class PoolPace:
    """Seconds. `drain`: to end what it has; `young`: a life shorter than this counts as a failure; the `first` pause after a
    second failure in a row, doubled with each more up to the `last`; `birth`: for one spawn."""

    drain: float = 30.0
    young: float = 10.0
    first: float = 0.1
    last: float = 30.0
    birth: float = 120.0


@dataclass(slots=True)
class _Member:
    """`state`: `starting`, `ready` or `leaving`."""

    pool: str
    state: str = "starting"
    since: float = 0.0


@dataclass(slots=True)
class _Pool:
    kind: str
    size: int
    number: int = 0
    failures: int = 0
    not_before: float = 0.0
    trouble: str = ""
    loss: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Pools:
    """All pools. Feed every old row to `apply`, then `run`. `leave(incarnation)` returns once the engine sends it nothing and it
    has nothing; `joined(pool, incarnation)` is called for each that has become ready."""

    def __init__(
        self,
        journal: Journal,
        spawner: Spawner,
        leave: Callable[[str], Awaitable[None]],
        joined: Callable[[str, str], None],
        pace: PoolPace | None = None,
    ) -> None:
        self._journal = journal
        self._spawner = spawner
        self._leave = leave
        self._joined = joined
        self._pace = pace or PoolPace()
        self._pools: dict[str, _Pool] = {}
        self._members: dict[str, _Member] = {}
        self._held: frozenset[str] = frozenset()
        self.gone: list[str] = []
        self._group: asyncio.TaskGroup | None = None

    def apply(self, row: Row) -> None:
        """Take one row of the journal into the state."""
        match row.kind:
            case "pool":
                pool = self._pools.setdefault(row.data["pool"], _Pool(row.data["kind"], 0))
                pool.kind, pool.size = row.data["kind"], row.data["size"]
            case "spawn":
                self._pools[row.data["pool"]].number = row.data["number"]
                self._members[row.data["incarnation"]] = _Member(row.data["pool"])
            case "ready" | "leaving":
                self._members[row.data["incarnation"]].state = row.kind
            case "gone":
                del self._members[row.data["incarnation"]]
                self.gone.append(row.data["incarnation"])

    def declare(self, pool: str, kind: str, size: int) -> None:
        """There shall be such a pool, of this size; a pool that exists already changes to it."""
        if size < 0:
            raise BadDeclaration(what=f"pool {pool} of {size}", problem="a size is zero or more", remedy="Use 0 for an empty pool.")
        known = self._pools.get(pool)
        if known is not None and (known.kind, known.size) == (kind, size):
            return
        self._journal.append(Change("pool", "", {"pool": pool, "kind": kind, "size": size}))
        if known is not None:
            known.kind, known.size, known.trouble = kind, size, ""
            known.changed.set()
            return
        self._pools[pool] = _Pool(kind, size)
        if self._group is not None:
            self._group.create_task(self._keep(pool), name=f"pool {pool}")

    def scale(self, pool: str, size: int) -> None:
        """Give a pool another size; durable on return, carried out in the background."""
        if pool not in self._pools:
            raise UnknownAgent(agent=pool, known=", ".join(sorted(self._pools)) or "none")
        self.declare(pool, self._pools[pool].kind, size)

    def hold(self, pools: Iterable[str]) -> None:
        """These pools, and no others, shall have nobody, whatever their sizes."""
        before, self._held = self._held, frozenset(pools)
        for name in before ^ self._held:
            if name in self._pools:
                self._pools[name].changed.set()

    async def first(self, pool: str) -> str:
        """A pool's first member, once it is ready for work; empty where it shall have none. Raises `NotBorn` where it is not to be."""
        end = asyncio.get_running_loop().time() + ROOM_SECONDS
        while pool in self._pools and self._size(pool) > 0:
            if ready := self.members(pool):
                return ready[0]
            late = asyncio.get_running_loop().time() >= end
            if problem := self._pools[pool].trouble or (self._waits(pool) if late else ""):
                raise NotBorn(pool=pool, problem=problem)
            await asyncio.sleep(_LOOK_FOR_BIRTH)
        return ""

    def states(self) -> dict[str, PoolState]:
        """How each pool stands, by its name; those that are empty and shall be so are left out."""
        states = {}
        for name, pool in self._pools.items():
            count = Counter(member.state for member in self._members.values() if member.pool == name)
            if pool.size or count:
                size = self._size(name)
                trouble = self._trouble(name) if count["ready"] < size else ""
                states[name] = PoolState(size, count["ready"], count["starting"], count["leaving"], trouble)
        return states

    def _trouble(self, name: str) -> str:
        """What keeps a pool from its size: no room, no birth, or members that end young, and when it is tried again."""
        pool = self._pools[name]
        if waits := self._waits(name):
            return waits
        why = pool.trouble or (f"its members end young: {pool.loss}" if pool.failures > 1 else "")
        pause = pool.not_before - asyncio.get_running_loop().time()
        return f"{why}; {pool.failures} in a row, the next in {pause:.1f} s" if why and pool.failures > 1 and pause > 0 else why

    def _waits(self, pool: str) -> str:
        """What keeps those of a pool that are being made from having a process: of the oldest that anything is known of."""
        making = [name for name, member in self._members.items() if member.pool == pool and member.state == "starting"]
        found = ((name, self._spawner.waits(name)) for name in making)
        return next((f"{name} {words}" for name, words in found if words), "")

    def members(self, pool: str) -> list[str]:
        """Those ready for work, the oldest first."""
        return [name for name, member in self._members.items() if member.pool == pool and member.state == "ready"]

    def incarnations(self) -> list[str]:
        """All that may have work, of all pools, those that are leaving included."""
        return [name for name, member in self._members.items() if member.state != "starting"]

    def everybody(self, pool: str) -> list[str]:
        """All of a pool that may have work."""
        return [name for name in self.incarnations() if self._members[name].pool == pool]

    def needs(self, incarnation: str) -> bool:
        """Whether its rows say something yet: it is there, or nobody of its pool came after it and its number must not be given again."""
        pool, _, number = incarnation.rpartition("-")
        return incarnation in self._members or self._pools[pool].number == int(number)

    def lost(self, incarnation: str, why: str) -> None:
        """Its process has ended; its pool gets another. May be said twice."""
        member = self._members.get(incarnation)
        if member is None:
            return
        _LOG.warning("%s is lost: %s", incarnation, why)
        self._forget(incarnation)
        if member.state != "leaving":
            self._pools[member.pool].loss = clean(why, 300)
            now = asyncio.get_running_loop().time()
            self._failed(member.pool, young=member.state == "starting" or now - member.since < self._pace.young)

    async def run(self) -> None:
        """Keep every pool at its size until cancelled. What an earlier supervisor left half done is cleared up first."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for name, member in list(self._members.items()):
                    member.since = now
                    if member.state == "ready":
                        self._joined(member.pool, name)  # the one before may have died before it could say so
                    else:
                        group.create_task(self._retire(name, drain=member.state == "leaving"))
                        # Also one half made leaves: nobody knows how far it came.
                        member.state = "leaving"
                for name in self._pools:
                    group.create_task(self._keep(name), name=f"pool {name}")
                await asyncio.Event().wait()
        finally:
            self._group = None

    async def _keep(self, name: str) -> None:
        pool, loop = self._pools[name], asyncio.get_running_loop()
        assert self._group is not None
        while True:
            pool.changed.clear()
            staying = [incarnation for incarnation, member in self._members.items() if member.pool == name and member.state != "leaving"]
            pause, size = pool.not_before - loop.time(), self._size(name)
            if len(staying) < size and pause > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await pool.changed.wait()
                continue
            for _ in range(size - len(staying)):
                self._group.create_task(self._spawn(name, self._name(name)))
            for incarnation in staying[size:]:
                # One that is still starting is let be born first: then this is looked at again.
                if self._members[incarnation].state == "ready":
                    self._mark(incarnation, "leaving")
                    self._group.create_task(self._retire(incarnation, drain=True))
            await pool.changed.wait()

    def _size(self, pool: str) -> int:
        return 0 if pool in self._held else self._pools[pool].size

    def _name(self, pool: str) -> str:
        self._pools[pool].number += 1
        incarnation = f"{pool}-{self._pools[pool].number}"
        self._members[incarnation] = _Member(pool)
        # Before it is born: whatever happens now, nobody else is ever called so.
        self._journal.append(Change("spawn", incarnation, {"pool": pool, "incarnation": incarnation, "number": self._pools[pool].number}))
        return incarnation

    async def _spawn(self, pool: str, incarnation: str) -> None:
        try:
            async with asyncio.timeout(self._pace.birth):
                await self._spawner.spawn(pool, self._pools[pool].kind, incarnation)
        except Exception as error:  # noqa: BLE001 - logged, and another is tried
            _LOG.warning("%s did not come to life", incarnation, exc_info=True)
            self._pools[pool].trouble = self._spawner.waits(incarnation) or words_of(error, 1000) or type(error).__name__
            if incarnation in self._members:
                self._mark(incarnation, "leaving")
                self._failed(pool, young=True)
            await self._retire(incarnation, drain=False)
            return
        member = self._members.get(incarnation)
        if member is None:
            # Lost before it was ready.
            await self._stop(incarnation)
            return
        member.since = asyncio.get_running_loop().time()
        self._mark(incarnation, "ready")
        self._pools[pool].trouble = ""
        self._joined(pool, incarnation)
        self._pools[pool].changed.set()

    async def _retire(self, incarnation: str, drain: bool) -> None:
        if drain:
            try:
                async with asyncio.timeout(self._pace.drain):
                    await self._insist(lambda: self._leave(incarnation), f"{incarnation} cannot leave")
            except TimeoutError:
                _LOG.warning("%s still has work after %g s and is stopped all the same", incarnation, self._pace.drain)
        await self._stop(incarnation)
        if incarnation in self._members:
            self._forget(incarnation)

    async def _stop(self, incarnation: str) -> None:
        await self._insist(lambda: self._spawner.stop(incarnation), f"{incarnation} cannot be stopped")

    async def _insist(self, attempt: Callable[[], Awaitable[None]], problem: str) -> None:
        pause = self._pace.first
        while True:
            try:
                return await attempt()
            except Exception:  # noqa: BLE001 - logged, and tried again
                _LOG.warning("%s; trying again in %g s", problem, pause, exc_info=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._pace.last)

    def _mark(self, incarnation: str, state: str) -> None:
        self._journal.append(Change(state, incarnation, {"incarnation": incarnation}))
        self._members[incarnation].state = state

    def _forget(self, incarnation: str) -> None:
        self._journal.append(Change("gone", incarnation, {"incarnation": incarnation}))
        self.gone.append(incarnation)
        member = self._members.pop(incarnation)
        self._pools[member.pool].changed.set()

    def _failed(self, name: str, young: bool) -> None:
        """Slow down what dies young again and again; the first replacement comes at once."""
        pool = self._pools[name]
        pool.failures = pool.failures + 1 if young else 0
        if pool.failures > 1:
            pause = min(self._pace.first * 2 ** min(pool.failures - 2, 30), self._pace.last)
            pool.not_before = asyncio.get_running_loop().time() + pause
        pool.changed.set()
