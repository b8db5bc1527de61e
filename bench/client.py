"""HTTP over keep-alive connections, cheap enough to share two cores with what it measures.

`paced` keeps to a schedule, whatever the answers do: a request that is late because others were
slow counts from the moment at which it was due, so that no wait is left out (wrk, which sends when
it was answered, leaves them out).
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

ANSWER_S = 30
TICK_S = 0.001
NO_BODY = (204, 304)
_LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)
Done = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status (0: the connection broke) and what came with it."""

    status: int
    body: bytes


def build(method: str, path: str, token: str = "", body: object = None) -> bytes:
    """A request as it goes over the wire."""
    content = body if isinstance(body, bytes) else b""
    if body is not None and not content:
        content = json.dumps(body, separators=(",", ":")).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(content)}"]
    head += ["Content-Type: application/json"] if content else []
    head += [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([*head, "", ""]).encode() + content


class Connection(asyncio.Protocol):
    """Carries one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._done: Done | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, done: Done) -> None:
        """Send; `done` gets the status and the body."""
        self._done = done
        if self._transport is None or self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._answered, 0, b"")
        else:
            self._transport.write(request)

    async def ask(self, request: bytes) -> Answer:
        """Send, and wait for the answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(status: int, body: bytes) -> None:
            if not future.done():
                future.set_result(Answer(status, body))

        self.send(request, done)
        async with asyncio.timeout(ANSWER_S):
            return await future

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        status = int(self._received[9:12])
        match = _LENGTH.search(self._received, 0, end + 2)
        length = int(match[1]) if match and status not in NO_BODY else 0
        if len(self._received) >= end + 4 + length:
            body = bytes(self._received[end + 4 : end + 4 + length])
            self._received.clear()
            self._answered(status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns it."""
        self._answered(0, b"")

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _answered(self, status: int, body: bytes) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(status, body)


@asynccontextmanager
async def connected(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """Connections to the server there."""
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    connections: list[Connection] = []
    try:
        for _ in range(count):
            _, connection = await loop.create_connection(Connection, host, port)
            connections.append(connection)
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def ask(url: str, request: bytes) -> Answer:
    """One request on a connection of its own."""
    async with connected(url, 1) as [connection]:
        return await connection.ask(request)


async def ask_all(url: str, requests: Sequence[bytes], at_once: int = 8) -> list[Answer]:
    """All requests, some at a time; the answers in the same order."""
    answers: dict[int, Answer] = {}
    todo = deque(enumerate(requests))

    async def work(connection: Connection) -> None:
        while todo:
            number, request = todo.popleft()
            answers[number] = await connection.ask(request)

    async with connected(url, at_once) as connections:
        await asyncio.gather(*map(work, connections))
    return [answers[number] for number in range(len(requests))]


@dataclass
class Pace:
    """Sends each request when it is due, on the connection that has been free for longest by then:
    none is idle for so long that the server closes it."""

    requests: Sequence[bytes]
    rate: float  # requests a second
    idle: list[Connection]
    heard: Callable[[int, Answer], None] = lambda _number, _answer: None
    latencies_s: list[float] = field(default_factory=list)
    answers: list[tuple[int, Answer]] = field(default_factory=list)

    async def run(self) -> None:
        """Until the last answer."""
        self._started_at, self._next = perf_counter(), 0
        self._late: deque[int] = deque()
        self._finished = asyncio.Event()
        self._tick()
        async with asyncio.timeout(len(self.requests) / self.rate + ANSWER_S):
            await self._finished.wait()

    def _due_at(self, number: int) -> float:
        return self._started_at + number / self.rate

    def _tick(self) -> None:
        now = perf_counter()
        while self._next < len(self.requests) and self._due_at(self._next) <= now:
            self._late.append(self._next)
            self._next += 1
        self._dispatch()
        if self._next < len(self.requests):
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _dispatch(self) -> None:
        while self._late and self.idle:
            number, connection = self._late.popleft(), self.idle.pop(0)
            connection.send(self.requests[number], partial(self._answered, number, connection))

    def _answered(self, number: int, connection: Connection, status: int, body: bytes) -> None:
        self.latencies_s.append(perf_counter() - self._due_at(number))
        answer = Answer(status, body)
        self.answers.append((number, answer))
        self.idle.append(connection)
        self._dispatch()
        self.heard(number, answer)
        if len(self.answers) == len(self.requests):
            self._finished.set()


def percentile_ms(latencies_s: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ranked = sorted(latencies_s)
    return 1000 * ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]
