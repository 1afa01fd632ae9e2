"""The kill ladder on virtual time: it ends, it is verified only with evidence, and it survives the supervisor."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interlock.actors.supervisor.core import Supervisor, World
from interlock.actors.supervisor.journal import Change, Journal, MemoryJournal, Order, Row, SqliteJournal, write_order
from interlock.actors.supervisor.receipt import text
from interlock.schemas.errors import Fenced, StoreFailed, SupervisorGone
from interlock.schemas.ports import PeerGone, Reservation
from interlock.schemas.record import Receipt
from interlock.testing.virtual_time import VirtualClock, run

TASK = "tsk_a"


@dataclass
class Host:
    """A peer and its process. `manner`: what it does when it is asked to let go."""

    manner: str = "lets go"
    holds: set[str] = field(default_factory=lambda: {TASK})
    strays: bool = False
    delay: float = 0.01
    lives: bool = True
    how: str = "killed"


class Stage:
    """Everybody whom the supervisor talks to, with their faults; it outlives every supervisor."""

    def __init__(self, **hosts: Host) -> None:
        self.hosts = hosts
        self.present = list(hosts)
        self.lost_names: list[str] = []
        self.ended: list[str] = []
        self.told: list[tuple[str, str, str]] = []
        self.receipts: list[Receipt] = []
        self.engine_hangs_until = 0.0
        self.wardens_answer_from = 0.0
        self.own: str = "gone"
        self.store: list[Row] = []
        self.clock = VirtualClock()

    # Hosts
    def incarnations(self) -> list[str]:
        return list(self.present)

    async def cancel(self, incarnation: str, task: str) -> bool:
        host = self.hosts[incarnation]
        await asyncio.sleep(host.delay)
        if not host.lives:
            raise PeerGone
        match host.manner:
            case "lets go":
                host.holds.discard(task)
                return True
            case "lies":
                return True
            case "refuses":
                return False
            case "fails":
                raise RuntimeError("the network is down")
        await asyncio.Event().wait()
        raise AssertionError

    async def lost(self, incarnation: str, why: str) -> None:
        self.lost_names.append(incarnation)
        if incarnation in self.present:
            self.present.remove(incarnation)

    # Processes
    async def _warden(self) -> None:
        if asyncio.get_running_loop().time() < self.wardens_answer_from:
            await asyncio.Event().wait()

    async def holders(self, task: str) -> list[str]:
        await self._warden()
        return [name for name, host in self.hosts.items() if host.lives and task in host.holds]

    async def strays(self, task: str) -> list[str]:
        await self._warden()
        return [name for name, host in self.hosts.items() if host.lives and host.strays]

    async def end(self, incarnations: Iterable[str]) -> dict[str, str]:
        await self._warden()
        ended = {}
        for name in incarnations:
            host = self.hosts[name]
            ended[name] = host.how if host.lives else "gone"
            host.lives = host.lives and host.how == "unverified"
            self.ended.append(name)
        return ended

    async def end_task(self, task: str) -> str:
        await self._warden()
        own, self.own = self.own, "gone"
        return own

    # Orders
    async def order(self, order: str, task: str, what: str, by: str, why: str) -> bool:
        if asyncio.get_running_loop().time() < self.engine_hangs_until:
            await asyncio.Event().wait()
        self.told.append((order, task, what))
        return True

    async def receipt(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    # Spawner, unused here
    async def spawn(self, pool: str, kind: str, incarnation: str) -> None:
        raise AssertionError

    async def stop(self, incarnation: str) -> None:
        raise AssertionError

    def world(self) -> World:
        async def leave(incarnation: str) -> None:
            raise AssertionError

        return World(self, self, self, self, leave, lambda pool, incarnation: None)


class Life:
    """One incarnation of the supervisor, as a context."""

    def __init__(self, stage: Stage, journal: Journal | None = None) -> None:
        self.stage = stage
        self.journal = journal or MemoryJournal(stage.clock, stage.store)

    async def __aenter__(self) -> Supervisor:
        self.supervisor = Supervisor(self.journal, self.stage.clock, self.stage.world())
        self.running = asyncio.create_task(self.supervisor.run())
        await asyncio.sleep(0)
        return self.supervisor

    async def __aexit__(self, *failure: object) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])


def how(receipt: Receipt) -> dict[str, str]:
    return {entry["incarnation"]: entry["how"] for entry in receipt.processes}


def kill(stage: Stage, after: Callable[[Supervisor], Awaitable[None]] | None = None) -> tuple[Receipt, float]:
    """Kill the task and let everything settle; the receipt and the seconds until it came."""

    async def main() -> tuple[Receipt, float]:
        async with Life(stage) as supervisor:
            await supervisor.budgets.open(TASK, {"tokens": 100}, stage.clock.now())
            began = asyncio.get_running_loop().time()
            receipt = await supervisor.ladder.kill(TASK, "ann", "enough")
            took = asyncio.get_running_loop().time() - began
            if after is not None:
                await after(supervisor)
            await asyncio.sleep(120)
            assert stage.receipts == [receipt]
            assert [row.kind for row in stage.store].count("receipt") == 1
            assert stage.store[-1].kind == "acknowledged"
            assert {task for _, task, _ in stage.told} == {TASK}
            return receipt, took

    return run(main())


def test_who_lets_go_is_left_alone() -> None:
    stage = Stage(a=Host(), b=Host(holds={"tsk_other"}))
    receipt, took = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "cancelled"}
    assert took < 0.5
    assert stage.ended == []
    assert receipt.durable is not None
    assert receipt.fenced is not None
    assert receipt.last_gone is not None
    assert receipt.requested <= receipt.durable <= receipt.fenced <= receipt.last_gone


@pytest.mark.parametrize("manner", ["hangs", "lies", "refuses", "fails"])
def test_who_does_not_let_go_is_ended_after_the_grace(manner: str) -> None:
    stage = Stage(a=Host(manner), b=Host(holds={"tsk_other"}))
    receipt, took = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "killed"}
    assert 1.0 <= took < 2.0
    assert stage.ended == ["a"]
    assert stage.lost_names == ["a"]


def test_a_child_that_nobody_owns_ends_its_parent() -> None:
    stage = Stage(a=Host(strays=True))
    receipt, took = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "killed"}
    assert took < 2.0


def test_the_task_s_own_processes_end_alone() -> None:
    stage = Stage(a=Host())
    stage.own = "killed"
    receipt, _ = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "cancelled", "processes of the task": "killed"}
    assert stage.ended == []


def test_a_hung_orchestrator_holds_up_nothing_and_is_told_in_the_end() -> None:
    stage = Stage(a=Host("hangs"))
    stage.engine_hangs_until = 30.0
    receipt, took = kill(stage)
    assert receipt.verified
    assert took < 2.0
    assert len(stage.told) == 1


def test_what_a_hung_orchestrator_started_late_is_stopped_too() -> None:
    stage = Stage(a=Host(holds=set()), b=Host("hangs", holds=set()))
    stage.engine_hangs_until = 30.0
    stage.hosts["b"].manner = "lies"

    async def wake(supervisor: Supervisor) -> None:
        await asyncio.sleep(20)
        stage.hosts["a"].holds.add(TASK)
        stage.hosts["b"].holds.add(TASK)

    receipt, _ = kill(stage, wake)
    assert receipt.processes == []
    assert stage.hosts["a"].holds == set()
    assert stage.ended == ["b"]


def test_a_silent_peer_with_a_clear_board_gets_longer() -> None:
    stage = Stage(a=Host(), b=Host("hangs", holds={"tsk_other"}))
    receipt, took = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "cancelled", "b": "killed"}
    assert 20 <= took < 22


def test_a_silent_peer_that_begins_with_the_task_is_ended_at_once() -> None:
    stage = Stage(b=Host("hangs", holds=set()))

    async def main() -> tuple[Receipt, float]:
        async with Life(stage) as supervisor:
            killing = asyncio.create_task(supervisor.ladder.kill(TASK, "ann", "enough"))
            await asyncio.sleep(5)
            stage.hosts["b"].holds.add(TASK)
            return await killing, asyncio.get_running_loop().time()

    receipt, took = run(main())
    assert how(receipt) == {"b": "killed"}
    assert took < 6


def test_a_dead_peer_is_seen_to_be_gone() -> None:
    stage = Stage(a=Host(lives=False))
    receipt, took = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "gone"}
    assert took < 0.5


def test_a_holder_that_leaves_the_list_is_looked_after() -> None:
    stage = Stage(a=Host("hangs"))

    async def main() -> Receipt:
        async with Life(stage) as supervisor:
            killing = asyncio.create_task(supervisor.ladder.kill(TASK, "ann", "enough"))
            await asyncio.sleep(0.1)
            stage.hosts["a"].lives = False
            stage.present.clear()
            return await killing

    receipt = run(main())
    assert receipt.verified
    assert how(receipt) == {"a": "gone"}


def test_what_cannot_be_ended_is_never_called_verified() -> None:
    receipt, took = kill(Stage(a=Host("hangs", how="unverified"), b=Host()))
    assert not receipt.verified
    assert how(receipt) == {"a": "unverified", "b": "cancelled"}
    assert took < 60
    assert "NOT VERIFIED" in text(receipt)


def test_without_wardens_there_is_no_evidence() -> None:
    stage = Stage(a=Host())
    stage.wardens_answer_from = 1e9
    receipt, took = kill(stage)
    assert not receipt.verified
    assert took < 60


def test_a_warden_that_comes_back_is_believed() -> None:
    stage = Stage(a=Host("hangs"))
    stage.wardens_answer_from = 12.0
    receipt, took = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "killed"}
    assert took < 20


def test_killed_twice_is_killed_once() -> None:
    stage = Stage(a=Host("hangs"))

    async def main() -> None:
        async with Life(stage) as supervisor:
            both = await asyncio.gather(supervisor.ladder.kill(TASK, "ann", "enough"), supervisor.ladder.kill(TASK, "bob", "too"))
            assert both[0] == both[1]
            assert both[0].by == "ann"
            await asyncio.sleep(10)
            assert await supervisor.ladder.kill(TASK, "cyd", "three") == both[0]
        async with Life(stage) as supervisor:
            assert await supervisor.ladder.kill(TASK, "dan", "four") == both[0]
            await asyncio.sleep(10)
        assert stage.ended == ["a"]
        assert len(stage.told) == 1
        assert [row.kind for row in stage.store].count("order") == 1

    run(main())


def test_nothing_is_granted_once_the_order_stands_and_what_was_under_way_is_unknown() -> None:
    stage = Stage(a=Host())

    async def main() -> Receipt:
        async with Life(stage) as supervisor:
            await supervisor.budgets.open(TASK, {"tokens": 100}, stage.clock.now())
            await supervisor.budgets.reserve([Reservation(f"eff_{n}#1", TASK, {"tokens": 10}, {}) for n in range(3)])
            await supervisor.budgets.settle("eff_0#1", {"tokens": 3})
            killing = asyncio.create_task(supervisor.ladder.kill(TASK, "ann", "enough"))
            await asyncio.sleep(0)
            (grant,) = await supervisor.budgets.reserve([Reservation("eff_9", TASK, {"tokens": 1}, {})])
            assert isinstance(grant.error, Fenced)
            await supervisor.budgets.close(TASK)
            await supervisor.budgets.settle("eff_1#1", {"tokens": 3})
            receipt = await killing
            assert await supervisor.budgets.used(TASK) == {}
            return receipt

    receipt = run(main())
    assert receipt.unknown_effects == ["eff_2"]


def test_seconds_that_run_out_are_an_order() -> None:
    stage = Stage(a=Host("hangs"))

    async def main() -> Receipt:
        async with Life(stage) as supervisor:
            await supervisor.budgets.open(TASK, {"seconds": 30}, stage.clock.now())
            await asyncio.sleep(40)
            return await supervisor.ladder.receipt(TASK)

    receipt = run(main())
    assert receipt.verified
    assert receipt.by == "supervisor"
    assert [what for _, _, what in stage.told] == ["budget"]


def test_an_order_from_outside_is_obeyed(tmp_path: Path) -> None:
    stage = Stage(a=Host("hangs"))
    path = tmp_path / "supervisor.db"

    async def main() -> None:
        SqliteJournal(path, stage.clock, create=True).close()
        write_order(path, Order(TASK, "kill", "ann", "nobody lives", stage.clock.now()))
        async with Life(stage, SqliteJournal(path, stage.clock)) as supervisor:
            assert how(await supervisor.ladder.receipt(TASK)) == {"a": "killed"}
            write_order(path, Order("tsk_b", "kill", "ann", "somebody lives", stage.clock.now()))
            await asyncio.sleep(0.3)
            assert (await supervisor.ladder.receipt("tsk_b")).verified

    run(main())


def test_who_waits_for_a_receipt_learns_that_the_supervisor_is_gone() -> None:
    stage = Stage(a=Host("hangs"))

    async def main() -> None:
        life = Life(stage)
        async with life as supervisor:
            killing = asyncio.create_task(supervisor.ladder.kill(TASK, "ann", "enough"))
            await asyncio.sleep(0.1)
            life.running.cancel()
            with pytest.raises(SupervisorGone):
                await killing
            with pytest.raises(LookupError):
                await supervisor.ladder.receipt("tsk_never_killed")

    run(main())


class Crashing(MemoryJournal):
    """Dies right after (or right before) its n-th write is durable."""

    left = 10**9
    before = False

    def _write(self, changes: list[Change]) -> None:
        self.left -= 1
        if self.left < 0 and self.before:
            raise StoreFailed(path="supervisor.db", problem="crash")
        super()._write(changes)
        if self.left < 0:
            raise StoreFailed(path="supervisor.db", problem="crash")


@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("crash", range(8))
def test_a_supervisor_may_die_after_any_row(crash: int, before: bool) -> None:
    """Whatever it had written, the next one carries the order out: one order, one receipt, told and acknowledged."""
    stage = Stage(a=Host("hangs"), b=Host(), c=Host(holds=set()))
    stage.own = "killed"

    async def main() -> bool:
        journal = Crashing(stage.clock, stage.store)
        life = Life(stage, journal)
        async with life as supervisor:
            await supervisor.budgets.open(TASK, {"tokens": 100}, stage.clock.now())
            journal.left, journal.before = crash, before
            outcome = await asyncio.gather(supervisor.ladder.kill(TASK, "ann", "enough"), return_exceptions=True)
            assert isinstance(outcome[0], Receipt | StoreFailed | SupervisorGone)
            await asyncio.sleep(10)
            crashed = life.running.done()
        async with Life(stage) as supervisor:
            receipt = await supervisor.ladder.kill(TASK, "ann", "enough")
            await asyncio.sleep(10)
            again = await supervisor.ladder.kill(TASK, "ann", "enough")
        assert receipt == again
        assert outcome[0] == receipt or not isinstance(outcome[0], Receipt)
        assert receipt.verified
        assert how(receipt).items() >= {"b": "cancelled"}.items()
        assert how(receipt)["a"] in ("killed", "gone")
        kinds = [row.kind for row in stage.store]
        assert [kinds.count(kind) for kind in ("order", "receipt", "acknowledged")] == [1, 1, 1]
        assert {order for order, _, _ in stage.told} == {receipt.order}
        assert stage.receipts[-1] == receipt
        assert not stage.hosts["a"].lives
        return crashed

    assert run(main()) == (crash < 7)
