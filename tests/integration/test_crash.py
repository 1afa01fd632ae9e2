"""SIGKILL of each actor in the middle of a task, on Ray: the end is as if nothing had happened.

What a local bus proves at every single entry is tried here at a sample, with real processes and a real restart by Ray.
"""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from interlock import App, Outcome
from interlock.cluster.config import ORCHESTRATOR, SUPERVISOR
from interlock.testing.scripted_model import ScriptedModel

pytestmark = pytest.mark.ray

MODEL_CALLS = 3


def process_of(billing: Stage, actor: str) -> int:
    return billing.process(actor) if actor in (ORCHESTRATOR, SUPERVISOR) else billing.member(actor)


def rows(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM invoices").fetchall()


@pytest.mark.parametrize("at", ["message.received", "effect.intended"])
@pytest.mark.parametrize("actor", [ORCHESTRATOR, SUPERVISOR, "runners", "pricing", "invoicing"])
def test_a_killed_actor_changes_nothing(
    billing: Stage, invoicing: tuple[App, Path], invoicing_model: ScriptedModel, actor: str, at: str
) -> None:
    pid = process_of(billing, actor)
    before, undisturbed = invoicing_model.count, rows(invoicing[1])
    assert len(undisturbed) == 1
    task = billing.bus.submit_json("invoice_generation", {"order_id": "7294"})
    for event in task.events():
        if event.kind == at:
            os.kill(pid, signal.SIGKILL)
            break
    result = task.result(timeout=60)
    assert result == {"number": "INV-7294", "order_id": "7294", "total": "159.00", "status": "draft"}
    assert rows(invoicing[1]) == undisturbed
    assert invoicing_model.count - before == MODEL_CALLS, "no model call is made twice"
    assert task.record().outcome is Outcome.SUCCESS


def test_a_dead_gateway_costs_at_most_the_call_that_it_was_making(billing: Stage, invoicing_model: ScriptedModel) -> None:
    before = invoicing_model.count
    pid = billing.member("models")
    task = billing.bus.submit_json("invoice_generation", {"order_id": "7294"})
    for event in task.events():
        if event.kind == "model.called":
            os.kill(pid, signal.SIGKILL)
            break
    assert task.result(timeout=60)["status"] == "draft"
    assert invoicing_model.count - before in (MODEL_CALLS, MODEL_CALLS + 1)


def test_the_ledger_of_all_this_is_whole(billing: Stage) -> None:
    assert billing.bus.verify() > 100
