"""The journal forgets what is over, and no later supervisor misses it."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from kill_stage import Host, Stage

from interlock.actors.supervisor.autoscale import Demand
from interlock.actors.supervisor.compaction import EVERY_SECONDS
from interlock.actors.supervisor.core import Supervisor, World
from interlock.actors.supervisor.journal import Change, Journal, MemoryJournal
from interlock.actors.supervisor.journals import open_journal, prepare
from interlock.actors.supervisor.postgres_journal import read_all
from interlock.schemas.errors import Closed, Fenced, StaleIncarnation
from interlock.schemas.places import Database
from interlock.schemas.ports import Reservation
from interlock.schemas.stops import RESUME, STOP, Selection
from interlock.testing.virtual_time import run


class Place(Stage):
    """A stage on which peers are born and end as they are told to, before a journal in memory, on disk or in a database."""

    def __init__(self, where: Path | Database | None, folder: Path) -> None:
        super().__init__()
        self.where, self.folder = where, folder

    def journal(self) -> Journal:
        if self.where is None:
            return MemoryJournal(self.clock, self.store)
        prepare(self.where, self.clock)
        return open_journal(self.where, self.clock, self.folder)

    def kinds(self) -> Counter[str]:
        """How many rows of each kind there are, but for those that say that a supervisor has started."""
        if self.where is None:
            kinds = Counter(row.kind for row in self.store)
        elif isinstance(self.where, Database):
            kinds = Counter(str(row[2]) for row in read_all(self.where))
        else:
            with closing(sqlite3.connect(self.where)) as db:
                kinds = Counter(kind for (kind,) in db.execute("SELECT kind FROM journal"))
        del kinds["started"]
        return kinds

    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        self.hosts[incarnation] = Host(holds=set())

    def waits(self, incarnation: str) -> str:
        return ""

    async def stop(self, incarnation: str) -> None:
        self.hosts.pop(incarnation, None)

    def world(self) -> World:
        async def leave(incarnation: str) -> None:
            return

        async def loads() -> dict[str, Demand]:
            raise AssertionError

        return World(self, self, self, self, leave, lambda pool, incarnation: None, loads)


class Life:
    def __init__(self, place: Place) -> None:
        self.place, self.journal = place, place.journal()

    async def __aenter__(self) -> Supervisor:
        supervisor = Supervisor(self.journal, self.place.clock, self.place.world())
        self.running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(0)
        return supervisor

    async def __aexit__(self, *failure: object) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])
        self.journal.close()


@pytest.fixture(params=["memory", "disk", "database"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    match request.param:
        case "memory":
            return Place(None, tmp_path)
        case "disk":
            return Place(tmp_path / "supervisor.db", tmp_path)
        case _:
            return Place(request.getfixturevalue("postgres_server").database(), tmp_path)


async def spend(supervisor: Supervisor, task: str, at: int, *, close: bool) -> None:
    await supervisor.budgets.open(task, {"tokens": 100}, at)
    await supervisor.budgets.reserve([Reservation(f"{task}-{n}", task, {"tokens": 10}, {}) for n in range(3)])
    await supervisor.budgets.settle(f"{task}-0", {"tokens": 4})
    if close:
        await supervisor.budgets.close([task], 1)


def test_what_is_over_is_forgotten_and_what_is_live_stays_as_it_was(place: Place) -> None:
    async def main() -> None:
        async with Life(place) as supervisor:
            await asyncio.gather(*(spend(supervisor, f"tsk_{n}", place.clock.now(), close=True) for n in range(250)))
            await spend(supervisor, "tsk_live", place.clock.now(), close=False)
            before = await supervisor.budgets.used("tsk_live")
            assert place.kinds()["reserve"] == 3 * 251
            await asyncio.sleep(EVERY_SECONDS + 10)
            assert place.kinds() == {"open": 1, "reserve": 3, "settle": 1}
        async with Life(place) as supervisor:
            assert await supervisor.budgets.used("tsk_live") == before
            assert await supervisor.budgets.used("tsk_0") == {}
            await supervisor.budgets.settle("tsk_live-1", {"tokens": 10})
            await supervisor.budgets.close(["tsk_live"], 1)
        async with Life(place):  # what ended under the one before is replayed, and then forgotten
            await asyncio.sleep(EVERY_SECONDS + 10)
            assert place.kinds() == {}

    run(main())


def test_a_task_that_is_open_again_keeps_its_meters(place: Place) -> None:
    async def main() -> None:
        async with Life(place) as supervisor:
            await spend(supervisor, "tsk_a", place.clock.now(), close=True)
            await supervisor.budgets.open("tsk_a", {"tokens": 7}, place.clock.now())
            await asyncio.sleep(EVERY_SECONDS + 10)
        async with Life(place) as supervisor:
            assert (await supervisor.budgets.used("tsk_a"))["tokens"] == (0, 0, 7)

    run(main())


def test_of_a_stop_is_kept_what_it_closed_and_what_it_ended(place: Place) -> None:
    place.hosts["a"], place.present = Host(holds={"tsk_a"}), ["a"]

    async def main() -> None:
        async with Life(place) as supervisor:
            await spend(supervisor, "tsk_a", place.clock.now(), close=False)
            receipt = await supervisor.ladder.stop("stp_1", STOP, Selection("everything"), "ann", "enough")
            await supervisor.budgets.close(["tsk_a"], 1)
            await asyncio.sleep(EVERY_SECONDS + 10)
            assert place.kinds() == {"order": 2, "receipt": 2, "acknowledged": 1}
        async with Life(place) as supervisor:
            assert await supervisor.ladder.stop("stp_1", STOP, Selection("everything"), "ann", "enough") == receipt
            for task, refusal in (("tsk_a", Fenced), ("tsk_b", Closed)):
                with pytest.raises(refusal):
                    await supervisor.budgets.open(task, {"tokens": 1}, place.clock.now())
            await supervisor.ladder.stop("stp_2", RESUME, Selection("everything"), "ann", "mended")
            await supervisor.budgets.open("tsk_b", {"tokens": 1}, place.clock.now())
        async with Life(place) as supervisor:
            await supervisor.budgets.open("tsk_c", {"tokens": 1}, place.clock.now())

    run(main())


def test_a_killed_task_does_not_rise_again(place: Place) -> None:
    place.hosts["a"], place.present = Host("hangs", holds={"tsk_a"}), ["a"]

    async def main() -> None:
        async with Life(place) as supervisor:
            await spend(supervisor, "tsk_a", place.clock.now(), close=False)
            receipt = await supervisor.ladder.kill("tsk_a", "ann", "enough")
            await supervisor.budgets.close(["tsk_a"], 1)
            assert place.kinds()["holding"] == 1
            await asyncio.sleep(EVERY_SECONDS + 10)
            assert place.kinds() == {"order": 1, "receipt": 1, "acknowledged": 1}
        async with Life(place) as supervisor:
            assert await supervisor.ladder.kill("tsk_a", "bob", "again") == receipt
            with pytest.raises(Fenced):
                await supervisor.budgets.open("tsk_a", {"tokens": 1}, place.clock.now())
            await asyncio.sleep(EVERY_SECONDS + 10)
        assert len(place.receipts_kept) == 1

    run(main())


def test_no_name_is_given_twice_though_the_lives_are_forgotten(place: Place) -> None:
    async def main() -> None:
        async with Life(place) as supervisor:
            supervisor.pools.declare("pricing", "replica", 1)
            for n in range(1, 6):
                await asyncio.sleep(20)
                assert supervisor.pools.members("pricing") == [f"pricing-{n}"]
                supervisor.pools.lost(f"pricing-{n}", "for a test")
            supervisor.pools.scale("pricing", 0)
            await asyncio.sleep(EVERY_SECONDS + 60)
            assert place.kinds()["spawn"] == place.kinds()["gone"] == 1
        async with Life(place) as supervisor:
            supervisor.pools.scale("pricing", 1)
            await asyncio.sleep(1)
            assert supervisor.pools.members("pricing") == ["pricing-6"]
            await asyncio.sleep(EVERY_SECONDS + 10)
        async with Life(place) as supervisor:
            assert supervisor.pools.members("pricing") == ["pricing-6"]

    run(main())


def test_who_is_not_the_latest_forgets_nothing(place: Place) -> None:
    async def main() -> None:
        old = place.journal()
        old.append(Change("close", "tsk_a", {}))
        new = place.journal()
        if not isinstance(old, MemoryJournal):
            with pytest.raises(StaleIncarnation):
                old.forget(["close"], ["tsk_a"])
        assert new.find("close", "tsk_a") is not None
        new.forget(["close"], ["tsk_a", ""])
        assert new.find("close", "tsk_a") is None
        assert place.kinds() == {}
        old.close()
        new.close()

    run(main())
