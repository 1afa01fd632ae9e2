"""One behaviour of every ledger: what holds in memory holds on SQLite and on PostgreSQL."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from ledger_places import Place, accepted, asked, decided, ended, on_loop, place, timer, written

from interlock.orchestrator.ledger.chain import GENESIS
from interlock.orchestrator.ledger.projections import WITHDRAWN
from interlock.schemas import entries as e
from interlock.schemas.errors import InterlockError, StaleEpoch, StoreFailed
from interlock.schemas.record import State

__all__ = ["place"]


def test_entries_are_numbered_timed_chained_and_kept_as_encoded(place: Place) -> None:
    reader = written(place, ("tsk_a", accepted()), ("", e.EpochStarted(1, "x")), ("tsk_a", ended()))
    entries = reader.all_entries()
    assert [(entry.seq, entry.epoch, entry.task, entry.kind) for entry in entries] == [
        (1, 1, "tsk_a", "task.accepted"),
        (2, 1, "", "epoch.started"),
        (3, 1, "tsk_a", "task.ended"),
    ]
    assert entries[0].data.startswith(accepted().split().head + e.SEAL)
    assert entries[1].data == e.EpochStarted(1, "x").encode()
    assert [entry.open() for entry in entries] == [replace(accepted(), request={"order": 7}), e.EpochStarted(1, "x"), ended()]
    assert all(one.at < two.at for one, two in pairwise(entries))
    assert len({GENESIS, *(entry.hash for entry in entries)}) == 4
    assert reader.entries("tsk_a") == [entries[0], entries[2]]
    assert reader.entries("") == [entries[1]]
    assert reader.all_entries(after=1, limit=1) == [entries[1]]
    assert reader.verify() == 3
    reader.close()


def test_append_returns_the_time_of_the_entry(place: Place) -> None:
    async def test() -> None:
        ledger = place.open()
        ledger.open_epoch()
        at = ledger.append("tsk_a", accepted())
        await ledger.flush()
        assert [entry.at for entry in ledger.entries("tsk_a")] == [at]
        await ledger.close()

    on_loop(test())


def test_then_runs_in_order_after_the_entry_is_durable_and_never_inside_append(place: Place) -> None:
    async def test() -> None:
        ran: list[tuple[str, int]] = []
        ledger = place.open(on_durable=lambda entry: ran.append(("durable", entry.seq)))
        ledger.open_epoch()

        def then(number: int) -> None:
            assert ledger.reader.all_entries(after=number - 1)[0].seq == number
            ran.append(("then", number))

        def nested() -> None:
            then(3)
            ledger.append("tsk_a", timer(), lambda: then(4))
            assert ran[-1] == ("then", 3)

        ledger.append("tsk_a", accepted(), lambda: then(1))
        ledger.append("tsk_a", timer())
        ledger.append("tsk_a", timer(), nested)
        assert ran == []
        await ledger.flush()  # up to entry 3
        await ledger.flush()
        assert [number for what, number in ran if what == "then"] == [1, 3, 4]
        assert [number for what, number in ran if what == "durable"] == [1, 2, 3, 4]
        assert all(ran.index(("durable", number)) < ran.index(("then", number)) for number in (1, 3, 4))
        await ledger.close()

    on_loop(test())


def test_a_barrier_waits_for_what_was_appended_and_for_nothing_else(place: Place) -> None:
    async def test() -> None:
        ran: list[str] = []
        ledger = place.open()
        ledger.open_epoch()
        idle = asyncio.Event()
        ledger.barrier(idle.set)
        assert not idle.is_set()
        await idle.wait()
        ledger.append("tsk_a", accepted(), lambda: ran.append("one"))
        ledger.barrier(lambda: ran.append("barrier"))
        ledger.append("tsk_a", timer(), lambda: ran.append("two"))
        assert ran == []
        await ledger.flush()
        assert ran == ["one", "barrier", "two"]
        await ledger.close()

    on_loop(test())


def test_a_callback_that_raises_keeps_no_other_from_running(place: Place) -> None:
    async def test() -> None:
        ran: list[int] = []
        raised: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        ledger = place.open()
        ledger.open_epoch()

        def broken() -> None:
            raise ZeroDivisionError

        for number in range(5):
            ledger.append("tsk_a", timer(number), broken if number == 2 else lambda number=number: ran.append(number))  # type: ignore[misc]
        await ledger.flush()
        assert ran == [0, 1, 3, 4]
        assert [type(error) for error in raised] == [ZeroDivisionError]
        await ledger.close()

    on_loop(test())


def test_a_newer_epoch_ends_the_writer_before_it(place: Place) -> None:
    async def test() -> None:
        failures: list[InterlockError] = []
        told = asyncio.Event()

        def on_failure(failure: InterlockError) -> None:
            failures.append(failure)
            told.set()

        acknowledged: list[str] = []
        old = place.open(on_failure)
        assert old.open_epoch() == 1
        old.append("tsk_a", accepted(), lambda: acknowledged.append("a"))
        await old.flush()
        new = place.open()
        assert new.open_epoch() == 2
        assert (old.epoch, new.epoch) == (1, 2)
        old.append("tsk_b", accepted(), lambda: acknowledged.append("b"))
        with pytest.raises(StaleEpoch):
            await old.flush()
        await told.wait()
        with pytest.raises(StaleEpoch, match="Epoch 1 has been followed by 2"):
            old.append("tsk_c", accepted())
        with pytest.raises(StaleEpoch):
            old.barrier(lambda: None)
        new.append("tsk_d", accepted(), lambda: acknowledged.append("d"))
        await new.flush()
        assert acknowledged == ["a", "d"]
        assert [failure.code for failure in failures] == ["stale_epoch"]
        assert [(entry.seq, entry.epoch, entry.task) for entry in new.reader.all_entries()] == [(1, 1, "tsk_a"), (2, 2, "tsk_d")]
        assert new.reader.verify() == 2
        await old.close()
        await new.close()

    on_loop(test())


def test_a_writer_without_an_epoch_or_after_its_end_refuses(place: Place) -> None:
    async def test() -> None:
        ledger = place.open()
        with pytest.raises(StoreFailed, match="not been opened"):
            ledger.append("tsk_a", accepted())
        await ledger.close()
        ledger = place.open()
        ledger.open_epoch()
        ledger.append("tsk_a", accepted())
        await ledger.close()
        with pytest.raises(StoreFailed, match="it was closed"):
            ledger.append("tsk_a", accepted())
        await ledger.close()

    on_loop(test())
    reader = place.reader()
    assert reader.live_tasks() == ["tsk_a"]
    reader.close()


def test_an_abandoned_writer_goes_silent_and_its_successor_continues_the_chain(place: Place) -> None:
    async def test() -> None:
        ran: list[Any] = []

        def on_durable(entry: e.Entry) -> None:
            ran.append(entry.seq)
            if entry.seq == 2:
                ledger.abandon()

        ledger = place.open(on_durable=on_durable)
        ledger.open_epoch()
        ledger.append("tsk_a", accepted(), lambda: ran.append("first"))
        ledger.append("tsk_b", accepted(), lambda: ran.append("never"))
        ledger.append("tsk_c", accepted(), lambda: ran.append("never"))
        with pytest.raises(StoreFailed):
            await ledger.flush()
        await ledger.close()
        assert ran == [1, "first", 2]
        heir = place.open()
        assert heir.open_epoch() == 2
        assert {"tsk_a", "tsk_b"} <= set(heir.live_tasks())
        heir.append("tsk_d", accepted())
        await heir.close()

    on_loop(test())
    reader = place.reader()
    assert reader.live_tasks()[-1] == "tsk_d"
    assert reader.verify() == len(reader.all_entries())
    reader.close()


def test_a_task_goes_through_its_states(place: Place) -> None:
    steps: list[tuple[e.Fact, State]] = [
        (accepted(), State.RUNNING),
        (timer(), State.RUNNING),
        (asked("itm_1"), State.WAITING),
        (asked("itm_2", dispatch="dsp_1"), State.WAITING),
        (decided("itm_1"), State.WAITING),
        (e.CommandCancelled(4, "dsp_1"), State.RUNNING),
        (asked("itm_3", n=5), State.WAITING),
        (e.CommandCancelled(6), State.WAITING),
        (e.CommandCancelled(5), State.RUNNING),
        (e.TaskDiverged({}), State.DIVERGED),
        (asked("itm_4"), State.DIVERGED),
        (ended("failed", "stalled"), State.ENDED),
        (ended("success"), State.ENDED),
        (asked("itm_5"), State.ENDED),
    ]

    async def test() -> None:
        ledger = place.open()
        ledger.open_epoch()
        for fact, state in steps:
            ledger.append("tsk_a", fact)
            await ledger.flush()
            row = ledger.reader.task("tsk_a")
            assert row is not None
            assert row.state == state, fact
            assert ledger.live_tasks() == ([] if state == State.ENDED else ["tsk_a"])
        await ledger.close()

    on_loop(test())
    reader = place.reader()
    row = reader.task("tsk_a")
    assert row is not None
    assert (row.type, row.outcome, row.reason, row.seq) == ("billing", "failed", "stalled", 1)
    entries = reader.all_entries()
    assert (row.accepted_at, row.ended_at) == (entries[0].at, entries[11].at)
    assert [(item.item, item.decision, item.by) for item in reader.inbox(open_only=False)] == [
        ("itm_1", "approved", "bob"),
        ("itm_2", WITHDRAWN, ""),
        ("itm_3", WITHDRAWN, ""),
        ("itm_4", WITHDRAWN, ""),
    ]
    assert reader.inbox() == []
    reader.close()


def test_what_can_be_asked_of_a_ledger(place: Place) -> None:
    reader = written(
        place,
        ("", e.ContractRegistered("b.x", "1.0.0", {"z": 1, "a": 2}, "ann")),
        ("", e.ContractRegistered("a.x", "1.10.0", {}, "ann")),
        ("", e.ContractRegistered("a.x", "1.2.0", {}, "ann")),
        ("", e.AppDeployed("billing", "v1", {"agents": []}, "ann")),
        ("", e.AppDeployed("billing", "v2", {}, "bob")),
        ("", e.AppDeployed("billing", "v1", {"agents": []}, "cy")),
        *((f"tsk_{number}", accepted(f"type{number}")) for number in range(5)),
        ("tsk_3", ended()),
        ("tsk_2", asked("itm_2")),
        ("tsk_1", asked("itm_1")),
        ("tsk_1", decided("itm_1", "denied")),
    )
    assert [row.task for row in reader.tasks()] == ["tsk_4", "tsk_3", "tsk_2", "tsk_1", "tsk_0"]
    assert [row.task for row in reader.tasks(limit=2)] == ["tsk_4", "tsk_3"]
    assert [row.task for row in reader.tasks(state=State.RUNNING)] == ["tsk_4", "tsk_1", "tsk_0"]
    assert [row.task for row in reader.tasks(limit=1, state=State.RUNNING)] == ["tsk_4"]
    assert reader.live_tasks() == ["tsk_0", "tsk_1", "tsk_2", "tsk_4"]
    assert reader.task("tsk_9") is None
    (item,) = reader.inbox()
    assert (item.item, item.task, item.to, item.details, item.expires) == ("itm_2", "tsk_2", "finance", '{"a":[2],"b":1}', 99)
    assert [row.item for row in reader.inbox(open_only=False)] == ["itm_2", "itm_1"]
    pages = {"first": {"limit": 1}, "next": {"after": item.seq}, "of one": {"task": "tsk_1"}, "of a kind": {"kind": "dead"}}
    assert {page: [row.item for row in reader.inbox(open_only=False, **which)] for page, which in pages.items()} == {
        "first": ["itm_2"],
        "next": ["itm_1"],
        "of one": ["itm_1"],
        "of a kind": [],
    }
    assert [reader.inbox_count(), reader.inbox_count(False), reader.inbox_count(after=item.seq), reader.inbox_count(kind="dead")] == [
        1,
        2,
        0,
        0,
    ]
    assert reader.item("itm_2") == item
    assert reader.item("itm_9") is None
    assert [(row.contract, row.version) for row in reader.contracts()] == [("a.x", "1.10.0"), ("a.x", "1.2.0"), ("b.x", "1.0.0")]
    assert reader.contracts()[2].schema == '{"a":2,"z":1}'
    assert [(row.version, row.by) for row in reader.apps()] == [("v2", "bob"), ("v1", "cy")]
    reader.close()
