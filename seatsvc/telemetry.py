"""What operators see: one JSON line a request, and each request's id."""

import json
import logging
import re
import secrets
import sys
import time
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

request_id: ContextVar[str] = ContextVar("request_id", default="")
access_log = logging.getLogger("seatsvc.access")


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if current := request_id.get():
            line["request_id"] = current
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.levelname.lower():<7} {record.getMessage()}"
        if fields := getattr(record, "fields", None):
            text += " " + " ".join(str(value) for value in fields.values())
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def configure_logging() -> None:
    """All logs to standard output: JSON lines, or plain ones on a terminal."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(PlainLines() if sys.stdout.isatty() else JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").handlers = []
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class RequestLog:
    """Gives each request an id, returns it, and writes the request's line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        current = _request_id(scope)
        request_id.set(current)
        started_at, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = current
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _write_line(scope, status, time.perf_counter() - started_at)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(8)


def _write_line(scope: Scope, status: int, seconds: float) -> None:
    route = scope.get("route")
    fields = {
        "method": scope["method"],
        "route": getattr(route, "path", None) or "unmatched",
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
    }
    access_log.info("request", extra={"fields": fields})
