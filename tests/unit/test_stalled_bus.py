"""A bus whose ledger, or whose supervisor's journal, cannot be written admits and grants nothing and says so; when there is room again all
goes on by itself."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from interlock import AgentContext, App, AsyncBus, Budget, Keyed, Message, WorkflowContext
from interlock.actors.supervisor import sqlite_journal
from interlock.actors.supervisor.journal import Row
from interlock.actors.supervisor.spool import SPOOL
from interlock.schemas.entries import Entry
from interlock.schemas.errors import JournalStalled, LedgerStalled, OrderNotKept, OrderStands, StorePaused
from interlock.schemas.places import JOURNAL_FILE
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="stall.go", version="1.0.0"):
    name: str


class Note(Message, contract="stall.note", version="1.0.0"):
    text: str


class Done(Message, contract="stall.done", version="1.0.0"):
    text: str


def make(did: list[str], pace: float = 1.0) -> App:
    app = App("stalling")

    @app.tool(effect="read", system="shelf")
    async def look(name: str) -> str:
        """Look."""
        did.append(f"looked for {name}")
        return name

    @app.tool(effect="write", system="shelf", repeat=Keyed("name"))
    async def put(name: str) -> str:
        """Put."""
        did.append(f"put {name}")
        return name

    @app.agent("worker", version="1.0.0", tools=[look, put], concurrency=4)
    async def worker(request: Go, ctx: AgentContext) -> Note:
        did.append(f"began {request.name}")
        await ctx.call(look, name=request.name)
        await asyncio.sleep(2 * pace)
        await ctx.call(put, name=request.name)
        return Note(text=request.name)

    @app.workflow("work", version="1.0.0", receives=(Note,))
    async def work(request: Go, ctx: WorkflowContext) -> Done:
        await ctx.sleep(pace)
        return Done(text=(await ctx.ask(request, returns=Note)).text)

    return app


def tasks_of(log: list[Entry], kind: str) -> Counter[str]:
    return Counter(entry.task for entry in log if entry.kind == kind)


@pytest.mark.parametrize("crash", [False, True])
def test_everything_stands_and_goes_on(crash: bool) -> None:
    did: list[str] = []

    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["work"], Go(name="a"), id="a")
        await asyncio.sleep(2.5)  # the agent sleeps: what it asks for next comes while the disk is full
        assert did == ["began a", "looked for a"]
        later = await sim.bus.submit(sim.app.workflows["work"], Go(name="b"), id="b")
        await asyncio.sleep(0.5)
        sim.fill_disk("No space left on device")
        before = len(sim.store.reader.all_entries(limit=10_000))
        for n in range(3):
            await asyncio.sleep(100)
            for refused in (
                sim.bus.submit(sim.app.workflows["work"], Go(name="c"), id=f"c{n}"),
                task.send(Note(text="hello")),
                sim.bus.inbox.approve("itm_none"),
            ):
                with pytest.raises(LedgerStalled, match=r"stalled since .*: No space left on device. .* try again in 5 s"):
                    await refused
        found = (await sim.bus.status())["ledger"]
        assert (found["state"], found["problem"]) == ("stalled", "No space left on device")
        assert found["since"].startswith("20")
        assert did == ["began a", "looked for a"]
        assert len(sim.store.reader.all_entries(limit=10_000)) == before
        assert sim.store._seq - before < 20  # type: ignore[attr-defined]
        if crash:
            sim.crash_engine()
            await asyncio.sleep(60)
        sim.free_disk()
        assert [await one.outcome() for one in (task, later)] == ["success", "success"]
        assert (await sim.bus.status())["ledger"]["state"] == "ok"
        assert await (await sim.bus.submit(sim.app.workflows["work"], Go(name="c"), id="c0")).outcome() == "success"
        log = list(sim.store.reader.all_entries(limit=10_000))
        assert sim.store.reader.verify() == len(log)
        assert tasks_of(log, "task.accepted") == tasks_of(log, "task.ended") == {"tsk_a": 1, "tsk_b": 1, "tsk_c0": 1}
        assert "task.refused" not in {entry.kind for entry in log}

    simulate(main, make(did))
    assert Counter(did) == {f"{deed} {name}": 1 for deed in ("began", "looked for", "put") for name in ("a", "b", "c")}


def test_a_kill_waits_and_is_carried_out_once() -> None:
    async def main(sim: Simulation) -> Any:
        task = await sim.bus.submit(sim.app.workflows["work"], Go(name="a"), id="a")
        await asyncio.sleep(0.5)
        sim.fill_disk()
        killing = asyncio.ensure_future(task.kill("enough"))
        await asyncio.sleep(120)
        sim.free_disk()
        receipt = await killing
        assert await task.outcome() == "killed"
        await asyncio.sleep(60)
        log = list(sim.store.reader.all_entries(limit=10_000))
        for kind in ("order.recorded", "receipt.recorded", "task.ended"):
            assert tasks_of(log, kind) == {"tsk_a": 1}
        return receipt

    simulate(main, make([]))


@pytest.mark.parametrize("crash", ["nobody", "engine", "supervisor"])
def test_a_journal_that_takes_nothing_holds_up_everything_and_costs_nothing(crash: str) -> None:
    did: list[str] = []

    async def main(sim: Simulation) -> None:
        work = sim.app.workflows["work"]
        task = await sim.bus.submit(work, Go(name="a"), id="a")
        await asyncio.sleep(2.5)  # the agent sleeps: what it asks for next comes while the journal is full
        assert did == ["began a", "looked for a"]
        sim.fill_journal("No space left on device")
        for n in range(3):
            await asyncio.sleep(100)
            with pytest.raises(JournalStalled, match=r"journal is stalled: No space left on device.*try again in 5 s"):
                await sim.bus.submit(work, Go(name="c"), id=f"c{n}")
            with pytest.raises(OrderNotKept, match=r"No space left on device.*Kill it again"):
                await task.kill("enough")
        found = await sim.bus.status()
        assert found["ledger"]["state"] == "ok"
        assert (found["journal"]["state"], found["journal"]["problem"]) == ("stalled", "No space left on device")
        assert found["journal"]["since"].startswith("20")
        assert did == ["began a", "looked for a"]
        if crash == "engine":
            sim.crash_engine()
            await asyncio.sleep(60)
        elif crash == "supervisor":
            sim.crash_supervisor()
        sim.free_journal()
        assert await task.outcome() == "success"
        assert (await sim.bus.status())["journal"] == {"state": "ok", "since": "", "problem": ""}
        assert await (await sim.bus.submit(work, Go(name="c"), id="c0")).outcome() == "success"
        log = list(sim.store.reader.all_entries(limit=10_000))
        assert tasks_of(log, "task.accepted") == tasks_of(log, "task.ended") == {"tsk_a": 1, "tsk_c0": 1}
        assert "task.refused" not in {entry.kind for entry in log}
        assert "tsk_a" not in sim.supervisor.budgets.meters.granting()

    simulate(main, make(did))
    assert Counter(did) == {f"{deed} {name}": 1 for deed in ("began", "looked for", "put") for name in ("a", "c")}


@pytest.mark.parametrize("retried", ["never", "meanwhile", "afterwards"])
@pytest.mark.parametrize("crash", [False, True])
def test_a_budget_that_a_refused_submit_has_opened_is_the_retrys_or_nobodys(retried: str, crash: bool) -> None:
    """The journal kept it and could not say so: its driver was refused."""

    async def main(sim: Simulation) -> None:
        work = sim.app.workflows["work"]

        def kept_and_not_said(row: Row) -> None:
            if row.kind == "open":
                sim.fill_journal()
                raise StorePaused(path="memory", problem="no space left")

        sim.on_row = kept_and_not_said
        with pytest.raises(JournalStalled):
            await sim.bus.submit(work, Go(name="a"), id="a")
        sim.on_row = None
        if crash:
            sim.crash_engine(down=1.0)
        await asyncio.sleep(30)
        if retried == "meanwhile":
            with pytest.raises(JournalStalled):
                await sim.bus.submit(work, Go(name="a"), id="a", budget=Budget(seconds=50))
        sim.free_journal()
        if retried == "meanwhile":
            while (await sim.bus.status())["journal"]["state"] != "ok":  # noqa: ASYNC110 - before whoever closes has tried again
                await asyncio.sleep(0.01)
        else:
            await asyncio.sleep(30)
            assert sim.supervisor.budgets.meters.granting() == []
        if retried != "never":
            task = await sim.bus.submit(work, Go(name="a"), id="a", budget=Budget(seconds=100))
            await asyncio.sleep(1)
            assert sim.supervisor.budgets.meters.limit("tsk_a", "seconds") == 100
            assert await task.outcome() == "success"
        await asyncio.sleep(30)
        assert sim.supervisor.budgets.meters.granting() == []

    simulate(main, make([]))


def test_seconds_that_run_out_meanwhile_end_the_task_once_there_is_room() -> None:
    async def main(sim: Simulation) -> None:
        task = await sim.bus.submit(sim.app.workflows["work"], Go(name="a"), id="a", budget=Budget(seconds=3))
        await asyncio.sleep(1)
        sim.fill_journal()
        await asyncio.sleep(100)
        assert (await sim.bus.status())["journal"]["state"] == "stalled"
        sim.free_journal()
        assert await task.outcome() == "budget_exceeded"

    simulate(main, make([]))


def test_a_journal_that_somebody_locks_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole bus on disk: work waits, a kill is kept beside the journal and carried out when that can be written again."""
    monkeypatch.setattr(sqlite_journal, "BUSY_MILLISECONDS", 1)
    did: list[str] = []
    app = make(did, pace=0.05)
    work = app.workflows["work"]

    async def main() -> None:
        async with await AsyncBus.local(app, folder=tmp_path) as bus:
            kept, killed = [await bus.submit(work, Go(name=name), id=name) for name in ("a", "b")]
            with closing(sqlite3.connect(tmp_path / JOURNAL_FILE, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(JournalStalled, match="database is locked"):
                    await bus.submit(work, Go(name="c"), id="c")
                with pytest.raises(OrderStands) as stands:
                    await killed.kill("enough")
                assert Path(stands.value.path).parent == tmp_path / SPOOL
                while len(did) < 2:  # noqa: ASYNC110 - both come to where they need a reservation
                    await asyncio.sleep(0.01)
                assert (await bus.status())["journal"]["problem"] == "database is locked"
            assert [await kept.outcome(), await killed.outcome()] == ["success", "killed"]
            assert (await bus.status())["journal"]["state"] == "ok"
            assert list((tmp_path / SPOOL).iterdir()) == []

    asyncio.run(main())
    assert Counter(did) == {"began a": 1, "began b": 1, "looked for a": 1, "put a": 1}
