"""A task's entries as a run record and as a timeline."""

from typing import Any, get_type_hints

import pytest

from interlock.orchestrator.ledger.folds import _SAY, run_record, timeline
from interlock.schemas import entries as e
from interlock.schemas.record import Outcome, RunRecord, ToolCall

T0 = 1_700_000_000_000_000


def entries(*facts: e.Fact) -> list[e.Entry]:
    return [e.Entry(seq, 1, T0 + seq * 1_500_000, "tsk_7", fact.KIND, fact.encode(), b"") for seq, fact in enumerate(facts, 1)]


ACCEPTED = e.TaskAccepted("billing", "1.0.0", "invoice.request", "1.0.0", {"secret": 1}, {}, "untrusted:mail", "ann")
SENT = e.MessageSent(1, "dsp_1", "1-1", "pricing", ["price 1.0.0"], "untrusted:mail", {"data": "secret"})


def model(effect: str, price: str | None, usage: dict[str, int], error: Any = None, tries: int = 1) -> e.ModelCalled:
    request, response = {"messages": "secret"}, {"choices": "secret"}
    return e.ModelCalled(effect, "dsp_1", "1-1", "gpt", "gpt-1", "http://x", "", request, response, usage, price, 850.4, tries, error)


WHOLE = [
    ACCEPTED,
    SENT,
    model("eff_1", "0.0012", {"input_tokens": 100, "output_tokens": 20}),
    e.ModelCutOff("eff_2", "dsp_1", "models-1", 1, {"tokens": 500, "usd": "0.01", "steps": 1}),
    model("eff_2", "0.00000003", {"input_tokens": 10, "output_tokens": 2}, tries=3),
    e.EffectIntended("eff_3", "dsp_1", "1-1", "read", "get_order", {"a": "secret"}, "d", "k"),
    e.EffectEnded("eff_3", "dsp_1", "1-1", "get_order", True, "secret", 12.5, cut=True),
    e.EffectIntended("eff_4", "dsp_1", "1-1", "write", "pay", {}, "d", "k"),
    e.EffectUnknown("eff_4", "dsp_1", "1-1", "pay", "its replica is gone", "repeat"),
    e.EffectIntended("eff_4", "dsp_1", "1-2", "write", "pay", {}, "d", "k"),
    e.EffectEnded("eff_4", "dsp_1", "1-2", "pay", False, {"code": "tool_failed", "message": "secret"}, 3.0),
    e.EffectRefused("eff_5", "dsp_1", "1-2", "rm", {"code": "tool_refused"}),
    model("eff_6", None, {}, error={"code": "model_failed"}),
    e.MessageReceived(1, "dsp_1", "1-2", "pricing-1", True, "trusted", {"data": "secret"}),
    e.TaskEnded("failed", "exit condition", error={"code": "exit_failed", "message": "exit condition: is_draft does not hold."}),
]


def test_a_run_record_adds_up_what_was_recorded() -> None:
    assert run_record(entries(*WHOLE)) == RunRecord(
        task_id="tsk_7",
        task_type="billing",
        start_time="2023-11-14T22:13:21.500000Z",
        end_time="2023-11-14T22:13:42.500000Z",
        steps=6,  # three answered model calls, one cut off, two tool calls
        input_tokens=110,
        output_tokens=22,
        cut_off_calls=1,
        cut_off_tokens=500,
        cost_usd="0.01120003",
        tool_calls=[ToolCall(tool="get_order", latency_ms=12.5, success=True), ToolCall(tool="pay", latency_ms=3.0, success=False)],
        outcome=Outcome.FAILED,
        error="exit condition: is_draft does not hold.",
    )


def test_the_record_of_a_task_that_goes_on_has_no_end() -> None:
    record = run_record(entries(ACCEPTED, e.EffectIntended("eff_3", "dsp_1", "1-1", "read", "t", {}, "d", "k")))
    assert (record.end_time, record.outcome, record.error, record.steps, record.cost_usd) == (None, None, None, 1, "0")


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        (e.TaskEnded("success", ""), None),
        (e.TaskEnded("killed", "wrong order"), "wrong order"),
        (e.TaskEnded("rejected", "denied", error={"code": "x", "message": "Bob said no."}), "Bob said no."),
    ],
)
def test_the_error_of_a_record(ended: e.TaskEnded, error: str | None) -> None:
    late = e.OrderRecorded("ord_1", "kill", "ann", "too late")
    record = run_record(entries(ACCEPTED, ended, late))
    assert record.error == error
    assert record.end_time == "2023-11-14T22:13:23.000000Z"


def test_an_order_may_stand_before_the_acceptance() -> None:
    record = run_record(entries(e.OrderRecorded("ord_1", "kill", "ann", "early"), ACCEPTED, e.TaskEnded("killed", "early")))
    assert (record.task_type, record.start_time) == ("billing", "2023-11-14T22:13:23.000000Z")


def test_entries_of_no_task_have_no_record() -> None:
    for nothing in ([], [SENT]):
        with pytest.raises(ValueError, match=r"no task\.accepted"):
            run_record(entries(*nothing))


def test_a_timeline_says_who_did_what_at_what_cost() -> None:
    lines = timeline(entries(*WHOLE))
    assert [line.seq for line in lines] == list(range(1, len(WHOLE) + 1))
    assert lines[0].at == "2023-11-14T22:13:21.500000Z"
    assert [line[2:] for line in lines] == [
        ("ann", "submitted billing with invoice.request 1.0.0 [untrusted:mail]", ""),
        ("workflow", "asked pricing [untrusted:mail]", ""),
        ("pricing", "model gpt-1 answered", "100 + 20 tokens, 0.0012 USD, 850 ms"),
        ("pricing", "model call 1 cut off, charged as reserved: gateway models-1 is gone", "500 tokens, 0.01 USD"),
        ("pricing", "model gpt-1 answered at try 3", "10 + 2 tokens, 0.00000003 USD, 850 ms"),
        ("pricing", "begins tool get_order (read)", ""),
        ("pricing", "tool get_order done (result cut)", "12 ms"),
        ("pricing", "begins tool pay (write)", ""),
        ("bus", "whether pay of pricing took effect is unknown: its replica is gone; next: repeat", ""),
        ("pricing", "begins tool pay (write)", ""),
        ("pricing", "tool pay failed: tool_failed", "3 ms"),
        ("bus", "refused tool rm to pricing: tool_refused", ""),
        ("pricing", "model gpt-1 failed: model_failed", "0 + 0 tokens, 850 ms"),
        ("pricing", "replied (degraded)", ""),
        ("bus", "task ended: failed: exit condition", ""),
    ]


@pytest.mark.parametrize("kind", sorted(e.KINDS))
def test_every_kind_has_its_line_and_none_shows_content(kind: str) -> None:
    cls = e.KINDS[kind]
    values: dict[Any, Any] = {int: 3, float: 1.5, str: "word", bool: True, Any: {"message": "secret"}, str | None: "0.1"}
    fact = cls(**{name: values.get(hint, {}) for name, hint in get_type_hints(cls).items() if not name.isupper()})
    (line,) = timeline(entries(fact))
    assert line.who
    assert line.what
    assert "secret" not in str(line)
    assert cls in _SAY
