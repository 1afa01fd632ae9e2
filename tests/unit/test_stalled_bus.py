"""A bus whose ledger cannot be written admits and grants nothing and says so; when there is room again all goes on by itself."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from interlock import AgentContext, App, Keyed, Message, WorkflowContext
from interlock.schemas.entries import Entry
from interlock.schemas.errors import LedgerStalled
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="stall.go", version="1.0.0"):
    name: str


class Note(Message, contract="stall.note", version="1.0.0"):
    text: str


class Done(Message, contract="stall.done", version="1.0.0"):
    text: str


def make(did: list[str]) -> App:
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
        await asyncio.sleep(2.0)
        await ctx.call(put, name=request.name)
        return Note(text=request.name)

    @app.workflow("work", version="1.0.0", receives=(Note,))
    async def work(request: Go, ctx: WorkflowContext) -> Done:
        await ctx.sleep(1.0)
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
