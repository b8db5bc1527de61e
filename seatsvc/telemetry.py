"""What operators see: one JSON line a request, and each request's id."""

import asyncio
import json
import logging
import re
import secrets
import sys
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO

import asyncpg
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

request_id: ContextVar[str] = ContextVar("request_id", default="")
access_log = logging.getLogger("seatsvc.access")
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Discreet(logging.Formatter):
    """Writes where an error came from, but not the values that its message quotes.

    PostgreSQL quotes whole rows, and validation its input: addresses, passwords, hashes.
    """

    def formatException(self, ei: Raised) -> str:
        """As Python does."""
        return "".join(_told(ei[1], set())).rstrip() if ei[1] else ""


def _told(error: BaseException, told: set[int]) -> Iterator[str]:
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _told(before, told)
        yield "\nwhich led to:\n\n"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _told(each, told)
            yield "\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_said(error)}\n"


def _said(error: BaseException) -> str:
    if isinstance(error, asyncpg.DataError):
        return f"a value that PostgreSQL does not take (SQLSTATE {error.sqlstate})"
    if isinstance(error, asyncpg.PostgresError):
        return str(error.args[0]) if error.args else ""
    if callable(errors := getattr(error, "errors", None)):
        return "; ".join(f"{each['loc']}: {each['type']}" for each in errors())
    return str(error)


class JsonLines(Discreet):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if current := request_id.get():
            line["request_id"] = current
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class PlainLines(Discreet):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.levelname.lower():<7} {record.getMessage()}"
        if fields := getattr(record, "fields", None):
            text += " " + " ".join(str(value) for value in fields.values())
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class Lines(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop together."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._due = False

    def flush(self) -> None:
        """At the end of this turn; at once where there is no loop."""
        if self._due:
            return
        try:
            asyncio.get_running_loop().call_soon(self._write)
            self._due = True
        except RuntimeError:
            super().flush()

    def _write(self) -> None:
        self._due = False
        super().flush()


def configure_logging() -> None:
    """All logs to standard output: JSON lines, or plain ones on a terminal."""
    # What no line of ours shows need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = Lines(sys.stdout)
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
        own = b"x-request-id", current.encode()
        started_at, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], own]
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
    if user_id := scope.get("user_id"):
        fields["user_id"] = user_id
    # As `info` does, but without looking up which line of code this is.
    here = access_log.name, logging.INFO, "", 0
    access_log.handle(access_log.makeRecord(*here, "request", (), None, extra={"fields": fields}))
