"""Traces for OpenTelemetry: a real service sends them to a real receiver on loopback."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from seatsvc.api import traces
from seatsvc.settings import Settings
from tests.conftest import PASSWORD, until
from tests.test_races_workers import client_of, worker
from tests.test_traces import PARENT, TRACE, VALID

EXIT_S = 10
CHORES_S = 0.7
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# Raises where a package of the extra is imported, as if it were not installed.
WITHOUT_PACKAGES = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


@dataclass
class Receiver:
    """What a collector was sent."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def requests(self) -> list[ExportTraceServiceRequest]:
        """Each as it came."""
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    def spans(self) -> list[Span]:
        """All of them."""
        return [
            span
            for request in self.requests()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        """Those of a request, or of a statement."""
        return [span for span in self.spans() if span.name == name]

    async def one(self, name: str) -> Span:
        """The only one, once it was sent."""

        async def sent() -> bool:
            return bool(self.named(name))

        await until(sent)
        [span] = self.named(name)
        return span

    def below(self, span: Span) -> set[str]:
        """Whose spans its children are."""
        children = [each for each in self.spans() if each.parent_span_id == span.span_id]
        assert {child.trace_id for child in children} <= {span.trace_id}
        return {str(attributes(child).get("db.system", "")) for child in children}


def attributes(span: Span) -> dict[str, Any]:
    """By their names."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@contextmanager
def receiver() -> Iterator[Receiver]:
    """One that takes all."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                received.bodies.append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """One that each service started meanwhile sends to."""
    with receiver() as received:
        monkeypatch.setenv(ENDPOINT, received.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        yield received


async def sign_up(client: httpx.AsyncClient) -> dict[str, str]:
    """The header of a new user, who also tries the name a second time."""
    account = {"username": "hidden-name", "email": "hidden@example.org", "password": PASSWORD}
    assert (await client.post("/auth/register", json=account)).status_code == 201
    assert (await client.post("/auth/register", json=account)).status_code == 409
    login = {"username": "hidden-name", "password": PASSWORD}
    answer = await client.post("/auth/login", json=login)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_spans_of_requests(
    test_settings: Settings, tmp_path: Path, collector: Receiver
) -> None:
    """One for each, on the quick way and the long one, with those of the servers below it."""
    with worker(test_settings, tmp_path) as url:
        async with client_of(url) as client:
            await asyncio.sleep(CHORES_S)
            headers = await sign_up(client) | {"traceparent": VALID, "tracestate": "vendor=1"}
            booked = await client.post("/bookings", json={"seat_id": 1}, headers=headers)
            assert booked.status_code == 201
            assert (await client.get("/nope?token=hidden-token")).status_code == 404
            await client.post("/bookings", json={"seat_id": 1}, headers={"traceparent": "junk"})
            quick = await collector.one("POST /auth/login")

            async def all_sent() -> bool:
                return len(collector.named("POST /bookings")) == 2

            await until(all_sent)
    assert_of_a_booking(collector, booked.headers["x-request-id"])
    assert collector.below(quick) >= {"postgresql", "redis"}
    [unmatched] = collector.named("GET")
    assert "http.route" not in attributes(unmatched)
    assert_nothing_is_told(collector)
    assert_each_line_names_its_trace(collector, text_of(tmp_path))
    # What is done twice a second, whoever comes, belongs to no trace.
    roots = [span for span in collector.spans() if not span.parent_span_id]
    assert {span.kind for span in roots} == {Span.SPAN_KIND_SERVER}


def text_of(folder: Path) -> str:
    """The log of the service that ran there."""
    [file] = folder.glob("*.log")
    return file.read_text()


def assert_each_line_names_its_trace(collector: Receiver, log: str) -> None:
    """Also one that began here."""
    lines = [json.loads(line) for line in log.splitlines() if '"request"' in line]
    sent = {span.trace_id.hex() for span in collector.spans()}
    assert {line["trace_id"] for line in lines} == sent
    assert len(sent) > 2


def assert_of_a_booking(collector: Receiver, request_id: str) -> None:
    """It goes on with its caller's trace; the one with an invalid header begins its own."""
    spans = {span.trace_id.hex(): span for span in collector.named("POST /bookings")}
    span = spans.pop(TRACE)
    assert (span.parent_span_id.hex(), span.trace_state) == (PARENT, "vendor=1")
    assert span.kind == Span.SPAN_KIND_SERVER
    assert attributes(span) == {
        "http.request.method": "POST", "url.scheme": "http", "http.route": "/bookings",
        "http.response.status_code": 201, "seatsvc.request_id": request_id,
    }  # fmt: skip
    assert collector.below(span) >= {"postgresql", "redis"}
    [other] = spans.values()
    assert (other.parent_span_id, attributes(other)["http.response.status_code"]) == (b"", 401)


def assert_nothing_is_told(collector: Receiver) -> None:
    """Neither by what PostgreSQL quoted nor by the address; but that it refused is."""
    everything = b"".join(collector.bodies)
    for secret in (b"hidden", PASSWORD.encode(), b"eyJ"):
        assert secret not in everything
    failed = [span for span in collector.spans() if span.status.code == Status.STATUS_CODE_ERROR]
    assert {span.status.message for span in failed} == {""}
    kinds = {
        each.value.string_value for span in failed for e in span.events for each in e.attributes
    }
    assert any(kind.endswith("UniqueViolationError") for kind in kinds)
    [name] = {
        each.value.string_value
        for request in collector.requests()
        for resource in request.resource_spans
        for each in resource.resource.attributes
        if each.key == "service.name"
    }
    assert name == "seatsvc"


@pytest.mark.slow
async def test_a_receiver_that_never_answers(
    test_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeps nobody waiting, neither who asks nor who stops the service."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with worker(test_settings, tmp_path) as url:
            async with client_of(url) as client:
                assert (await client.get("/seats")).status_code == 200
            stopped_at = time.monotonic()
        assert time.monotonic() - stopped_at < EXIT_S


STARTS = """
import asyncio, sys
from seatsvc import telemetry
from seatsvc.api import traces
async def main():
    telemetry.configure_logging()
    traces.traced(None)
    async with traces.exporting():
        pass
asyncio.run(main())
"""
PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.instrumentation")


def output(code: str, **variables: str) -> str:
    """What a process of its own prints that runs this."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env=os.environ | variables,
    ).stdout  # fmt: skip


@pytest.mark.slow
def test_nothing_is_imported_when_off() -> None:
    """By the whole app, and nothing is said. (redis-py itself imports what it would measure by.)"""
    code = f"{STARTS}\nfrom seatsvc import app\nprint(*sys.modules)"
    modules = output(code).split()
    assert "seatsvc.app" in modules
    assert [name for name in modules if name.startswith(PACKAGES)] == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://x", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_when_traces_are_wanted(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    """As OpenTelemetry's own variables say."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert traces.wanted() is expected


def test_missing_packages() -> None:
    """Are told of in one line, and the start goes on."""
    [line] = output(WITHOUT_PACKAGES + STARTS, **{ENDPOINT: "http://127.0.0.1:1"}).splitlines()
    assert json.loads(line)["level"] == "warning"
    assert "pip install 'seatsvc[otel]'" in line
