"""The kill ladder on virtual time: it ends, it is verified only with evidence, and it survives the supervisor."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from kill_stage import TASK, Host, Life, Stage, how, kill

from interlock.actors.supervisor.core import Supervisor
from interlock.actors.supervisor.journal import Change, MemoryJournal, Order, Row
from interlock.actors.supervisor.receipt import text
from interlock.actors.supervisor.sqlite_journal import SqliteJournal, write_order
from interlock.schemas.errors import Fenced, StoreFailed, StorePaused, SupervisorGone
from interlock.schemas.ports import Reservation
from interlock.schemas.record import Receipt
from interlock.testing.virtual_time import run


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


def test_who_is_busy_and_has_nothing_of_it_is_let_alone() -> None:
    stage = Stage(a=Host(), b=Host("hangs", holds={"tsk_other"}))
    stage.innocents = ["b"]
    receipt, took = kill(stage)
    assert receipt.verified
    assert how(receipt) == {"a": "cancelled"}
    assert took < 3
    assert stage.ended == []


def test_who_comes_in_the_place_of_who_was_ended_has_time_to_answer() -> None:
    stage = Stage(a=Host("hangs", holds=set()))

    async def come() -> None:
        while not stage.ended:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
        stage.hosts["b"] = Host(holds=set(), delay=0.5)
        stage.present.append("b")

    async def main() -> Receipt:
        async with Life(stage) as supervisor:
            coming = asyncio.create_task(come())
            receipt = await supervisor.ladder.kill(TASK, "ann", "enough")
            await coming
            return receipt

    receipt = run(main())
    assert receipt.verified
    assert stage.ended == ["a"]


def test_who_shows_it_is_ended_whatever_the_engine_says() -> None:
    stage = Stage(a=Host("hangs"))
    stage.innocents = ["a"]
    receipt, _ = kill(stage)
    assert how(receipt) == {"a": "killed"}


def test_an_engine_that_comes_late_saves_who_is_innocent() -> None:
    stage = Stage(b=Host("hangs", holds=set()), c=Host("hangs", holds=set()))
    stage.engine_hangs_until, stage.innocents = 10.0, ["b"]
    receipt, took = kill(stage)
    assert receipt.verified
    assert stage.ended == ["c"]
    assert 20 <= took < 21


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


def test_a_frozen_node_is_named_in_a_receipt_that_comes_at_once_and_is_swept_when_it_wakes() -> None:
    stage = Stage(a=Host(), b=Host("hangs", holds=set()))
    stage.half_seen_until = 15.0

    async def wake(supervisor: Supervisor) -> None:
        assert stage.ended == [], "whoever is not seen to hold it has its patience still"
        await asyncio.sleep(8)
        stage.hosts["b"].holds.add(TASK)

    receipt, took = kill(stage, wake)
    assert not receipt.verified
    assert how(receipt) == {"a": "unverified", "b": "unverified", "processes of the task": "unverified"}
    assert 5 <= took < 6
    assert stage.ended == ["b"]


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
            await supervisor.budgets.close([TASK], 1)
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


class Hiccup(MemoryJournal):
    """Its store fails once to be read."""

    broken = False

    def _firsts(self, kind: str, tasks: Sequence[str]) -> dict[str, Row]:
        if self.broken:
            self.broken = False
            raise StorePaused(path="supervisor.db", problem="disk I/O error")
        return super()._firsts(kind, tasks)


def test_seconds_that_run_out_while_the_journal_cannot_be_read_run_out_with_the_next_incarnation() -> None:
    async def main() -> None:
        stage = Stage()
        journal = Hiccup(stage.clock, stage.store)
        life = Life(stage, journal)
        async with life as supervisor:
            await supervisor.budgets.open(TASK, {"seconds": 10}, stage.clock.now())
            journal.broken = True
            with pytest.raises(StorePaused):
                await life.running
        async with Life(stage):
            await asyncio.sleep(1)
            assert [(task, what) for _, task, what in stage.told] == [(TASK, "budget")]

    run(main())


def test_an_order_from_outside_is_obeyed(tmp_path: Path) -> None:
    stage = Stage(a=Host("hangs"))
    path = tmp_path / "supervisor.db"

    async def main() -> None:
        SqliteJournal(path, stage.clock, create=True).close()
        write_order(path, Order(TASK, "kill", "ann", "nobody lives", stage.clock.now()))
        with closing(SqliteJournal(path, stage.clock)) as journal:
            async with Life(stage, journal) as supervisor:
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
        assert stage.receipts_kept[-1] == receipt
        assert not stage.hosts["a"].lives
        return crashed

    assert run(main()) == (crash < 7)


def test_words_that_no_encoding_takes_do_not_end_the_supervisor() -> None:
    stage = Stage(a=Host())

    async def main() -> Receipt:
        async with Life(stage) as supervisor:
            return await supervisor.ladder.kill(TASK, "ann\udcff", "\udcff" * 3)

    assert run(main()).verified
