"""Clients that are slow are cut off, and disturb nobody else."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from seatsvc import patience
from seatsvc.api.problems import BodyLimit
from seatsvc.api.protocol import Protocol
from tests.conftest import PASSWORD, Service
from tests.connection import CHUNKED, GET, POST, Wire, connected, errors_in, serving

PATIENCE_S = 0.4
STALL_S = 0.5
SLACK_S = 1.5
LARGE = b"x" * 30_000_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(Protocol, "patience_s", PATIENCE_S)
    monkeypatch.setattr(Protocol, "stall_s", STALL_S)
    monkeypatch.setattr(Protocol, "linger_s", 0.1)
    monkeypatch.setattr(BodyLimit, "patience_s", PATIENCE_S)


@pytest.fixture(autouse=True)
def no_error_of_ours(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No callback fails, whatever clients do."""
    yield
    assert errors_in(caplog) == []


@pytest.fixture
async def wire(shared: Service) -> AsyncIterator[Wire]:
    """A connection to the service."""
    async with connected(shared.url) as wire:
        yield wire


async def took_s(work: Awaitable[object]) -> float:
    """How long it takes."""
    started_at = time.perf_counter()
    await work
    return time.perf_counter() - started_at


async def test_connection_without_a_request(wire: Wire) -> None:
    """Is ended after a while, without a word."""
    started_at = time.perf_counter()
    assert await wire.end() == b""
    assert PATIENCE_S * 0.9 < time.perf_counter() - started_at < PATIENCE_S + SLACK_S


@pytest.mark.parametrize("path", [b"/livez", b"/" + b"a" * 500])
async def test_trickled_headers(wire: Wire, path: bytes) -> None:
    """A byte now and then does not help, neither in the request line nor in the headers."""
    head = b"GET " + path + b" HTTP/1.1\r\n" + b"X-A: b\r\n" * 100
    async with wire.trickling(head):
        refusal = wire.refusal(408, "request_timeout")
        assert PATIENCE_S * 0.9 < await took_s(refusal) < PATIENCE_S + SLACK_S


async def test_trickled_headers_of_a_later_request(wire: Wire) -> None:
    """The time starts with a request's first byte, not with the connection."""
    for _ in range(3):
        await asyncio.sleep(PATIENCE_S / 2)
        await wire.send(GET + b"\r\n")
        assert (await wire.answer()).status == 200
    async with wire.trickling(GET):
        refusal = wire.refusal(408, "request_timeout")
        assert PATIENCE_S * 0.9 < await took_s(refusal) < PATIENCE_S + SLACK_S


async def test_empty_lines_for_ever(wire: Wire) -> None:
    """They belong to no request, but keep no connection open either."""
    await wire.send(GET + b"\r\n")
    assert (await wire.answer()).status == 200
    async with wire.trickling(b"\r\n"):
        await wire.refusal(408, "request_timeout")


async def test_headers_in_time(wire: Wire) -> None:
    """A client that is merely slow is answered."""
    await wire.trickle(GET, PATIENCE_S / 3 / len(GET))
    await wire.send(b"\r\n")
    assert (await wire.answer()).status == 200


@pytest.mark.parametrize("body", [b"Content-Length: 100\r\n\r\n", CHUNKED])
async def test_silent_body(wire: Wire, body: bytes) -> None:
    """408 and the end of the connection."""
    await wire.send(POST + body)
    await wire.refusal(408, "request_timeout")


@pytest.mark.parametrize("body", [b"Content-Length: 100\r\n\r\n", CHUNKED])
async def test_trickled_body(wire: Wire, body: bytes) -> None:
    """The whole body has so much time, not each part of it."""
    await wire.send(POST + body)
    part = b"1\r\n[\r\n" if body == CHUNKED else b"["
    async with wire.trickling(part):
        refusal = wire.refusal(408, "request_timeout")
        assert PATIENCE_S * 0.9 < await took_s(refusal) < PATIENCE_S + SLACK_S


async def test_body_that_took_longer_than_a_turn(
    wire: Wire, shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client takes to send it is not our patience: that begins with the last byte."""
    monkeypatch.setattr(Protocol, "patience_s", 10)
    monkeypatch.setattr(BodyLimit, "patience_s", 10)
    monkeypatch.setattr(patience, "TURN_S", 1.0)
    buyer, venue = await shared.sign_up("slow"), await shared.add_event()
    body = json.dumps({"seat_id": venue.seats[0]}).encode()
    token = buyer.headers["Authorization"].encode()
    head = b"POST /bookings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    await wire.send(head + b"Authorization: %s\r\nContent-Length: %d\r\n\r\n" % (token, len(body)))
    await asyncio.sleep(1.2)
    await wire.send(body)
    assert (await wire.answer()).status == 201


async def test_body_in_time(wire: Wire) -> None:
    """In parts, before the limit; and our own work does not count."""
    body = json.dumps({"username": "nobody", "password": PASSWORD}).encode()
    await wire.send(POST + b"Content-Length: %d\r\n\r\n" % len(body))
    await wire.trickle(body, PATIENCE_S / 3 / len(body))
    answer = await wire.answer()
    assert (answer.status, answer.problem()["code"]) == (401, "invalid_credentials")


async def test_our_own_time_does_not_count(
    shared: Service, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that takes longer than a body may is given nevertheless."""
    free = shared.state["seats"].free

    async def slow(*args: Any) -> Any:
        await asyncio.sleep(PATIENCE_S * 3)
        return await free(*args)

    monkeypatch.setattr(shared.state["seats"], "free", slow)
    await wire.send(GET.replace(b"/livez", b"/seats") + b"\r\n")
    assert (await wire.answer()).status == 200


@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
async def test_body_that_nobody_reads(wire: Wire, method: bytes) -> None:
    """The answer does not wait for it, and the connection ends soon."""
    await wire.send(method + b" /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n")
    assert (await wire.answer()).status == {b"GET": 200, b"DELETE": 405}[method]
    async with wire.trickling(b"x"):
        assert await took_s(wire.end()) < PATIENCE_S + SLACK_S


async def test_refused_body_that_goes_on(wire: Wire) -> None:
    """413 at once. The rest is thrown away, but not for ever."""
    await wire.send(POST + b"Content-Length: 100000000\r\n\r\n")
    answer = await wire.answer()
    assert (answer.status, answer.problem()["code"]) == (413, "payload_too_large")
    async with wire.trickling(b"x"):
        assert await took_s(wire.end()) < PATIENCE_S + SLACK_S


async def test_refused_client_that_stays(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused once, even if it could be again."""
    monkeypatch.setattr(Protocol, "linger_s", PATIENCE_S * 4)
    async with wire.trickling(GET):
        await wire.refusal(408, "request_timeout")
        await asyncio.sleep(PATIENCE_S * 3)


async def large_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An app with much to say."""
    headers = [(b"content-length", b"%d" % len(LARGE))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LARGE})


async def reading_server(read: Callable[[Wire], Awaitable[None]]) -> int:
    """Ask the app, read as the function does, and say how many connections are left."""
    async with serving(large_answer) as (url, server), connected(url) as wire:
        await wire.send(GET + b"\r\n")
        await read(wire)
        return len(server.server_state.connections)


async def test_reader_that_stalls() -> None:
    """Is dropped, with all that waits for it."""

    async def stall(_: Wire) -> None:
        await asyncio.sleep(STALL_S + 3 * PATIENCE_S + 0.5)

    assert await reading_server(stall) == 0


async def test_reader_that_is_slow() -> None:
    """May take as long as it likes, as long as it reads."""
    received = 0

    async def read_slowly(wire: Wire) -> None:
        nonlocal received
        deadline = time.monotonic() + 3 * STALL_S
        while time.monotonic() < deadline:
            received += len(await wire.reader.read(65536))
            await asyncio.sleep(0.01)
        while received < len(LARGE):
            part = await wire.reader.read(1_000_000)
            assert part
            received += len(part)

    assert await reading_server(read_slowly) == 1
