"""A crash of the ledger in memory, after every single entry."""

import asyncio

import pytest

from interlock.orchestrator.ledger.memory import MemoryLedger
from interlock.schemas.entries import Entry, TimerSet
from interlock.schemas.errors import InterlockError, StoreFailed
from interlock.testing.virtual_time import VirtualClock, run

MANY = 6


def unexpected(failure: InterlockError) -> None:
    raise AssertionError(failure)


@pytest.mark.parametrize("crash_at", range(1, MANY + 1))
def test_a_crash_right_after_entry_k_keeps_k_entries_and_acknowledges_those_before(crash_at: int) -> None:
    async def test() -> None:
        acknowledged: list[int] = []
        heirs: list[MemoryLedger] = []

        def on_durable(entry: Entry) -> None:
            if entry.seq == crash_at:
                heirs.append(ledger.reopen())

        ledger = MemoryLedger(VirtualClock(), on_failure=unexpected, on_durable=on_durable)
        ledger.open_epoch()
        for number in range(1, MANY + 1):
            ledger.append("tsk_a", TimerSet(number, 1.0, 0), lambda number=number: acknowledged.append(number))  # type: ignore[misc]
        with pytest.raises(StoreFailed):
            await ledger.flush()
        await asyncio.sleep(1)
        (heir,) = heirs
        assert heir.epoch == 2
        assert [entry.seq for entry in heir.entries("tsk_a")] == list(range(1, crash_at + 1))
        assert acknowledged == list(range(1, crash_at))
        with pytest.raises(StoreFailed):
            ledger.append("tsk_a", TimerSet(9, 1.0, 0))
        heir.append("tsk_a", TimerSet(9, 1.0, 0))
        await heir.flush()
        assert [entry.epoch for entry in heir.entries("tsk_a")][-1] == 2
        assert heir.reader.verify() == crash_at + 1

    run(test())


def test_entries_take_a_turn_of_the_loop_each() -> None:
    async def test() -> None:
        ledger = MemoryLedger(VirtualClock(), on_failure=unexpected)
        ledger.open_epoch()
        for number in range(3):
            ledger.append("tsk_a", TimerSet(number, 1.0, 0))
        for durable in range(4):
            assert len(ledger.entries("tsk_a")) == durable
            await asyncio.sleep(0)

    run(test())
