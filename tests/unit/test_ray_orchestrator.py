"""The orchestrator's Ray front at its edges: a ledger that cannot be opened for now is waited for, and said to be."""

import asyncio
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest

from interlock.clock import SystemClock
from interlock.cluster.config import BusConfig
from interlock.cluster.orchestrator import OrchestratorActor
from interlock.orchestrator.ledger.memory import MemoryLedger
from interlock.orchestrator.ledger.writer import Writer
from interlock.schemas.errors import InterlockError, LedgerUnreachable, StoreFailed, StorePaused
from interlock.settings import ModelSettings

AWAY = LedgerUnreachable(path="postgresql://db", problem="the database system is starting up")
FULL = StorePaused(path="ledger.db", problem="database or disk is full")


class Supervisor:
    """In the place of the supervisor's actor: it has no peers, and its budgets take what they are given."""

    def __getattr__(self, name: str) -> Any:
        return self

    async def remote(self, calls: Any = (), *_: Any) -> tuple[bool, Any]:
        return True, [(True, []) for _ in calls]


def test_a_ledger_that_is_away_is_waited_for_in_the_same_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[InterlockError] = [AWAY]
    exits: list[int] = []

    def open_it(*_: Any, **options: Any) -> Writer:
        if problems:
            raise problems[0]
        return MemoryLedger(SystemClock(), on_failure=options["on_failure"])

    async def main() -> None:
        front = started(tmp_path, monkeypatch, open_it, exits)
        for problem in (AWAY, FULL):
            problems[:] = [problem]
            while (wire := (await front.call("status"))[1])["facts"]["problem"] != problem.problem:  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0.001)
            assert wire["code"] == "ledger_stalled"
            assert wire["facts"]["since"].startswith("20")
        problems.clear()
        while not (await front.ping())[0]:  # noqa: ASYNC110 - nor does this
            await asyncio.sleep(0.001)
        ok, status = await front.call("status")
        assert (ok, status["epoch"]) == (True, 1)
        assert not exits

    asyncio.run(main())


def test_what_does_not_pass_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []

    def open_it(*_: Any, **__: Any) -> Writer:
        raise StoreFailed(path="ledger.db", problem="no such table")

    async def main() -> None:
        front = started(tmp_path, monkeypatch, open_it, exits)
        assert (await front.ping())[1]["code"] == "store_failed"
        while not exits:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.001)

    asyncio.run(main())


def test_whoever_comes_when_an_epoch_is_over_is_left_to_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []

    async def main() -> None:
        front = started(tmp_path, monkeypatch, lambda *_, **options: MemoryLedger(SystemClock(), on_failure=options["on_failure"]), exits)
        assert (await front.ping())[0]
        front._engine.fault(RuntimeError("half changed"))
        late = asyncio.create_task(front.call("status"))
        while not exits:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.001)
        assert not late.done()
        late.cancel()

    asyncio.run(main())


def started(folder: Path, monkeypatch: pytest.MonkeyPatch, open_it: Any, exits: list[int]) -> Any:
    actor: Any = OrchestratorActor
    front = actor.__ray_metadata__.modified_class
    names = unwrap(front._start).__globals__  # Ray, once it has run, has made the class anew, with names of its own
    monkeypatch.setitem(names, "EXIT_SECONDS", 0.001)
    monkeypatch.setitem(names, "begin", lambda name: None)
    monkeypatch.setitem(names, "open_ledger", open_it)
    monkeypatch.setattr(names["os"], "_exit", exits.append)
    monkeypatch.setattr(names["ray"], "get_actor", lambda *_, **__: Supervisor())
    return front(BusConfig("test", str(folder), str(folder), "", ModelSettings()))
