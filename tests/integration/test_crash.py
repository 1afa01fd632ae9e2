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
from interlock.schemas.canonical import encode
from interlock.schemas.entries import EffectEnded, EffectIntended
from interlock.testing.scripted_model import ScriptedModel

pytestmark = pytest.mark.ray

MODEL_CALLS = 3


def process_of(billing: Stage, actor: str) -> int:
    return billing.process(actor) if actor in (ORCHESTRATOR, SUPERVISOR) else billing.member(actor)


def rows(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM invoices").fetchall()


@pytest.mark.parametrize("actor", [ORCHESTRATOR, SUPERVISOR, "runners", "pricing", "invoicing"])
def test_a_killed_actor_changes_nothing(billing: Stage, invoicing: tuple[App, Path], invoicing_model: ScriptedModel, actor: str) -> None:
    pid = process_of(billing, actor)
    before, undisturbed = invoicing_model.count, rows(invoicing[1])
    assert len(undisturbed) == 1
    task = billing.bus.submit_json("invoice_generation", {"order_id": "7294"})
    for event in task.events():
        if event.kind == EffectIntended.KIND:
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


def place_order(path: Path, order: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO orders VALUES (?, 'Ada', 'confirmed')", (order,))
        db.execute("INSERT INTO items VALUES (?, 'Desk', 1, '120.00')", (order,))


def ends_of(task: Any) -> list[EffectEnded]:
    facts = [event.fact for event in task.events()]
    return [fact for fact in facts if isinstance(fact, EffectEnded) and fact.tool == "create_invoice"]


@pytest.mark.parametrize("at", [EffectIntended, EffectEnded], ids=["after intent", "after the result"])
@pytest.mark.parametrize("actor", [ORCHESTRATOR, "invoicing"])
def test_a_new_order_is_invoiced_once_whoever_is_killed_and_a_duplicate_gets_the_first_result(
    billing: Stage, invoicing: tuple[App, Path], actor: str, at: type[Any]
) -> None:
    order = f"{actor}-{at.KIND}".replace(".", "-")
    place_order(invoicing[1], order)
    pid = process_of(billing, actor)
    first = billing.bus.submit_json("invoice_generation", {"order_id": order})
    for event in first.events():
        if isinstance(event.fact, at) and event.fact.tool == "create_invoice":
            os.kill(pid, signal.SIGKILL)
            break
    result = first.result(timeout=60)
    second = billing.bus.submit_json("invoice_generation", {"order_id": order})
    assert second.result(timeout=60) == result
    assert [row for row in rows(invoicing[1]) if row[0] == order] == [(order, f"INV-{order}", "120.00", "draft")]
    (done,), (remembered,) = ends_of(first), ends_of(second)
    assert remembered.same_as == done.effect
    assert encode(remembered.value) == encode(done.value)
