"""Stops as the supervisor carries them out, with everybody else on a stage: many tasks, other clocks, and while nobody lived."""

import asyncio
from typing import Any

import pytest

from interlock.actors.supervisor.core import Supervisor
from interlock.actors.supervisor.journal import Order
from interlock.actors.supervisor.receipt import text
from interlock.actors.supervisor.sqlite_journal import SqliteJournal, write_order
from interlock.schemas.errors import Closed, Fenced
from interlock.schemas.ports import Left, Reservation
from interlock.schemas.stops import RESUME, STOP, Closures, Selection
from interlock.testing.virtual_time import run
from tests.unit.kill_stage import Host, Life, Stage

EVERYTHING = Selection("everything")


def test_a_thousand_tasks_are_asked_about_together() -> None:
    stage = Stage(**{f"h{n}": Host(holds=set(), delay=0.01) for n in range(8)})
    asked: list[int] = []
    before = stage.cancel

    async def cancel(incarnation: str, tasks: Any) -> bool:
        asked.append(len(tasks))
        return await before(incarnation, tasks)

    stage.cancel = cancel  # type: ignore[method-assign]

    async def main() -> None:
        async with Life(stage) as supervisor:
            for n in range(1000):
                await supervisor.budgets.open(f"tsk_{n}", {"tokens": 100}, stage.clock.now(), 0, "flow")
                stage.hosts[f"h{n % 8}"].holds.add(f"tsk_{n}")
            receipt = await supervisor.ladder.stop("stp_1", STOP, EVERYTHING, "ann", "enough")
            assert (receipt.tasks, receipt.verified, len(receipt.processes)) == (1000, True, 8)
            assert asked == [1000] * 8
            assert "everything (stp_1) stopped" in text(receipt)
            assert await supervisor.ladder.stop("stp_1", STOP, EVERYTHING, "ann", "enough") == receipt

    run(main())


@pytest.mark.parametrize(("pause", "heard"), [(0.4, 1000), (3.0, 0)], ids=["slow", "too slow for a receipt at once"])
def test_a_stop_of_very_many_tasks_is_confirmed_in_parts_and_its_receipt_waits_for_them(pause: float, heard: int) -> None:
    stage, sizes = Stage(), []

    async def order(orders: Any) -> Left:
        await asyncio.sleep(pause)
        sizes.append(len(orders))
        stage.told.extend((one.id, one.task, one.what) for one in orders)
        return Left([{"task": one.task, "effect": one.task, "tool": "pay", "label": "trusted"} for one in orders], [])

    async def receipts(some: Any) -> None:
        stage.receipts_kept.extend(some)
        sizes.append(len(some))

    stage.order, stage.receipts = order, receipts  # type: ignore[method-assign]

    async def main() -> None:
        async with Life(stage) as supervisor:
            for n in range(1000):
                await supervisor.budgets.open(f"tsk_{n}", {"tokens": 100}, stage.clock.now(), 0, "flow")
            receipt = await supervisor.ladder.stop("stp_1", STOP, EVERYTHING, "ann", "enough")
            assert (receipt.tasks, receipt.heard, len(receipt.half_done)) == (1000, heard == 1000, heard)
            await asyncio.sleep(120)
            assert (len(stage.told), len({task for _, task, _ in stage.told}), len(stage.receipts_kept)) == (1000, 1000, 1001)
            assert max(sizes) <= 100

    run(main())


def test_a_stop_that_was_written_while_nobody_lived_is_carried_out(tmp_path: Any) -> None:
    stage, path = Stage(a=Host(holds={"tsk_a"})), tmp_path / "supervisor.db"

    async def main() -> None:
        journal = SqliteJournal(path, stage.clock, create=True)
        async with Life(stage, journal) as supervisor:
            await supervisor.budgets.open("tsk_a", {"tokens": 100}, stage.clock.now())
        journal.close()
        write_order(path, Order.of_selection("stp_1", STOP, EVERYTHING, "ann", "nobody lives", stage.clock.now()))
        for _ in range(2):
            journal = SqliteJournal(path, stage.clock)
            async with Life(stage, journal) as supervisor:
                await asyncio.sleep(5)
                with pytest.raises(Closed):
                    await supervisor.budgets.open("tsk_b", {"tokens": 100}, stage.clock.now())
                assert (await supervisor.ladder.receipt("tsk_a")).part_of == "stp_1"
            journal.close()
        assert [one.id for one in stage.stops] == [stage.stops[0].id]
        assert stage.hosts["a"].holds == set()

    run(main())


KILL, STOP_ALL = Order.made("tsk_a", "kill", "ann", "enough", 1), Order.of_selection("s", STOP, EVERYTHING, "ann", "enough", 1)


@pytest.mark.parametrize("order", [KILL, STOP_ALL], ids=["kill", "stop"])
def test_nothing_is_granted_between_the_begin_of_a_supervisor_and_its_run(tmp_path: Any, order: Order) -> None:
    stage, path = Stage(), tmp_path / "supervisor.db"

    async def main() -> None:
        journal = SqliteJournal(path, stage.clock, create=True)
        async with Life(stage, journal) as supervisor:
            await supervisor.budgets.open("tsk_a", {"steps": 100}, stage.clock.now())
        journal.close()
        write_order(path, order)
        journal = SqliteJournal(path, stage.clock)
        for _ in range(2):  # also one that dies right after
            supervisor = Supervisor(journal, stage.clock, stage.world())
            (grant,) = await supervisor.budgets.reserve([Reservation("eff_1", "tsk_a", {"steps": 1}, {}, 0, 0)])
            assert isinstance(grant.error, Fenced)
        journal.close()

    run(main())


@pytest.mark.parametrize("taken", ["by the one that lives", "by the next one"])
def test_a_stop_by_a_clock_that_is_behind_closes_what_it_names_and_a_resume_by_one_opens_nothing(tmp_path: Any, taken: str) -> None:
    stage, path = Stage(), tmp_path / "supervisor.db"
    late, early = (
        Order.of_selection(id, what, EVERYTHING, "ann", "by another clock", 1) for id, what in (("late", STOP), ("early", RESUME))
    )

    async def main() -> None:
        journal = SqliteJournal(path, stage.clock, create=True)
        async with Life(stage, journal) as supervisor:
            await supervisor.ladder.stop("stp_1", STOP, EVERYTHING, "ann", "enough")
            await supervisor.ladder.stop("stp_2", RESUME, EVERYTHING, "ann", "again")
            if taken == "by the one that lives":
                write_order(path, late)
                await asyncio.sleep(5)
        journal.close()
        for order in (late, early):
            if order is early or taken == "by the next one":
                write_order(path, order)
            journal = SqliteJournal(path, stage.clock)
            async with Life(stage, journal) as supervisor:
                await asyncio.sleep(5)
                assert [one.why for one in supervisor.budgets.closures] == ["by another clock"]
                assert (await supervisor.ladder.receipt(order.task)).verified
            journal.close()
        told = {one.id: one for one in stage.stops}
        closures = Closures()
        for one in told.values():
            closures.take(one)
        assert [one.why for one in closures] == ["by another clock"], "the engine has it so too"

    run(main())
