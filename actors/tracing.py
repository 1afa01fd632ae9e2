"""Spans whose ids follow from names, so that one trace per task hangs together over all actors without asking anybody.

The trace id is the task's, a span that others hang below has an id derived from its name. Uses the OpenTelemetry API only: nothing is
collected unless the process set up an exporter (`interlock/telemetry.py`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

from interlock.schemas.ids import span_of, trace_of

next_span_id: ContextVar[int | None] = ContextVar("next_span_id", default=None)
"""The id that the next span of this context gets; `interlock/telemetry.py` installs the generator that reads it."""

_tracer = trace.get_tracer("interlock")


@contextmanager
def span(
    name: str,
    task: str,
    *,
    own: tuple[str | int, ...] = (),
    parent: tuple[str | int, ...] = (),
    attributes: Mapping[str, str] | None = None,
) -> Iterator[Span]:
    """A span of a task's trace, below the one named `parent` (default: the task's workflow). `own` names it for others."""
    above = SpanContext(int(trace_of(task), 16), int(span_of(*(parent or (task,))), 16), True, TraceFlags(TraceFlags.SAMPLED))
    context = trace.set_span_in_context(NonRecordingSpan(above))
    token = next_span_id.set(int(span_of(*own), 16) if own else None)
    try:
        with _tracer.start_as_current_span(name, context, attributes=dict(attributes or {})) as current:
            yield current
    finally:
        next_span_id.reset(token)
