"""The invoicing example on Ray: the same app that runs on a local bus, in processes of its own."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from stage import Stage

from interlock import App, Outcome, Refused, TaskFailed
from interlock.schemas.errors import IncompatibleContract, UnknownAgent, UnknownTask
from interlock.testing.scripted_model import ScriptedModel

pytestmark = pytest.mark.ray


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        ((count,),) = db.execute(f"SELECT count(*) FROM {table}").fetchall()
    assert isinstance(count, int)
    return count


def test_an_order_becomes_one_draft_however_often_it_is_submitted(
    billing: Stage, invoicing: tuple[App, Path], invoicing_model: ScriptedModel
) -> None:
    before, invoices, notices = invoicing_model.count, rows(invoicing[1], "invoices"), rows(invoicing[1], "notices")
    task = billing.bus.submit_json("invoice_generation", {"order_id": "7294"}, id="order-7294")
    again = billing.bus.submit_json("invoice_generation", {"order_id": "7294"}, id="order-7294")
    result = task.result(timeout=60)
    assert (result["number"], result["total"], result["status"]) == ("INV-7294", "159.00", "draft")
    assert again.id == task.id
    assert again.result(timeout=10) == result
    assert (rows(invoicing[1], "invoices"), rows(invoicing[1], "notices")) == (invoices, notices + 1)
    assert invoicing_model.count - before == 3
    record = task.record()
    invoiced = any(
        event.kind == "effect.intended" and getattr(event.fact, "tool", "") == "create_invoice" for event in task.events()
    )  # else by a test before
    assert (record.outcome, record.steps) == (Outcome.SUCCESS, 6 if invoiced else 5)
    assert [call.tool for call in record.tool_calls] == ["get_order", "create_invoice", "notify_finance"]
    assert record.input_tokens > 0
    assert record.output_tokens > 0


def test_events_tell_a_task_from_its_acceptance_to_its_end(billing: Stage) -> None:
    task = billing.bus.submit_json("invoice_generation", {"order_id": "7294"})
    kinds = [event.kind for event in task.events()]
    assert (kinds[0], kinds[-1]) == ("task.accepted", "task.ended")
    assert kinds.count("message.sent") == kinds.count("message.received") == 2
    assert kinds.count("model.called") == 3


def test_a_failure_far_away_comes_back_in_words(billing: Stage) -> None:
    task = billing.bus.submit_json("invoice_generation", {"order_id": "1"})
    with pytest.raises(TaskFailed, match=r"there is no order 1; there are 7294, 7295"):
        task.result(timeout=60)


@pytest.mark.parametrize(
    ("task_type", "request_data", "problem"),
    [
        ("nonsense", {}, "No workflow is called 'nonsense'. This bus runs: invoice_generation"),
        ("invoice_generation", {"order": "7294"}, "invoice.request 1.0.0 refuses this message"),
        ("invoice_generation", {}, "invoice.request 1.0.0 refuses this message"),
    ],
)
def test_bad_input_is_refused_and_loses_nothing(billing: Stage, task_type: str, request_data: dict[str, str], problem: str) -> None:
    before = len(billing.bus.tasks())
    with pytest.raises(Refused, match=problem):
        billing.bus.submit_json(task_type, request_data)
    assert len(billing.bus.tasks()) == before


def test_who_is_not_known_is_said(billing: Stage) -> None:
    with pytest.raises(UnknownTask):
        billing.bus.task("never-seen").record()
    with pytest.raises(UnknownAgent):
        billing.bus.scale("nobody", 2)


def test_a_pool_grows_and_shrinks_while_work_goes_on(billing: Stage) -> None:
    billing.bus.scale("pricing", 3)
    tasks = [billing.bus.submit_json("invoice_generation", {"order_id": "7294"}) for _ in range(6)]
    billing.bus.scale("pricing", 1)
    assert {task.outcome(timeout=60) for task in tasks} == {Outcome.SUCCESS}


def test_a_new_version_that_breaks_readers_is_refused(billing: Stage) -> None:
    schema = {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"], "additionalProperties": False}
    with pytest.raises(IncompatibleContract):
        billing.bus.contracts.register_schema("invoice.request", "1.1.0", schema)
    wider = {**schema, "properties": {**schema["properties"], "note": {"type": "string"}, "express": {"type": "boolean"}}}  # type: ignore[dict-item]
    assert billing.bus.contracts.register_schema("invoice.request", "1.1.0", wider)
    assert not billing.bus.contracts.register_schema("invoice.request", "1.1.0", wider)


def test_the_ledger_of_all_this_is_whole(billing: Stage) -> None:
    assert billing.bus.verify() > 50
