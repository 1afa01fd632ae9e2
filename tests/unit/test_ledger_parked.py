"""What a ledger says of tasks that are parked, alike in memory, on SQLite and on PostgreSQL."""

from contextlib import closing

import pytest
from ledger_places import Place, accepted, asked, decided, ended, on_loop, place, timer

from interlock.orchestrator.ledger import rows
from interlock.schemas import entries as e

__all__ = ["place"]


def test_a_live_task_is_parked_while_that_is_the_last_entry_about_it(place: Place) -> None:
    async def main() -> None:
        ledger = place.open()
        ledger.open_epoch()
        assert (ledger.parked(), ledger.entries_of([])) == ([], {})
        for n in range(250):
            ledger.append(f"t{n}", accepted())
        for task in ("t3", "t1", "t2", "t4"):
            ledger.append(task, e.TaskParked(wakes=7, items=1, dead=0, dispatches=["d"]))
        ledger.append("t2", timer())
        ledger.append("t4", ended())
        ledger.append("t4", e.TaskParked())
        await ledger.flush()
        parked = ledger.parked()
        assert [entry.task for entry in parked] == ["t3", "t1"]
        assert parked[0].open() == e.TaskParked(7, 1, 0, ["d"])
        ledger.append("t3", e.TimerFired(1))
        ledger.append("t2", e.TaskParked())
        await ledger.flush()
        with closing(place.reader()) as reader:
            assert [entry.task for entry in reader.parked()] == ["t1", "t2"]
        every = ledger.entries_of([f"t{n}" for n in range(250)] + ["nobody"])
        assert every == {f"t{n}": ledger.entries(f"t{n}") for n in range(250)}
        await ledger.close()

    on_loop(main())


def test_the_task_of_an_item_is_found_by_its_name(place: Place) -> None:
    async def main() -> None:
        ledger = place.open()
        ledger.open_epoch()
        ledger.append("t1", accepted())
        ledger.append("t1", asked("i1"))
        await ledger.flush()
        assert (ledger.item_task("i1"), ledger.item_task("i2")) == ("t1", "")
        await ledger.close()

    on_loop(main())


def test_a_writer_that_has_few_rows_at_hand_comes_to_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_AT_MOST", 1)

    async def main() -> None:
        ledger = place.open()
        ledger.open_epoch()
        for n in range(4):
            ledger.append(f"t{n}", accepted())
            for item in "ab":
                ledger.append(f"t{n}", asked(f"{item}{n}"))
            await ledger.flush()
        for n in range(4):
            ledger.append(f"t{n}", decided(f"a{n}"))
            await ledger.flush()
        assert [row.state for row in ledger.reader.tasks()] == ["waiting"] * 4
        ledger.append("t1", decided("b1"))
        ledger.append("t2", ended())
        await ledger.flush()
        assert {row.task: row.state for row in ledger.reader.tasks()} == {"t0": "waiting", "t1": "running", "t2": "ended", "t3": "waiting"}
        assert [row.item for row in ledger.reader.inbox()] == ["b0", "b3"]
        assert ledger.reader.verify() == 18
        await ledger.close()

    on_loop(main())
