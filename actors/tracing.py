"""Spans whose ids follow from names, so that one trace per task hangs together over all actors without asking anybody.

The trace id is the task's, a span that others hang below has an id derived from its name. Uses the OpenTelemetry API only: nothing is
collected unless the process set up an exporter (`interlock/telemetry.py`). What an error says may be what a message said, so a span tells
its type and nothing else of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanContext, TraceFlags

from interlock.schemas import spans
from interlock.schemas.errors import InterlockError
from interlock.schemas.ids import span_of, trace_of

next_span_id: ContextVar[int | None] = ContextVar("next_span_id", default=None)
"""The id of the span that is being started; `interlock/telemetry.py` installs the generator that reads it."""

_tracer = trace.get_tracer("interlock")


def collected() -> bool:
    """Whether somebody collects spans; where nobody does, what is made for every message need not ask for one."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


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
    if not collected():
        yield INVALID_SPAN
        return
    above = SpanContext(int(trace_of(task), 16), int(span_of(*(parent or (task,))), 16), True, TraceFlags(TraceFlags.SAMPLED))
    context = trace.set_span_in_context(NonRecordingSpan(above))
    token = next_span_id.set(int(span_of(*own), 16) if own else None)
    try:
        started = _tracer.start_span(name, context, attributes={spans.TASK_ID: task, **(attributes or {})})
    finally:
        next_span_id.reset(token)  # a span that user code starts below this one has an id of its own
    with trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False) as current:
        try:
            yield current
        except Exception as error:
            fail(current, error.code if isinstance(error, InterlockError) else type(error).__name__)
            raise


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed, by the error's code alone."""
    span.set_attribute(spans.ERROR_TYPE, kind)
    span.set_status(trace.StatusCode.ERROR)
