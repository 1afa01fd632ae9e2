"""SIGKILL of each actor in the middle of a task, on Ray: the end is as if nothing had happened.

What a local bus proves at every single entry is tried here at a sample, with real processes and a real restart by Ray.
"""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray

from interlock import App, Bus, Outcome
from interlock.actors.board import read
from interlock.cluster.config import ORCHESTRATOR, SUPERVISOR
from interlock.launch import run_dir
from interlock.settings import ModelSettings
from interlock.testing.scripted_model import ScriptedModel

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

NAME = "crash"
MODEL_CALLS = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bus")


@pytest.fixture(scope="module")
def bus(invoicing: tuple[App, Path], invoicing_model: ScriptedModel, home: Path) -> Iterator[Bus]:
    model = ModelSettings(base_url=invoicing_model.base_url, model="scripted-1")
    with Bus.start(invoicing[0], model=model, folder=home, name=NAME) as bus:
        bus.submit_json("invoice_generation", {"order_id": "7294"}).result(timeout=60)
        yield bus


def process_of(bus: Bus, home: Path, actor: str) -> int:
    """The process id of a trusted actor by asking it, of a peer by its board."""
    if actor in (ORCHESTRATOR, SUPERVISOR):
        _, pid = ray.get(ray.get_actor(actor, namespace=NAME).ping.remote())
        assert isinstance(pid, int)
        return pid
    deadline = time.monotonic() + 60  # the one that was killed before may not have its successor yet
    while not (members := bus.status()["pools"].get(actor)):
        assert time.monotonic() < deadline, f"there is no {actor} any more"
        time.sleep(0.05)
    (incarnation,) = members
    view = read(run_dir(home, NAME) / f"{incarnation}.board")
    assert view is not None
    return view.owner.pid


def rows(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM invoices").fetchall()


@pytest.mark.parametrize("at", ["message.received", "effect.intended"])
@pytest.mark.parametrize("actor", [ORCHESTRATOR, SUPERVISOR, "runners", "pricing", "invoicing"])
def test_a_killed_actor_changes_nothing(
    bus: Bus, home: Path, invoicing: tuple[App, Path], invoicing_model: ScriptedModel, actor: str, at: str
) -> None:
    before, undisturbed = invoicing_model.count, rows(invoicing[1])
    pid = process_of(bus, home, actor)
    task = bus.submit_json("invoice_generation", {"order_id": "7294"})
    for event in task.events():
        if event.kind == at:
            os.kill(pid, signal.SIGKILL)
            break
    result = task.result(timeout=60)
    assert result == {"number": "INV-7294", "order_id": "7294", "total": "159.00", "status": "draft"}
    assert rows(invoicing[1]) == undisturbed
    assert invoicing_model.count - before == MODEL_CALLS, "no model call is made twice"
    assert task.record().outcome is Outcome.SUCCESS


def test_a_dead_gateway_costs_at_most_the_call_that_it_was_making(bus: Bus, home: Path, invoicing_model: ScriptedModel) -> None:
    before = invoicing_model.count
    pid = process_of(bus, home, "models")
    task = bus.submit_json("invoice_generation", {"order_id": "7294"})
    for event in task.events():
        if event.kind == "model.called":
            os.kill(pid, signal.SIGKILL)
            break
    assert task.result(timeout=60)["status"] == "draft"
    assert invoicing_model.count - before in (MODEL_CALLS, MODEL_CALLS + 1)


def test_the_ledger_of_all_this_is_whole(bus: Bus) -> None:
    assert bus.verify() > 100
