"""Pools: how many incarnations each should have, and the work of keeping it so.

A pool's size is durable and so is every name that was given: a name is `<pool>-<number>` and never used again. Who is lost is
replaced, more slowly while they die young; who is too many leaves first (gets nothing new, ends what it has) and is stopped then.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from interlock.actors.supervisor.autoscale import Demand, Scaler
from interlock.actors.supervisor.journal import Change, Journal, Row
from interlock.actors.supervisor.members import Member, Pool, PoolPace, PoolState, Spawner
from interlock.schemas.errors import BadDeclaration, NotBorn, UnknownAgent
from interlock.schemas.words import clean, words_of

_LOG = logging.getLogger(__name__)
_LOOK_FOR_BIRTH = 0.02

ROOM_SECONDS = 30.0
"""How long whoever starts a bus waits for a pool that no node has room for, before it is told so."""


class Pools:
    """All pools. Feed every old row to `apply`, then `run`. `leave(incarnation)` returns once the engine sends it nothing and it
    has nothing; `joined(pool, incarnation)` is called for each that has become ready; `loads()` is what each pool has to do, and
    may fail: then the sizes stay."""

    def __init__(
        self,
        journal: Journal,
        spawner: Spawner,
        leave: Callable[[str], Awaitable[None]],
        joined: Callable[[str, str], None],
        loads: Callable[[], Awaitable[dict[str, Demand]]],
        pace: PoolPace | None = None,
    ) -> None:
        self._journal = journal
        self._spawner = spawner
        self._leave = leave
        self._joined = joined
        self._loads = loads
        self._pressed = asyncio.Event()
        self._pace = pace or PoolPace()
        self._pools: dict[str, Pool] = {}
        self._members: dict[str, Member] = {}
        self._held: frozenset[str] = frozenset()
        self.gone: list[str] = []
        self._group: asyncio.TaskGroup | None = None

    def apply(self, row: Row) -> None:
        """Take one row of the journal into the state."""
        match row.kind:
            case "pool":
                # Rows that were written before pools followed their load have one size alone.
                bounds = row.data["size"], row.data.get("most", row.data["size"])
                self._take(row.data["pool"], row.data["kind"], *bounds, row.data.get("pin"))
            case "spawn":
                self._pools[row.data["pool"]].number = row.data["number"]
                self._members[row.data["incarnation"]] = Member(row.data["pool"])
            case "ready" | "leaving":
                self._members[row.data["incarnation"]].state = row.kind
            case "gone":
                del self._members[row.data["incarnation"]]
                self.gone.append(row.data["incarnation"])

    def declare(self, pool: str, kind: str, least: int, most: int | None = None) -> None:
        """There shall be such a pool: of this size, or by its load of `least` to `most`. A size that somebody has pinned stays, within
        the bounds of the pool; one that shall be empty is."""
        most = least if most is None else most
        known = self._pools.get(pool)
        pin = min(known.pin, most) if known is not None and known.pin is not None and most else None
        self._set(pool, kind, least, most, pin)

    def scale(self, pool: str, size: int | None) -> None:
        """Pin a pool to another size, or (`None`) let it follow its load again; durable on return, carried out in the background."""
        known = self._pools.get(pool)
        if known is None:
            raise UnknownAgent(agent=pool, known=", ".join(sorted(self._pools)) or "none")
        self._set(pool, known.kind, known.least, known.most, size)

    def pressed(self) -> None:
        """Something waits somewhere: it is looked at how much."""
        self._pressed.set()

    def _set(self, pool: str, kind: str, least: int, most: int, pin: int | None) -> None:
        if min(least, most, 0 if pin is None else pin) < 0:
            what = f"pool {pool} of {least if pin is None else pin}"
            raise BadDeclaration(what=what, problem="a size is zero or more", remedy="Use 0 for an empty pool.")
        known = self._pools.get(pool)
        if known is not None and (known.kind, known.least, known.most, known.pin) == (kind, least, most, pin):
            return
        self._journal.append(Change("pool", "", {"pool": pool, "kind": kind, "size": least, "most": most, "pin": pin}))
        self._take(pool, kind, least, most, pin)
        self._pools[pool].changed.set()
        if self._pools[pool].size > least:
            self._pressed.set()
        if known is None and self._group is not None:
            self._group.create_task(self._keep(pool), name=f"pool {pool}")

    def _take(self, name: str, kind: str, least: int, most: int, pin: int | None) -> None:
        pool = self._pools.setdefault(name, Pool(kind, 0, Scaler(self._pace.scale)))
        pool.kind, pool.least, pool.most, pool.pin, pool.trouble = kind, least, most, pin, ""
        pool.size = min(max(pool.size, least), most) if pin is None else pin

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
                counts = count["ready"], count["starting"], count["leaving"]
                states[name] = PoolState(size, *counts, trouble, pool.least, pool.most, pool.pin is not None)
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

    def spent(self, incarnation: str, why: str = "") -> None:
        """It has done the one thing that it was for, or what it does fails (`why`): it ends as one that leaves does, and its pool gets
        another at once. May be said twice."""
        member = self._members.get(incarnation)
        if member is None or member.state != "ready":
            return
        if why:
            _LOG.warning("%s is replaced: %s", incarnation, why)
        self._mark(incarnation, "leaving")
        pool = self._pools[member.pool]
        pool.failures = 0
        pool.changed.set()
        if self._group is not None:  # else it is cleared up when they run
            self._group.create_task(self._retire(incarnation, drain=True))

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
                        self._pools[member.pool].found += 1
                    else:
                        group.create_task(self._retire(name, drain=member.state == "leaving"))
                        # Also one half made leaves: nobody knows how far it came.
                        member.state = "leaving"
                for name, pool in self._pools.items():
                    # What the load had made of it is not written down: it shows in who is there.
                    pool.size = min(max(pool.found, pool.least), pool.most) if pool.pin is None else pool.pin
                    if pool.size > pool.least:
                        self._pressed.set()
                    group.create_task(self._keep(name), name=f"pool {name}")
                group.create_task(self._follow(), name="loads")
                await asyncio.Event().wait()
        finally:
            self._group = None

    async def _follow(self) -> None:
        """Have the pools follow their loads. While nothing waits anywhere, and none is larger than it must be, nobody is asked."""
        pace = self._pace.scale
        while True:
            await self._pressed.wait()
            await asyncio.sleep(pace.look)
            self._pressed.clear()
            try:
                async with asyncio.timeout(pace.patience + pace.look):
                    loads = await self._loads()
            except Exception:  # noqa: BLE001 - whoever cannot say what there is to do changes no size
                _LOG.info("what the pools have to do is not known now", exc_info=True)
                loads = {}
            now = asyncio.get_running_loop().time()
            for name, pool in self._pools.items():
                if pool.pin is None and pool.least < pool.most:
                    self._resize(name, pool.scaler.look(now, pool.size, pool.least, pool.most, loads.get(name)))
                    if pool.size > pool.least:
                        self._pressed.set()

    def _resize(self, name: str, size: int) -> None:
        pool = self._pools[name]
        if size != pool.size:
            _LOG.info("pool %s is to have %d members in place of %d", name, size, pool.size)
            pool.size = size
            pool.changed.set()

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
        self._members[incarnation] = Member(pool)
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
            pool = self._pools[incarnation.rpartition("-")[0]]
            seconds = self._pace.calm if pool.pin is None and pool.least < pool.most else self._pace.drain
            try:
                async with asyncio.timeout(seconds):
                    await self._insist(lambda: self._leave(incarnation), f"{incarnation} cannot leave")
            except TimeoutError:
                _LOG.warning("%s still has work after %g s and is stopped all the same", incarnation, seconds)
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
