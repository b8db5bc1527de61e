"""Spans for OpenTelemetry: one for each request, and below it those of PostgreSQL and Redis.

Needs the extra `otel`. What may be sent where, how often and of how many requests is told by
OpenTelemetry's own variables, which its packages read.
"""

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.utils import (
    is_instrumentation_enabled,
    suppress_instrumentation,
    unwrap,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from wrapt import wrap_function_wrapper

from seatsvc import __version__, pipe
from seatsvc.telemetry import Trace, request_id, trace

FLUSH_S = 1.0
ERROR_TYPE = "exception.type"
PROPAGATOR = TraceContextTextMapPropagator()


def _resource() -> Resource:
    found = Resource.create({SERVICE_VERSION: __version__})
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: "seatsvc"}))
    return found


# Not the global one: nobody else's spans go out, nor does the framework make its own.
PROVIDER = TracerProvider(resource=_resource(), shutdown_on_exit=False)
TRACER = PROVIDER.get_tracer("seatsvc", __version__)


class Discreet(OTLPSpanExporter):
    """Sends which errors there were, but not the values that their messages quote."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As OpenTelemetry's."""
        return super().export([_without_messages(span) for span in spans])


def _without_messages(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_without_message(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_message(event: Event) -> Event:
    kind = (event.attributes or {}).get(ERROR_TYPE, "")
    return Event(event.name, {ERROR_TYPE: kind}, event.timestamp)


@contextmanager
def exporting() -> Iterator[None]:
    """Make spans of the calls to PostgreSQL and Redis, too, and send all, until the block ends.

    What the block itself does, and what it starts, makes none: it belongs to no request.
    """
    postgresql = AsyncPGInstrumentor()
    PROVIDER.add_span_processor(BatchSpanProcessor(Discreet()))
    postgresql.instrument(tracer_provider=PROVIDER)
    wrap_function_wrapper(pipe, "Pipe.ask", _ask)
    try:
        with suppress_instrumentation():
            yield
    finally:
        unwrap(pipe.Pipe, "ask")
        postgresql.uninstrument()
        _flush()


async def _ask(
    ask: Callable[[Sequence[pipe.Command]], Awaitable[list[Any]]],
    _: pipe.Pipe,
    args: tuple[Sequence[pipe.Command]],
    __: dict[str, Any],
) -> list[Any]:
    """Without the commands' arguments, as who has which seat is nobody's business."""
    if not is_instrumentation_enabled():
        return await ask(*args)
    about: dict[str, str | int] = {"db.system": "redis", "db.operation.batch.size": len(args[0])}
    with TRACER.start_as_current_span(str(args[0][0][0]), kind=SpanKind.CLIENT, attributes=about):
        return await ask(*args)


def _flush() -> None:
    """Send what is left, but let nobody who does not answer keep the process from its end."""
    last = threading.Thread(target=PROVIDER.shutdown, daemon=True)
    last.start()
    last.join(FLUSH_S)


class Traced:
    """A span for each request, of what its line in the log tells."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with TRACER.start_as_current_span(
            scope["method"],
            _parent(),
            SpanKind.SERVER,
            {"http.request.method": scope["method"], "url.scheme": scope["scheme"]},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if trace.get() is None:
                trace.set(Trace(format_trace_id(span.get_span_context().trace_id), ""))
            try:
                await self._app(scope, receive, watched)
            finally:
                _complete(span, scope, status)


def _parent() -> Context:
    found = trace.get()
    if found is None:
        return Context()
    carrier = {"traceparent": found.traceparent, "tracestate": found.tracestate}
    return PROPAGATOR.extract(carrier, Context())


def _complete(span: Span, scope: Scope, status: int) -> None:
    span.set_attribute("seatsvc.request_id", request_id.get())
    span.set_attribute("http.response.status_code", status)
    if route := getattr(scope.get("route"), "path", None):
        span.set_attribute("http.route", route)
        span.update_name(f"{scope['method']} {route}")
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
