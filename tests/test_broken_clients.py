"""Clients whose requests are too large, or none, are told so, and disturb nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from io import StringIO

import httptools
import pytest
from starlette.types import Receive, Scope, Send

from seatsvc.api.problems import BodyLimit
from seatsvc.api.protocol import HEAD_MAX_BYTES, HEAD_MAX_FIELDS, Protocol
from seatsvc.cli import SERVER_OPTIONS
from tests.conftest import PASSWORD, Person, Service, until
from tests.connection import CHUNKED, GET, POST, Wire, connected, errors_in, serving


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends by its time alone."""
    for limit in ("patience_s", "linger_s"):
        monkeypatch.setattr(Protocol, limit, 60)
    monkeypatch.setattr(BodyLimit, "patience_s", 60)


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


def test_limits() -> None:
    """What the documents say."""
    assert (HEAD_MAX_BYTES, HEAD_MAX_FIELDS) == (32 * 1024, 100)


def test_what_the_protocol_relies_on() -> None:
    """The parser passes an exception of ours on, and says where a request to upgrade ended."""

    class Refusing:
        def on_headers_complete(self) -> None:
            raise ValueError("ours")

    with pytest.raises(httptools.HttpParserError) as raised:
        httptools.HttpRequestParser(Refusing()).feed_data(GET + b"\r\n")
    assert str(raised.value.__context__) == "ours"
    assert SERVER_OPTIONS["http"] is Protocol


def fields(count: int, size: int) -> bytes:
    """So many header fields of so many bytes each, with all that belongs to them."""
    return b"".join(b"x-%04d: %s\r\n" % (number, b"v" * (size - 10)) for number in range(count))


@pytest.mark.parametrize(
    "head",
    [
        GET + fields(100, 20) + b"\r\n",
        GET + fields(33, 1000) + b"\r\n",
        GET + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
        GET + fields(1, 40_000) + b"\r\n" + b"x" * 100_000,
    ],
    ids=["fields", "bytes", "one field", "target", "more follows"],
)
@pytest.mark.parametrize("part", [1000, 1_000_000])
async def test_large_head(wire: Wire, head: bytes, part: int) -> None:
    """431 and the end of the connection, in one piece or in many, also when more is sent."""
    await wire.send(*(head[at : at + part] for at in range(0, len(head), part)))
    await wire.refusal(431, "headers_too_large")


async def test_endless_head(wire: Wire) -> None:
    """A head that never ends is refused once it is too large."""
    await wire.send(GET, b"X-A: ", *[b"a" * 1000] * 40)
    await wire.refusal(431, "headers_too_large")


async def test_head_of_just_the_limit(wire: Wire) -> None:
    """Is fine, with a body of the limit in the same piece, and again and again."""
    large = POST + fields(30, 1000) + b"Content-Length: 65536\r\n\r\n" + b" " * 65536
    for request in (GET + fields(99, 300) + b"\r\n", large, GET + b"\r\n"):
        await wire.send(request)
        assert (await wire.answer()).status in (200, 422)


async def test_body_in_parts(wire: Wire) -> None:
    """What comes after a head does not count as a head."""
    await wire.send(POST + b"Content-Length: 60000\r\n\r\n")
    for _ in range(6):
        await asyncio.sleep(0.01)
        await wire.send(b" " * 10_000)
    assert (await wire.answer()).status == 422


async def test_pipelined_requests(wire: Wire) -> None:
    """Each counts on its own."""
    await wire.send((GET + fields(20, 1000) + b"\r\n") * 5)
    for _ in range(5):
        assert (await wire.answer()).status == 200


async def test_endless_trailer(wire: Wire) -> None:
    """What follows a chunked body is limited, too."""
    await wire.send(POST + CHUNKED + b"2\r\n{}\r\n0\r\n", *[b"X-A: b\r\n" * 100] * 600)
    await wire.refusal(431, "headers_too_large")


async def test_trailer_is_no_header(shared: Service, ann: Person, wire: Wire) -> None:
    """Otherwise it could say what a proxy took out of the headers."""
    booking = POST.replace(b"/auth/login", b"/bookings") + CHUNKED
    token = ann.headers["Authorization"].encode()
    body = b'd\r\n{"seat_id": 1\r\n1\r\n}\r\n0\r\n'
    await wire.send(booking + body + b"Authorization: " + token + b"\r\n\r\n")
    assert (await wire.answer()).status == 401


BROKEN = [
    b"hello\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"BREW /livez HTTP/1.1\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    GET + b"no colon\r\n\r\n",
    GET + b"X\x00: y\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    POST + b"Content-Length: 1\r\n" + CHUNKED,
    POST + CHUNKED + b"z\r\n",
    POST + CHUNKED + b"1\r\nab\r\n",
]


@pytest.mark.parametrize("request_bytes", BROKEN)
async def test_no_http(wire: Wire, request_bytes: bytes, log: StringIO) -> None:
    """400 and the end of our side at once; nothing waits for a body that is broken."""
    await wire.send(request_bytes)
    await wire.refusal(400, "malformed_request")
    if CHUNKED in request_bytes and b"Length" not in request_bytes:

        async def ended() -> bool:
            return '"message": "request"' in log.getvalue()

        await until(ended)


async def test_refused_client_that_goes_on(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """May do so for a moment, so that it reads why; then the connection breaks."""
    monkeypatch.setattr(Protocol, "linger_s", 0.1)
    await wire.send(b"hello\r\n\r\n")
    await wire.refusal(400, "malformed_request")

    async def go_on() -> None:
        while True:
            wire.writer.write(b"hello\r\n\r\n")
            await wire.writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(go_on(), 5)


async def test_garbage_after_a_request(shared: Service, wire: Wire) -> None:
    """The request is answered whole; nothing is written into the midst of it."""
    await wire.send(GET.replace(b"/livez", b"/seats") + b"\r\n" + b"garbage\r\n\r\n")
    answer = await wire.answer()
    assert answer.status == 200
    assert json.loads(answer.body)["items"]
    assert await wire.end() == b""


async def test_garbage_after_an_answer(wire: Wire) -> None:
    """A body that nobody wanted, and that is broken, is no second request."""
    await wire.send(GET + CHUNKED)
    assert (await wire.answer()).status == 200
    await wire.send(b"z\r\n")
    assert await wire.end() == b""


async def test_garbage_in_a_later_request(wire: Wire) -> None:
    """Does not come before the answers to those that it followed."""
    await wire.send(GET.replace(b"/livez", b"/seats") + b"\r\n" + POST + CHUNKED + b"z\r\n")
    answer = await wire.answer()
    assert answer.status == 200
    assert json.loads(answer.body)["items"]


async def test_garbage_in_the_midst_of_an_answer() -> None:
    """The answer is ended as it was begun."""
    broken = asyncio.Event()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        headers = [(b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await broken.wait()
        await send({"type": "http.response.body", "body": b"def"})

    async with serving(app) as (url, _), connected(url) as wire:
        await wire.send(POST + CHUNKED)
        await wire.reader.readuntil(b"abc")
        await wire.send(b"z\r\n")
        asyncio.get_running_loop().call_later(0.1, broken.set)
        assert await wire.end() == b"def"


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_upgrade(wire: Wire, protocol: bytes) -> None:
    """Is declined by answering the request, body and all, as RFC 9110 has it."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n" % protocol
    body = json.dumps({"username": "nobody", "password": PASSWORD}).encode()
    head = POST + upgrade + b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    await wire.send(head + b"Content-Length: %d\r\n\r\n" % len(body), body[:5])
    await asyncio.sleep(0.05)
    await wire.send(body[5:])
    answer = await wire.answer()
    assert (answer.status, answer.problem()["code"]) == (401, "invalid_credentials")
    assert await wire.end() == b""


async def test_upgrade_without_a_body(wire: Wire) -> None:
    """The same."""
    await wire.send(GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + b"\x81\x05hello")
    assert (await wire.answer()).status == 200
    assert await wire.end() == b""
