"""The supervisor's budgets: durable before they are granted, the same after a restart, and the wall clock."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from interlock.actors.supervisor.budgets import SupervisorBudgets
from interlock.actors.supervisor.journal import Change, MemoryJournal, Order, Row
from interlock.schemas.budget import Amount
from interlock.schemas.errors import BudgetExceeded, Fenced, Refused, StoreFailed
from interlock.schemas.ports import Reservation
from interlock.testing.virtual_time import VirtualClock, run

LIMITS: dict[str, Amount] = {"tokens": 100, "seconds": Decimal(60)}


class Bench:
    """Budgets over a store that outlives them; `rung` is who ran out of time, and when."""

    def __init__(self, store: list[Row] | None = None) -> None:
        self.clock = VirtualClock()
        self.journal = MemoryJournal(self.clock, store)
        self.rung: list[tuple[str, float]] = []
        self.budgets = SupervisorBudgets(self.journal, self.clock, self.ring)
        for row in self.journal.rows():
            self.budgets.apply(row)
        self.budgets.start()

    def ring(self, task: str, why: str) -> None:
        assert "60" in why
        self.rung.append((task, asyncio.get_running_loop().time()))
        self.journal.append(Order(task, "budget", "supervisor", why, self.clock.now()).change())

    def restarted(self) -> "Bench":
        self.budgets.stop()
        return Bench(self.journal.store)


def reservation(id: str, tokens: int, task: str = "tsk_a") -> Reservation:
    return Reservation(id, task, {"tokens": tokens}, {})


def test_a_batch_is_one_commit_and_its_members_see_each_other() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        rows = len(bench.journal.store)
        grants = await bench.budgets.reserve([reservation("e1", 60), reservation("e2", 60), reservation("e3", 40)])
        assert [grant.error is None for grant in grants] == [True, False, True]
        assert isinstance(grants[1].error, BudgetExceeded)
        assert len(bench.journal.store) == rows + 2

    run(main())


def test_a_restart_changes_no_answer() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        first = await bench.budgets.reserve([Reservation("e1", "tsk_a", {"tokens": 10}, {"tokens": 2}, 20, 1)])
        await bench.budgets.settle("e1", {"tokens": 33})
        await bench.budgets.reserve([reservation("e2", 40)])
        again = bench.restarted()
        assert await again.budgets.used("tsk_a") == await bench.budgets.used("tsk_a")
        assert (await again.budgets.used("tsk_a"))["tokens"] == (33, 40, 100)
        assert await again.budgets.reserve([Reservation("e1", "tsk_a", {"tokens": 10}, {"tokens": 2}, 20, 1)]) == first
        await again.budgets.settle("e1", {"tokens": 99})
        assert (await again.budgets.used("tsk_a"))["tokens"] == (33, 40, 100)

    run(main())


def test_nothing_is_granted_that_is_not_durable() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())

        def fail(changes: list[Change]) -> None:
            raise StoreFailed(path="supervisor.db", problem="disk full")

        bench.journal._write = fail  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(StoreFailed):
                await bench.budgets.reserve([reservation("e1", 60)])
        assert (await bench.restarted().budgets.used("tsk_a"))["tokens"] == (0, 0, 100)

    run(main())


def test_seconds_run_out_once_and_on_time() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        await bench.budgets.reserve([reservation("e1", 1)])
        await asyncio.sleep(20)
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        assert (await bench.budgets.used("tsk_a"))["seconds"] == (Decimal(20), 0, Decimal(60))
        await asyncio.sleep(1_000)
        assert [task for task, _ in bench.rung] == ["tsk_a"]
        assert bench.rung[0][1] == pytest.approx(60, abs=0.01)

    run(main())


@pytest.mark.parametrize("restart", [False, True])
def test_who_comes_again_before_anything_was_reserved_gets_the_limits_and_the_seconds_of_then(restart: bool) -> None:
    """The first opening was durable, and its answer lost: that task was never accepted."""

    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now(), 1)
        await asyncio.sleep(20)
        bench = bench.restarted() if restart else bench
        await bench.budgets.open("tsk_a", {**LIMITS, "tokens": 50}, bench.clock.now(), 1)
        assert (await bench.budgets.used("tsk_a"))["tokens"] == (0, 0, 50)
        assert await bench.restarted().budgets.used("tsk_a") == await bench.budgets.used("tsk_a")
        bench = bench.restarted()
        await asyncio.sleep(1_000)
        assert bench.rung == [("tsk_a", pytest.approx(80, abs=0.01))]

    run(main())


def test_a_clock_that_was_wrong_for_a_moment_gives_nobody_an_hour_more() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        await asyncio.sleep(59)
        bench.clock._start -= 3_600_000_000
        await asyncio.sleep(2)
        bench.clock._start += 3_600_000_000
        await asyncio.sleep(60)
        assert [task for task, _ in bench.rung] == ["tsk_a"]

    run(main())


def test_the_clock_runs_while_the_supervisor_is_dead() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        await bench.budgets.open("tsk_b", LIMITS, bench.clock.now() + 100_000_000)
        bench.budgets.stop()
        await asyncio.sleep(80)
        again = bench.restarted()
        await asyncio.sleep(0.1)
        assert again.rung == [("tsk_a", 80)]
        await asyncio.sleep(200)
        assert [task for task, _ in again.rung] == ["tsk_a", "tsk_b"]
        assert again.rung[1][1] == pytest.approx(160, abs=0.01)

    run(main())


def test_an_orchestrator_closes_what_those_before_it_have_left_and_nothing_of_those_after_it() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_left", LIMITS, bench.clock.now(), 1)
        await bench.budgets.open("tsk_live", LIMITS, bench.clock.now(), 1)
        await bench.budgets.open("tsk_again", LIMITS, bench.clock.now(), 1)
        await bench.budgets.reserve([reservation("e1", 10, "tsk_again")])
        await bench.budgets.open("tsk_new", LIMITS, bench.clock.now(), 3)
        await bench.budgets.open("tsk_again", LIMITS, bench.clock.now(), 3)
        # The second one was stopped in the meantime, and knows of nothing that the third one has accepted.
        await bench.budgets.close_forgotten(2, ["tsk_live"])
        assert bench.budgets.meters.granting() == ["tsk_live", "tsk_again", "tsk_new"]
        bench = bench.restarted()
        assert bench.budgets.meters.granting() == ["tsk_live", "tsk_again", "tsk_new"]
        assert bench.budgets.meters.used("tsk_again")["tokens"] == (0, 10, 100)
        # Nor does it end what the third one goes on with, whatever it has heard itself.
        await bench.budgets.close(["tsk_live", "tsk_again"], 2)
        assert bench.budgets.meters.granting() == ["tsk_again", "tsk_new"]
        await bench.budgets.close_forgotten(4, ["tsk_new"])
        assert bench.budgets.meters.granting() == ["tsk_new"]

    run(main())


def test_a_budget_from_which_models_were_called_is_not_forgotten_but_told() -> None:
    """But for calls that cost nothing, for they were never sent."""

    async def main() -> None:
        bench = Bench()
        for task in ("tsk_called", "tsk_in_vain", "tsk_wrote"):
            await bench.budgets.open(task, LIMITS, bench.clock.now(), 1)
        calls = ["eff_1#1@models-1", "eff_1#1@models-1/2", "eff_1#2@models-2", "eff_3#1@models-2"]
        await bench.budgets.reserve([reservation(id, 10, "tsk_called") for id in calls])
        await bench.budgets.reserve([reservation("eff_2#1@models-1", 10, "tsk_in_vain"), reservation("eff_4", 10, "tsk_wrote")])
        await bench.budgets.settle("eff_1#1@models-1", {"tokens": 7})
        await bench.budgets.settle("eff_2#1@models-1", {"tokens": 0, "steps": 1})
        await bench.budgets.settle("eff_3#1@models-2", {"tokens": 0, "usd": Decimal(0)})
        bench = bench.restarted()
        assert await bench.budgets.close_forgotten(2, []) == ["tsk_called"]
        assert bench.budgets.meters.granting() == ["tsk_called"]
        assert await bench.budgets.calls_of("tsk_called") == ["eff_1#1@models-1", "eff_1#2@models-2"]
        assert await bench.budgets.calls_of("tsk_nobody") == []

    run(main())


def test_a_closed_task_is_not_rung() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        await bench.budgets.close(["tsk_a"], 1)
        await asyncio.sleep(100)
        assert bench.rung == []

    run(main())


def test_over_already_when_opened() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now() - 61_000_000)
        await asyncio.sleep(0)
        assert bench.rung == [("tsk_a", 0)]
        with pytest.raises(Fenced, match="seconds"):
            await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())

    run(main())


def test_who_has_an_order_is_not_opened() -> None:
    async def main() -> None:
        bench = Bench()
        bench.journal.append(Order("tsk_a", "kill", "ann", "enough", 1).change())
        with pytest.raises(Fenced, match="kill by ann: enough"):
            await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        grants = await bench.budgets.reserve([reservation("e1", 1)])
        assert isinstance(grants[0].error, Fenced)

    run(main())


@pytest.mark.parametrize("name", ["\udcff", "tsk\0", 7, None, ["tsk_a"]])
def test_a_task_that_cannot_be_written_down_costs_nobody_else_anything(name: Any) -> None:
    async def main() -> None:
        bench = Bench()
        bad, good = await bench.budgets.together([("open", name, LIMITS, 0), ("open", "tsk_a", LIMITS, bench.clock.now())])
        assert isinstance(bad, Refused)
        assert good is None
        assert (await bench.restarted().budgets.used("tsk_a"))["tokens"] == (0, 0, 100)

    run(main())


def test_a_reservation_that_nobody_can_count_is_answered_as_those_beside_it_are() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.budgets.open("tsk_a", LIMITS, bench.clock.now())
        nonsense: Any = {"tokens": []}
        grants = await bench.budgets.reserve([reservation("e1", 10), Reservation("e2", "tsk_a", nonsense, {}), reservation("e3", 10)])
        assert [(grant.id, grant.error is None) for grant in grants] == [("e1", True), ("e2", False), ("e3", True)]
        assert isinstance(grants[1].error, Refused)
        assert (await bench.budgets.used("tsk_a"))["tokens"] == (0, 20, 100)

    run(main())
