"""A supervisor's journal that everybody has to wait for is said to be slow, and one of which nobody says anything to be silent."""

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from interlock import App, Message, WorkflowContext
from interlock.actors.supervisor import journal
from interlock.actors.supervisor.journal import Row
from interlock.cli import connection
from interlock.cli.cluster import status
from interlock.cluster import backend
from interlock.cluster.calls import Silent
from interlock.testing.simulation import Simulation, simulate


class Go(Message, contract="slow.go", version="1.0.0"):
    n: int = 0


app = App("slow")


@app.workflow("go", version="1.0.0")
async def go(request: Go, ctx: WorkflowContext) -> Go:
    return request


def shown(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command prints of such a status."""
    bus = SimpleNamespace(status=lambda: found)
    monkeypatch.setattr(connection, "connect", lambda address, name: nullcontext(bus))
    return CliRunner().invoke(status).stdout


def test_it_is_said_as_long_as_it_lasts_and_a_minute_after(monkeypatch: pytest.MonkeyPatch) -> None:
    took, now = [0.5], [100.0]
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def waited_for(row: Row) -> None:
        now[0] += took[0]

    async def main(sim: Simulation) -> None:
        sim.on_row = waited_for
        found = []
        for n, seconds in enumerate((0.5, 7.0, 0.5, 3.0)):
            took[0] = seconds
            await (await sim.bus.submit(go, Go(), id=f"{n}")).outcome()
            found.append((await sim.bus.status())["journal"])
            now[0] += 25
        assert [one["state"] for one in found] == ["ok", "slow", "slow", "slow"]
        assert found[0]["since"] == ""
        assert found[1]["since"] == found[2]["since"] == found[3]["since"] != ""
        assert [one["problem"] for one in found[1:3]] == ["its disk is slow: it kept the supervisor waiting for 7.0 s"] * 2
        assert found[3]["problem"] == "its disk is slow: it kept the supervisor waiting for 3.0 s"
        said = shown(await sim.bus.status(), monkeypatch)
        assert f"journal: slow since {found[3]['since']}, its disk is slow: it kept the supervisor waiting for 3.0 s\nWhat is to be" in said
        now[0] += 50
        assert (await sim.bus.status())["journal"]["state"] == "ok"

    simulate(main, app)


def test_a_supervisor_that_says_nothing_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "epoch": 7,
        "live_tasks": 1,
        "waiting_tasks": 0,
        "parked_tasks": 0,
        "live_dispatches": 1,
        "dead_letters": 0,
        "suspects": 0,
        "undoing_tasks": 0,
        "bounds": {"live": 100, "queues": {}},
        "breakers": [],
    }
    orchestrator = {**found, "ledger": {"state": "ok", "since": "", "problem": ""}, "queues": {}, "peers": []}
    actors = SimpleNamespace(status="supervisor", call="orchestrator")

    async def insist(method: str, *args: Any, seconds: float = 0) -> Any:
        if method == "supervisor":
            raise Silent
        return orchestrator

    monkeypatch.setattr(backend, "insist", insist)
    monkeypatch.setattr(backend.ray, "get_actor", lambda *_, **__: actors)
    said = shown(asyncio.run(backend.ClusterBackend("bus", "here").status()), monkeypatch)
    assert said.startswith("Epoch 7: 1 live tasks")
    assert "the supervisor has not answered for 5 s: it hangs, or the journal's disk does\nNothing is accepted or granted" in said
