"""What operators see: one JSON line a request, each request's id, and the trace it belongs to."""

import asyncio
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO

import asyncpg


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that a request belongs to, and who sent the request in it; as W3C writes both."""

    trace_id: str
    parent_id: str  # empty: the trace began here
    traceparent: str = ""
    tracestate: str = ""


request_id: ContextVar[str] = ContextVar("request_id", default="")
trace: ContextVar[Trace | None] = ContextVar("trace", default=None)
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
        if found := trace.get():
            line["trace_id"] = found.trace_id
            if found.parent_id:
                line["parent_id"] = found.parent_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


LEVEL_COLORS = {"info": 36, "warning": 33, "error": 31, "critical": 31}  # cyan, yellow, red
STATUS_COLORS = {2: 32, 3: 36, 4: 33, 5: 31}  # by the status' hundreds; 32 is green


class PlainLines(Discreet):
    """For a person at a terminal, which may show colours."""

    def __init__(self, *, colored: bool = False) -> None:
        super().__init__()
        self._colored = colored

    def format(self, record: logging.LogRecord) -> str:
        """One line, and below it the exception."""
        text = f"{self.head(record.created, record.levelname.lower())} {record.getMessage()}"
        if fields := getattr(record, "fields", None):
            text += " " + " ".join(str(value) for value in fields.values())
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text

    def head(self, seconds: float, level: str) -> str:
        """When, and how bad."""
        return f"{_clock(seconds)} {self._in_color(f'{level:<7}', LEVEL_COLORS.get(level))}"

    def status(self, status: int) -> str:
        """A status of HTTP."""
        return self._in_color(str(status), STATUS_COLORS.get(status // 100))

    def _in_color(self, text: str, color: int | None) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._colored and color else text


def _shows_colors(stream: TextIO) -> bool:
    """Is it a terminal that can show them, and nobody asked for none (no-color.org)?"""
    able = os.environ.get("TERM", "dumb") != "dumb"
    return stream.isatty() and able and not os.environ.get("NO_COLOR")


class Lines(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop together, however the stream is buffered."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """As Python does."""
        try:
            self.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def write(self, line: str) -> None:
        """A formatted line: at the end of this turn, or at once where there is no loop."""
        self.acquire()
        self._waiting.append(line)
        first = len(self._waiting) == 1
        self.release()
        if not first:
            return
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self.acquire()
        try:
            waiting, self._waiting = self._waiting, []
            if waiting and not self.stream.closed:
                self.stream.write("".join(waiting))
                super().flush()
        finally:
            self.release()


lines = Lines(sys.stdout)


def configure_logging() -> None:
    """All logs to standard output: JSON lines, or plain ones on a terminal."""
    # What no line of ours shows need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    lines.setStream(sys.stdout)
    colored = _shows_colors(sys.stdout)
    lines.setFormatter(PlainLines(colored=colored) if sys.stdout.isatty() else JsonLines())
    root = logging.getLogger()
    root.handlers = [lines]
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").handlers = []
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def log_request(method: str, route: str, status: int, seconds: float, user_id: object) -> None:
    """The line of a request: of what is safe to write as it is.

    A log record for each would cost a tenth of what a busy worker can do.
    """
    now, duration_ms = time.time(), round(seconds * 1000, 2)
    if isinstance(plain := lines.formatter, PlainLines):
        user = f" {user_id}" if user_id else ""
        told = f"{method} {route} {plain.status(status)} {duration_ms}{user}"
        lines.write(f"{plain.head(now, 'info')} {told}\n")
        return
    user = f', "user_id": "{user_id}"' if user_id else ""
    lines.write(
        f'{{"time": "{_second(int(now))}.{int(now % 1 * 1000):03d}Z", "level": "info", '
        f'"logger": "seatsvc.access", "message": "request", "method": "{method}", '
        f'"route": "{route}", "status": {status}, "duration_ms": {duration_ms}{user}, '
        f'"request_id": "{request_id.get()}"{_trace_fields()}}}\n'
    )


def _trace_fields() -> str:
    found = trace.get()
    if found is None:
        return ""
    parent = f', "parent_id": "{found.parent_id}"' if found.parent_id else ""
    return f', "trace_id": "{found.trace_id}"{parent}'
