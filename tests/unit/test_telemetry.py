"""Traces: one per task over all actors, each span below the right one, nothing of what was said, and nothing at all unless asked for."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interlock import LocalBus, telemetry
from interlock.actors import tracing
from interlock.actors.models import call
from interlock.loading import load_app
from interlock.schemas.ids import span_of, trace_of
from interlock.settings import ModelSettings
from interlock.testing.scripted_model import ScriptedModel

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "invoicing"
SECRET = "Grace's private remark"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What this process exports, without touching the provider of the whole process."""
    exporter = InMemorySpanExporter()
    provider = telemetry.provider("tests", SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    for module in (telemetry, tracing, call):
        monkeypatch.setattr(module, "_tracer", provider.get_tracer("interlock"))
    return exporter


@pytest.fixture
def bus(exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalBus]:
    monkeypatch.setenv("INVOICING_DB", str(tmp_path / "orders.db"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    app = load_app(f"{EXAMPLE}/app.py:app")
    example = sys.modules[next(name for name in sys.modules if name.startswith("interlock_app_") and vars(sys.modules[name])["app"] is app)]
    example.make_database(tmp_path / "orders.db")
    with (
        ScriptedModel.start(EXAMPLE / "playbook.json") as model,
        LocalBus(example.make_app(tmp_path / "orders.db"), model=ModelSettings(base_url=model.base_url, model="scripted-1")) as running,
    ):
        yield running


def _tree(spans: list[ReadableSpan]) -> list[tuple[str, str]]:
    """Every span's name with its parent's, in order of start."""
    names = {span.context.span_id: span.name for span in spans if span.context is not None}
    assert len(names) == len(spans), "two spans share an id"
    ordered = sorted(spans, key=lambda span: span.start_time or 0)
    return [(span.name, names.get(span.parent.span_id, "?") if span.parent else "") for span in ordered]


def test_one_trace_per_task_over_all_actors(bus: LocalBus, exported: InMemorySpanExporter) -> None:
    task = bus.submit_json("invoice_generation", {"order_id": "7294", "note": SECRET}, id="order-7294")
    task.result(timeout=20)
    spans = list(exported.get_finished_spans())
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {trace_of("tsk_order-7294")}
    assert _tree(spans) == [
        ("workflow invoice_generation", ""),
        ("invoke_agent pricing", "workflow invoice_generation"),
        ("execute_tool get_order", "invoke_agent pricing"),
        ("invoke_agent invoicing", "workflow invoice_generation"),
        ("chat scripted-1", "invoke_agent invoicing"),
        ("execute_tool create_invoice", "invoke_agent invoicing"),
        ("chat scripted-1", "invoke_agent invoicing"),
        ("execute_tool notify_finance", "invoke_agent invoicing"),
        ("chat scripted-1", "invoke_agent invoicing"),
    ]
    workflow = next(span for span in spans if span.name.startswith("workflow"))
    assert workflow.context is not None
    assert f"{workflow.context.span_id:016x}" == span_of("tsk_order-7294")
    record = task.record()
    began, ended = workflow.start_time or 0, workflow.end_time or 0
    assert [ended - began] == [
        1000 * round(1e6 * (_seconds(record.end_time or "") - _seconds(record.start_time))),
    ]
    assert dict(workflow.attributes or {}) == {
        "gen_ai.operation.name": "invoke_workflow",
        "interlock.task.id": "tsk_order-7294",
        "interlock.task.type": "invoice_generation",
        "interlock.task.outcome": "success",
    }


def _seconds(text: str) -> float:
    minutes, seconds = text.removesuffix("Z").split(":")[1:]
    return int(minutes) * 60 + float(seconds)


def test_nothing_of_what_was_said_is_exported(bus: LocalBus, exported: InMemorySpanExporter) -> None:
    bus.submit_json("invoice_generation", {"order_id": "7294", "note": SECRET}).outcome(timeout=20)
    bus.submit_json("invoice_generation", {"order_id": SECRET}).outcome(timeout=20)
    spans = exported.get_finished_spans()
    failed = [span for span in spans if span.status.status_code is trace.StatusCode.ERROR]
    assert {span.name for span in failed} == {"execute_tool get_order", "invoke_agent pricing", "workflow invoice_generation"}
    assert {str((span.attributes or {})["error.type"]) for span in failed} == {"tool_failed", "failed"}
    whole = "".join(span.to_json() for span in spans)
    for said in (SECRET, "159.00", "Desk", "INV-", "You are the agent", "LookupError"):
        assert said not in whole
    assert [span.events for span in spans if span.events] == []


def test_a_span_of_the_users_own_code_hangs_below_with_an_id_of_its_own(exported: InMemorySpanExporter) -> None:
    users = tracing._tracer
    with tracing.span("outer", "tsk_1", own=("1-1",)), users.start_as_current_span("mine"), users.start_as_current_span("deeper"):
        pass
    telemetry.task_span("tsk_1", "t", 0, 10**18 // 1000, "killed")
    assert _tree(list(exported.get_finished_spans())) == [
        ("workflow t", ""),
        ("outer", "workflow t"),
        ("mine", "outer"),
        ("deeper", "mine"),
    ]


CHILD = """
import json, sys
from interlock import telemetry
from interlock.actors.tracing import span
made = telemetry.setup("interlock-tests")
again = telemetry.setup("interlock-other")
with span("outer", "tsk_1"): pass
telemetry.task_span("tsk_1", "t", 0, 1, "success")
print(json.dumps([made, again, "opentelemetry.sdk.trace" in sys.modules]))
"""


def _process(**environment: str) -> tuple[list[bool], str]:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=60, env=environment)
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "mine"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
    ],
    ids=str,
)
def test_nothing_is_collected_unless_asked_for(environment: dict[str, str]) -> None:
    assert _process(**environment) == ([False, False, False], "")


def test_a_process_exports_where_it_is_told_to() -> None:
    said, err = _process(OTEL_TRACES_EXPORTER="console")
    assert said == [True, False, True]
    assert err.count(f'"trace_id": "0x{trace_of("tsk_1")}"') == 2
    assert '"service.name": "interlock-tests"' in err


def test_spans_reach_an_endpoint() -> None:
    """Over HTTP, as OTLP: a collector hears of both spans."""
    heard: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        _process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_COMPRESSION="none", OTEL_SERVICE_NAME="named-by-env")
        server.shutdown()
        thread.join()
    assert [path for path, _ in heard] == ["/v1/traces"]
    assert all(part in heard[0][1] for part in (b"named-by-env", b"outer", b"workflow t", bytes.fromhex(trace_of("tsk_1"))))
