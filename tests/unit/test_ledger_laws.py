"""Laws of the ledger: whatever happens, in whatever order, rows are the fold of the entries, in memory and on SQLite alike."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from interlock.orchestrator.ledger.memory import Disk, MemoryLedger
from interlock.orchestrator.ledger.projections import Key, Row, key_of, refold
from interlock.orchestrator.ledger.reader import Reader
from interlock.orchestrator.ledger.sqlite import SqliteLedger
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas import entries as e
from interlock.schemas.errors import InterlockError
from interlock.schemas.record import State


class Ticking:
    def __init__(self, ticks: Iterator[int]) -> None:
        self._ticks = ticks

    def now(self) -> int:
        return next(self._ticks)


def _unexpected(failure: InterlockError) -> None:
    raise AssertionError(failure)


def _in_memory(disk: Disk, ticks: Iterator[int]) -> Writer:
    return MemoryLedger(Ticking(ticks), on_failure=_unexpected, disk=disk)


def _on_sqlite(path: Path, ticks: Iterator[int]) -> Writer:
    make = SqliteLedger.open if path.exists() else SqliteLedger.create
    return make(path, Ticking(ticks), on_failure=_unexpected)


def _accepted(type: str) -> e.TaskAccepted:
    return e.TaskAccepted(type, "1.0.0", "invoice.request", "1.0.0", {"order": 7}, {"steps": 3}, "trusted", "ann")


TASKS = st.sampled_from(["", "tsk_a", "tsk_b", "tsk_c"])
SMALL = st.integers(0, 2)


def _called(number: int) -> e.ModelCalled:
    messages = [{"role": "user", "content": f"{n}"} for n in range(number + 1)]
    said = (f"eff_{number}", "dsp_1", "1-1", "m", "m", "x", "h", {"messages": messages}, {"choices": [{"message": number}]})
    return e.ModelCalled(*said, {"input_tokens": 1}, None, 1.0, 1)


def _fact(task: str, what: str, number: int) -> e.Fact:
    item = f"itm_{task}_{number}"
    facts: dict[str, e.Fact] = {
        "accepted": _accepted(f"type{number}"),
        "timer": e.TimerSet(number, 1.5, 0),
        "asked": e.ItemAsked(item, "approval", "finance", "pay?", 99, n=number, dispatch=f"dsp_{number}", details={"n": number}),
        "decided": e.ItemDecided(item, "approved", "bob", "fine" * number),
        "cancelled": e.CommandCancelled(number, f"dsp_{2 - number}"),
        "diverged": e.TaskDiverged({}),
        "ended": e.TaskEnded("success" if number else "failed", "so" * number),
        "erased": e.TaskErased("ann", "why") if task else e.EpochStarted(1, "x"),
        "pruned": e.ContentPruned("ann", 184) if task else e.EpochStarted(1, "x"),
        "called": _called(number),
        "contract": e.ContractRegistered("a.x", f"1.0.{number}", {"n": number}, "ann"),
        "unknown": e.EffectUnknown("eff_1", "dsp_1", "1-1", "put", "gone", "none", "key_a" if number else "", "a-1", "d"),
        "settled": e.DeedSettled(f"key_{'ab'[number % 2]}", f"eff_{number}", "dsp_1", "1-1", "put", "d", number > 0),
        "app": e.AppDeployed("billing", f"v{number}", {}, "ann"),
    }
    return facts[what]


KINDS = ["accepted", "accepted", "timer", "asked", "asked", "decided", "cancelled", "diverged", "ended", "contract", "app"]
KINDS += ["unknown", "settled", "erased", "pruned", "called"]
FACTS = st.tuples(TASKS, st.sampled_from(KINDS), SMALL).map(lambda drawn: (drawn[0], _fact(*drawn)))
STEPS = st.lists(st.one_of(FACTS, FACTS, FACTS, FACTS, st.sampled_from(["flush", "reopen"])), max_size=40)


async def _play(open_ledger: Callable[[], Writer], steps: list[Any]) -> None:
    ledger = open_ledger()
    ledger.open_epoch()
    for step in steps:
        if step == "flush":
            await ledger.flush()
        elif step == "reopen":
            await ledger.close()
            ledger = open_ledger()
            ledger.open_epoch()
        else:
            ledger.append(*step)
    await ledger.close()


def _rows(reader: Reader | Disk) -> dict[Key, Row]:
    return dict(reader.tables.rows) if isinstance(reader, Disk) else {key_of(row): row for row in reader.rows()}


def _said(entry: e.Entry) -> tuple[Any, ...]:
    """All but what depends on a random key."""
    return entry.seq, entry.epoch, entry.at, entry.task, entry.kind, entry.open()


def _around_a_prune(*between: str) -> list[Any]:
    """Calls before and after it, the same and others."""
    calls = [("tsk_a", _called(number)) for number in (1, 2)]
    return [*calls, *between, ("tsk_a", e.ContentPruned("ann", 184)), calls[0], *between, ("tsk_a", _called(0))]


@example(_around_a_prune())
@example(_around_a_prune("flush"))
@example(_around_a_prune("reopen"))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_rows_equal_the_fold_of_the_entries_and_both_stores_agree(steps: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        path, disk = Path(folder) / "ledger.db", Disk()
        asyncio.run(_play(partial(_on_sqlite, path, count(1)), steps))
        asyncio.run(_play(partial(_in_memory, disk, count(1)), steps))
        file = Reader(path)
        for reader in (file, disk):
            entries = reader.all_entries()
            assert _rows(reader) == refold(entries)
            assert reader.verify() == len(entries)
        assert [_said(entry) for entry in file.all_entries()] == [_said(entry) for entry in disk.all_entries()]
        assert (file.tasks(), file.live_tasks(), file.inbox(False)) == (disk.tasks(), disk.live_tasks(), disk.inbox(False))
        assert (file.contracts(), file.apps()) == (disk.contracts(), disk.apps())
        file.close()


@settings(max_examples=50)
@given(steps=st.lists(FACTS, max_size=40))
def test_a_task_waits_exactly_while_something_of_it_is_open(steps: list[Any]) -> None:
    begun = [(task, _accepted("billing")) for task in ("", "tsk_a", "tsk_b", "tsk_c")]
    reader = Disk()
    asyncio.run(_play(partial(_in_memory, reader, count(1)), [*begun, *steps]))
    waiting = {item.task for item in reader.inbox()}
    for row in reader.tasks():
        assert bool(row.outcome) == (row.state == State.ENDED) == (row.ended_at is not None)
        assert row.state != State.ENDED or row.task not in waiting
        if row.state in (State.RUNNING, State.WAITING):
            assert (row.state == State.WAITING) == (row.task in waiting)
