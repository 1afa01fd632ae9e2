"""Traces: sent to a backend only if `OTEL_*` says so, one trace per task over all actors.

Without `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_TRACES_EXPORTER` nothing is collected and the
OpenTelemetry SDK is not even loaded. Spans say who did what when and how it ended, never what a message, a prompt or an error said.
"""

import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context

from interlock.actors.tracing import next_span_id
from interlock.schemas import spans
from interlock.schemas.ids import span_of, trace_of
from interlock.schemas.record import Outcome

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_next_trace_id: ContextVar[int | None] = ContextVar("next_trace_id", default=None)
_tracer = trace.get_tracer("interlock")


def setup(service: str, environment: Mapping[str, str] | None = None) -> bool:
    """Called by each process at its start: whether that set up an export of its spans. `OTEL_SERVICE_NAME` goes before `service`.

    A process that has set up OpenTelemetry by itself is left alone. `OTEL_TRACES_EXPORTER` is `otlp` (the default where an endpoint is
    set), `console` (on stderr) or `none`.
    """
    environment = os.environ if environment is None else environment
    exporters = _exporters(environment)
    if not exporters or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return False
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    processors = [BatchSpanProcessor(_exporter(name)) for name in exporters]
    trace.set_tracer_provider(provider(environment.get("OTEL_SERVICE_NAME") or service, *processors))
    return True


def _exporters(environment: Mapping[str, str]) -> list[str]:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    asked = environment.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    return [name for name in (part.strip() for part in asked.split(",")) if name in ("otlp", "console")]


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def provider(service: str, *processors: "SpanProcessor") -> "TracerProvider":
    """A provider whose spans have the ids that follow from their names."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class NamedIds(RandomIdGenerator):
        """The id that `next_span_id` holds, else a random one. Trace ids of tasks are hashes, as good as random for sampling."""

        def generate_span_id(self) -> int:
            return next_span_id.get() or super().generate_span_id()

        def generate_trace_id(self) -> int:
            return _next_trace_id.get() or super().generate_trace_id()

    made = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=NamedIds())
    for processor in processors:
        made.add_span_processor(processor)
    return made


def task_span(task: str, type: str, start_us: int, end_us: int, outcome: str) -> None:
    """The span of a task's whole workflow, above all others of its trace; made once the task has ended, from what the ledger says."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody collects: cost nothing
        return
    span_id, trace_id = next_span_id.set(int(span_of(task), 16)), _next_trace_id.set(int(trace_of(task), 16))
    attributes = {spans.OPERATION: "invoke_workflow", spans.TASK_ID: task, spans.TASK_TYPE: type, spans.TASK_OUTCOME: outcome}
    try:
        name = spans.WORKFLOW.format(name=type)
        span = _tracer.start_span(name, Context(), attributes=attributes, start_time=start_us * 1000)
    finally:
        next_span_id.reset(span_id)
        _next_trace_id.reset(trace_id)
    if outcome != Outcome.SUCCESS:
        span.set_attribute(spans.ERROR_TYPE, outcome)
        span.set_status(trace.StatusCode.ERROR)
    span.end(end_us * 1000)
