"""To stop tasks everywhere, one or thousands together: ask every peer to let go, look for oneself, end who does not.

A peer's word is not enough: that it let go is believed once its board agrees and it has no child process that might be the
tasks'. A peer whose board is clear but that does not answer is let alone where the engine says that nothing of them can wait
in it unread. Where the engine cannot say so the peer gets longer, for it may hold only innocents; in the end it is ended too.
What was seen is noted before anything is ended, so that a supervisor that dies in the middle still tells the whole story.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from interlock.schemas.ports import Clock, Hosts, Orders, PeerGone, Processes

_LOG = logging.getLogger(__name__)

CANCELLED, KILLED, GONE, UNVERIFIED = "cancelled", "killed", "gone", "unverified"
OWN_PROCESSES = "processes of the task"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. `grace`: to let go; `patience`: for a peer that shows nothing of the task and does not answer; `look`: for one
    answer of the wardens, the first of which is waited for `glance` only; `silence`: for a warden that does not answer while others do;
    `poll`: between looks; `bound`: for everything."""

    grace: float = 1.0
    patience: float = 20.0
    glance: float = 0.25
    look: float = 7.0
    silence: float = 5.0
    poll: float = 0.05
    bound: float = 50.0


class _Look(NamedTuple):
    holders: set[str]
    strays: set[str]
    clear: bool


Note = Callable[[str, dict[str, Any]], None]


class Found:
    """What is found and ended for one order: `found` maps each incarnation that is concerned to how it let go (empty: not yet) and when.
    Each is noted before it is ended."""

    def __init__(self, clock: Clock, note: Note) -> None:
        self._clock, self._note = clock, note
        self._ended: set[str] = set()
        self.found: dict[str, dict[str, Any]] = {}

    def resume(self, found: dict[str, dict[str, Any]]) -> None:
        """Go on from what an earlier incarnation of the supervisor has noted."""
        self.found = found
        self._ended = {name for name, entry in found.items() if entry["how"] in (KILLED, GONE)} - {OWN_PROCESSES}
        for entry in found.values():
            if entry["how"] == UNVERIFIED:
                entry["how"] = ""

    def see(self, holders: Iterable[str]) -> None:
        """They are concerned."""
        new = sorted(name for name in holders if name not in self.found)
        if new:
            self._note("holding", {"incarnations": new})
            self.found.update({name: {"incarnation": name, "how": ""} for name in new})

    def settle(self, name: str, how: str) -> None:
        """That is how one of them let go."""
        self.found[name] = {"incarnation": name, "how": how, "at": self._clock.now() / 1_000_000}
        self._note("stopped", self.found[name])

    def give_up(self) -> bool:
        """Time is over: who has not let go is not verified. Whether all have."""
        for name, entry in self.found.items():
            if not entry["how"]:
                self.settle(name, UNVERIFIED)
        return all(entry["how"] != UNVERIFIED for entry in self.found.values())


class Sweep(Found):
    """One order's sweep: `tasks` are those that it stops, `name` is what the log calls it."""

    def __init__(
        self,
        name: str,
        tasks: Sequence[str],
        orders: Orders,
        hosts: Hosts,
        processes: Processes,
        clock: Clock,
        note: Note,
        pace: Pace,
    ) -> None:
        super().__init__(clock, note)
        self._name, self._tasks, self._orders = name, tasks, orders
        self._hosts = hosts
        self._processes = processes
        self._pace = pace
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._asked_after: dict[str, float] = {}
        self._let_go: set[str] = set()
        self._innocent: set[str] = set()
        self._inquiring: asyncio.Task[None] | None = None
        self._dead: set[str] = set()
        self._half_seen = False

    async def run(self, ended: Callable[[str], None]) -> bool:
        """Whether there is evidence that nothing of the task runs any more. `ended` hears of each incarnation that was ended."""
        loop = asyncio.get_running_loop()
        began, clear = loop.time(), False
        try:
            async with asyncio.timeout(self._pace.bound):
                while not (clear := await self._round(loop.time() - began, ended)):
                    if self._half_seen and loop.time() - began >= self._pace.silence:
                        self.see(sorted(self._unheard()))
                        break
                    await self._pause()
        except TimeoutError:
            _LOG.warning("%s is not seen to have stopped after %g s", self._name, self._pace.bound)
        finally:
            for asking in (*self._asked.values(), *([self._inquiring] if self._inquiring is not None else [])):
                asking.cancel()
        return self.give_up() and clear

    def _unheard(self) -> set[str]:
        """Peers that were asked to let go and have not answered."""
        return self._asked.keys() - self._let_go - self._dead - self._ended

    async def glance(self) -> None:
        """See who holds the tasks before anyone is told to let go; a warden that does not answer at once is not waited for."""
        holders: list[str] = []
        try:
            async with asyncio.timeout(self._pace.glance):
                holders = await self._processes.holders(self._tasks)
        except Exception:  # noqa: BLE001 - logged, and looked at again
            _LOG.warning("no first look at who holds %s", self._name, exc_info=True)
        self.see(holders)

    async def _round(self, passed: float, ended: Callable[[str], None]) -> bool:
        """One look at everything, and what follows from it; true once nothing is left."""
        present = set(self._hosts.incarnations())
        self._ask(sorted(present - self._asked.keys() - self._ended), passed)
        waiting = self._unheard() - self._innocent  # before the look: what they had taken by then is on their boards
        forced, overdue = passed >= self._pace.grace, passed >= self._pace.patience
        look = await self._look(thorough=forced or not waiting)
        if look is None:
            return False
        absent = {name for name, entry in self.found.items() if not entry["how"]} - present - {OWN_PROCESSES}
        doomed = (self._dead | absent) - self._ended
        if forced:
            doomed |= look.holders | look.strays
            self._inquire(waiting)
        if overdue:  # but for those that have just come, in the place of who was ended
            doomed |= {name for name in waiting if passed - self._asked_after[name] >= self._pace.grace}
        if doomed:
            await self._end(doomed, ended)
            return False
        if waiting or not look.clear:
            return False
        self._believe()
        return True

    async def _look(self, thorough: bool) -> "_Look | None":
        """What the wardens see; None where none of them answers. `thorough`: end the tasks' own processes and look for strays."""
        tasks, own, strays = self._tasks, GONE, set[str]()
        try:
            async with asyncio.timeout(self._pace.look):
                looking = self._processes.holders(tasks)
                if thorough:  # side by side: each of them waits for a warden that is silent
                    found, own = await asyncio.gather(looking, self._processes.end_tasks(tasks))
                    strays = set(await self._processes.strays(tasks)) - self._ended
                else:
                    found = await looking
        except Exception:  # noqa: BLE001 - logged, and looked at again
            _LOG.warning("the wardens do not say who holds %s", self._name, exc_info=True)
            return None
        holders = set(found) - self._ended
        self._half_seen = own == UNVERIFIED
        self.see(holders)
        if own == UNVERIFIED:
            self.see([OWN_PROCESSES])
        elif own == KILLED or not self.found.get(OWN_PROCESSES, {"how": GONE})["how"]:
            self.settle(OWN_PROCESSES, KILLED)
        return _Look(holders, strays, not holders and not strays and own != UNVERIFIED)

    def _ask(self, incarnations: Iterable[str], passed: float) -> None:
        for name in incarnations:
            self._asked_after[name] = passed
            self._asked[name] = asyncio.create_task(self._cancel(name), name=f"cancel {self._name} in {name}")

    async def _cancel(self, incarnation: str) -> None:
        while incarnation not in self._ended:
            try:
                async with asyncio.timeout(self._pace.grace):
                    if await self._hosts.cancel(incarnation, self._tasks):
                        self._let_go.add(incarnation)
                        return
            except PeerGone:
                self._dead.add(incarnation)
                return
            except Exception:  # noqa: BLE001 - logged, and asked again
                _LOG.warning("%s does not say that it let go of %s", incarnation, self._name, exc_info=True)
            await asyncio.sleep(self._pace.poll)

    def _inquire(self, waiting: set[str]) -> None:
        """Ask the engine, beside everything else and again and again, who of those that do not answer has nothing of the task."""
        if waiting and (self._inquiring is None or self._inquiring.done()):
            self._inquiring = asyncio.create_task(self._clear(sorted(waiting)), name=f"who is innocent of {self._name}")

    async def _clear(self, names: list[str]) -> None:
        try:
            async with asyncio.timeout(self._pace.look):
                self._innocent.update(await self._orders.innocent(self._tasks, names))
        except Exception:  # noqa: BLE001 - logged, and asked again
            _LOG.warning("the engine does not say who has nothing of %s", self._name, exc_info=True)
        await asyncio.sleep(self._pace.grace)

    async def _end(self, doomed: set[str], ended: Callable[[str], None]) -> None:
        self.see(doomed)
        for name, how in (await self._processes.end(sorted(doomed))).items():
            self._ended.add(name)
            self.settle(name, how)
            ended(name)

    def _believe(self) -> None:
        """Who held it, let go when asked, and shows nothing of it any more."""
        for name, entry in self.found.items():
            if not entry["how"]:
                self.settle(name, CANCELLED)

    async def _pause(self) -> None:
        """Until somebody answers, at most until the next look is due."""
        asking = [task for task in self._asked.values() if not task.done()]
        if asking:
            await asyncio.wait(asking, timeout=self._pace.poll, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(self._pace.poll)


class Eviction(Found):
    """To end processes whatever they do: an agent's, that had `grace` seconds to let go of what they were told is over, or one replica."""

    def __init__(self, name: str, members: Sequence[str], processes: Processes, clock: Clock, note: Note, pace: Pace, grace: float) -> None:
        super().__init__(clock, note)
        self._name, self._members, self._processes, self._pace, self._grace = name, members, processes, pace, grace

    async def glance(self) -> None:
        """They are to be ended, each of them."""
        self.see(self._members)

    async def run(self, ended: Callable[[str], None]) -> bool:
        """Whether there is evidence that none of them lives. `ended` hears of each."""
        try:
            async with asyncio.timeout(self._pace.bound):
                await asyncio.sleep(self._grace)
                while doomed := sorted(set(self._members) - self._ended):
                    for name, how in (await self._end(doomed)).items():
                        if how != UNVERIFIED:
                            self._ended.add(name)
                            self.settle(name, how)
                            ended(name)
                    await asyncio.sleep(self._pace.poll)
        except TimeoutError:
            _LOG.warning("%s is not seen to have stopped after %g s", self._name, self._pace.bound)
        return self.give_up()

    async def _end(self, doomed: Sequence[str]) -> dict[str, str]:
        try:
            return await self._processes.end(doomed)
        except Exception:  # noqa: BLE001 - logged, and tried again
            _LOG.warning("the wardens cannot end %s", ", ".join(doomed), exc_info=True)
            return {}
