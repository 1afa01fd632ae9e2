"""Whoever dies, at whatever moment: the end is the same, the world has every deed once, no model is asked twice.

The orchestrator dies right after each entry is durable, the supervisor after each row of its journal, every peer before each frame
that it takes, right after it, and in the middle of what the frame began.
"""

import asyncio
import importlib.util
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from contextvars import copy_context
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from shop import PLAYBOOK, OrderPlaced, World, boss, make_shop

from interlock.orchestrator.ledger.projections import refold
from interlock.orchestrator.parking import ParkingPace
from interlock.schemas.entries import Entry
from interlock.schemas.errors import InterlockError
from interlock.testing.simulation import Simulation, simulate

INVOICING = Path(__file__).parents[2] / "examples" / "invoicing"

Crash = Callable[[Simulation], None]


class Played(NamedTuple):
    """How a task ended, what the world looks like then, and how often a model was asked."""

    end: Any
    rows: list[tuple[Any, ...]]
    requests: int
    entries: list[Entry]
    journal: int
    frames: list[tuple[str, str]]


def check(sim: Simulation) -> list[Entry]:
    """The ledger is whole, and the projections are what the entries come to."""
    log = list(sim.store.reader.all_entries(limit=100_000))
    assert sim.store.reader.verify() == len(log)
    assert refold(log) == sim.store.disk.tables.rows  # type: ignore[attr-defined]
    return log


async def played(sim: Simulation, task: Any, rows: Callable[[], list[tuple[Any, ...]]], frames: list[tuple[str, str]]) -> Played:
    try:
        end: Any = await asyncio.wait_for(task.result(), 4000)
    except InterlockError as error:
        end = str(error)
    sim.on_entry = sim.on_row = sim.on_frame = None
    await asyncio.sleep(60)  # whoever is down comes up again, and nothing more happens
    log = check(sim)
    assert [entry.kind for entry in log].count("task.ended") == 1
    assert sim.supervisor.budgets.meters.granting() == [], "a budget of a task that has ended"
    assert sim.script is not None
    return Played(end, sorted(rows()), sim.script.count, log, len(sim.rows), frames)


def recorded(sim: Simulation) -> list[tuple[str, str]]:
    """The frames that peers take, as they come: who and what."""
    frames: list[tuple[str, str]] = []
    before = sim.on_frame

    def note(name: str, frame: Any) -> None:
        frames.append((name, type(frame).__name__))
        if before is not None:
            before(name, frame)

    sim.on_frame = note
    return frames


def parking(crash: Crash | None) -> Crash:
    """Whatever waits for a moment leaves memory."""

    def arm(sim: Simulation) -> None:
        sim.parking = ParkingPace(still=0.0, each=0.0, look=0.2)
        if crash is not None:
            crash(sim)

    return arm


def play_shop(crash: Crash | None = None) -> Played:
    world = World()
    app = make_shop(world)

    async def main(sim: Simulation) -> Played:
        humans = asyncio.create_task(boss(sim, world))
        frames = recorded(sim)
        task = await sim.bus.submit(app.workflows["sale"], OrderPlaced(order="a"), id="a")
        end = await played(sim, task, lambda: world.rows, frames)
        humans.cancel()
        assert not world.repeated
        return end

    return simulate(main, app, PLAYBOOK, arm=parking(crash))


@pytest.fixture(scope="module")
def invoicing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulated_invoicing", INVOICING / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def play_invoicing(invoicing: ModuleType, tmp_path: Path) -> Callable[[Crash | None], Played]:
    path = tmp_path / "orders.db"

    def rows() -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as db:
            return [
                *db.execute("SELECT 'invoice', order_id, total FROM invoices"),
                *db.execute("SELECT 'notice', order_id, text FROM notices"),
            ]

    def play(crash: Crash | None = None) -> Played:
        path.unlink(missing_ok=True)
        invoicing.make_database(path)
        app = invoicing.make_app(path)

        async def main(sim: Simulation) -> Played:
            frames = recorded(sim)
            task = await sim.bus.submit(app.workflows["invoice_generation"], invoicing.InvoiceRequest(order_id="7294"), id="one")
            return await played(sim, task, rows, frames)

        return simulate(main, app, INVOICING / "playbook.json", arm=parking(crash))

    return play


@pytest.fixture(params=["shop", "invoicing"])
def play(request: pytest.FixtureRequest) -> Callable[[Crash | None], Played]:
    found: Callable[[Crash | None], Played] = play_shop if request.param == "shop" else request.getfixturevalue("play_invoicing")
    return found


def same(crashed: Played, undisturbed: Played, where: str, more: int = 0) -> None:
    assert crashed.end == undisturbed.end, where
    assert crashed.rows == undisturbed.rows, where
    assert undisturbed.requests <= crashed.requests <= undisturbed.requests + more, where


def engine_at(k: int) -> Crash:
    def arm(sim: Simulation) -> None:
        def strike(entry: Entry) -> None:
            if entry.seq == k:
                sim.crash_engine(down=0.1)

        sim.on_entry = strike

    return arm


def supervisor_at(k: int) -> Crash:
    def arm(sim: Simulation) -> None:
        def strike(row: Any) -> None:
            if row.seq == k:
                sim.crash_supervisor(down=0.1)

        sim.on_row = strike

    return arm


def peer_at(k: int, after: float | None) -> Crash:
    """The peer that takes the k-th frame dies: before it takes it (`after` is None), or so many seconds later."""

    def arm(sim: Simulation) -> None:
        seen = 0
        loop = asyncio.get_running_loop()

        def strike(name: str, frame: Any) -> None:
            nonlocal seen
            seen += 1
            if seen != k:
                return
            if after is None:
                sim.crash_peer(name)
            else:
                loop.call_later(after, sim.crash_peer, name, context=outside)

        outside = copy_context()
        sim.on_frame = strike

    return arm


def test_the_orchestrator_dies_after_every_entry(play: Callable[[Crash | None], Played]) -> None:
    undisturbed = play(None)
    for entry in undisturbed.entries:
        crashed = play(engine_at(entry.seq))
        same(crashed, undisturbed, f"entry {entry.seq} {entry.kind}")
        assert max(one.epoch for one in crashed.entries) == 2


def test_the_supervisor_dies_after_every_row(play: Callable[[Crash | None], Played]) -> None:
    undisturbed = play(None)
    for k in range(1, undisturbed.journal + 1):
        same(play(supervisor_at(k)), undisturbed, f"row {k}")


@pytest.mark.parametrize("after", [None, 0.0, 0.015])
def test_every_peer_dies_at_every_frame(play: Callable[[Crash | None], Played], after: float | None) -> None:
    undisturbed = play(None)
    for k, (name, frame) in enumerate(undisturbed.frames, 1):
        more = 1 if name.startswith("models") else 0  # a call in flight at a dead gateway is made once more
        same(play(peer_at(k, after)), undisturbed, f"frame {k}: {frame} at {name}", more)
