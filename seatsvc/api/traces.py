"""OpenTelemetry, where its own variables ask for it and its packages are there."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from types import ModuleType

from starlette.types import ASGIApp

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

log = logging.getLogger(__name__)


def traced(app: ASGIApp) -> ASGIApp:
    """The app, with a span for each request if somebody takes them."""
    spans = _spans()
    return spans.Traced(app) if spans else app


@asynccontextmanager
async def exporting() -> AsyncIterator[None]:
    """Send the spans, if somebody takes them, until the block ends."""
    spans = _spans()
    if spans is None:
        if wanted():
            log.warning("no traces: their packages are missing. pip install 'seatsvc[otel]'")
        yield
        return
    with spans.exporting():
        yield


def wanted() -> bool:
    """Do OpenTelemetry's variables ask for traces?"""
    asked = any(os.environ.get(name) for name in ENDPOINTS)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return asked and exporter == "otlp" and not disabled


@cache
def _spans() -> ModuleType | None:
    """What makes them. Imported only where it is wanted: it takes time and memory."""
    if not wanted():
        return None
    try:
        from seatsvc.api import spans
    except ImportError:
        return None
    return spans
