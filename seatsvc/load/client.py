"""HTTP over connections that stay open, cheap enough to hold thousands of them on one core."""

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from seatsvc import __version__

CONNECTING_AT_ONCE = 100
CONNECT_S = 10
ANSWER_S = 30
IDLE_S = 4  # after which a server may hang up at any moment: uvicorn does after 5 s
SPARE_FILES = 100
POLICY = re.compile(r'"([^"]+)";q=(\d+);w=(\d+)')


class LoadError(Exception):
    """The load test cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and when. Status 0: nothing did, and `body` says why."""

    started: float  # seconds, by the clock of perf_counter
    ended: float
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body; {} where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def code(self) -> str:
        """Of a refusal, what clients branch on; "" of a success."""
        if self.status == 0:
            return self.body.decode()
        problem = self.json() if self.status >= 400 else {}
        return str(problem.get("code", "")) if isinstance(problem, dict) else ""

    @property
    def retry_after_s(self) -> float | None:
        """As the server asks for."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isdecimal() else None


class Client:
    """The way to one server. `on_policy` hears of each rate limit once: name, requests, seconds.

    Raises LoadError if the address is none.
    """

    def __init__(self, url: str, on_policy: Callable[[str, int, int], None]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LoadError(f"{url} is no address such as http://127.0.0.1:8000.")
        tls = parts.scheme == "https"
        self.host, self.port = parts.hostname, parts.port or (443 if tls else 80)
        self.tls = ssl.create_default_context() if tls else None
        self.prefix = parts.path.rstrip("/")
        host = parts.netloc.rpartition("@")[2]
        self.head = f"Host: {host}\r\nUser-Agent: seatsvc-load/{__version__}\r\n"
        self.open = self.most_open = 0
        self._on_policy, self._policies = on_policy, set[str]()

    @asynccontextmanager
    async def connections(self, count: int) -> AsyncIterator[list["Connection"]]:
        """So many of them, open.

        Raises LoadError.
        """
        _allow_files(count + SPARE_FILES)
        few = asyncio.Semaphore(CONNECTING_AT_ONCE)
        made = [Connection(self) for _ in range(count)]

        async def connect(connection: Connection) -> None:
            async with few:
                await connection.connect()

        try:
            await self._all(map(connect, made))
            yield made
        finally:
            for connection in made:
                connection.close()

    async def _all(self, connecting: Iterable[Coroutine[Any, Any, None]]) -> None:
        try:
            await asyncio.gather(*connecting)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error) or "no answer"
            raise LoadError(f"Cannot connect to {self.host}:{self.port}: {why}.") from None

    def heard(self, headers: Mapping[str, str]) -> None:
        """Tell of rate limits that are new."""
        for name, burst, period_s in POLICY.findall(headers.get("ratelimit-policy", "")):
            if name not in self._policies:
                self._policies.add(name)
                self._on_policy(name, int(burst), int(period_s))


class Connection:
    """Carries one request at a time, and connects anew where it was cut."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._wire: Wire | None = None

    async def connect(self) -> "Wire":
        """Be connected.

        Raises OSError.
        """
        loop, client = asyncio.get_running_loop(), self._client
        async with asyncio.timeout(CONNECT_S):
            _, self._wire = await loop.create_connection(
                lambda: Wire(client), client.host, client.port, ssl=client.tls
            )
        return self._wire

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; never raises for what comes back, or does not."""
        request = self._request(method, path, token, body, headers or {})
        wire, began = self._wire, perf_counter()
        try:
            if wire is None or wire.stale(began):
                self.close()
                wire = await self.connect()
        except OSError:
            return Answer(began, perf_counter(), 0, b"no_connection")
        return await wire.send(request)

    def _request(
        self, method: str, path: str, token: str, body: object, headers: Mapping[str, str]
    ) -> bytes:
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        lines = [f"{method} {self._client.prefix}{path} HTTP/1.1\r\n{self._client.head}"]
        if content:
            lines.append("Content-Type: application/json\r\n")
        if content or method == "POST":
            lines.append(f"Content-Length: {len(content)}\r\n")
        if token:
            lines.append(f"Authorization: Bearer {token}\r\n")
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        return "".join([*lines, "\r\n"]).encode() + content

    def close(self) -> None:
        """Hang up."""
        if self._wire is not None:
            self._wire.close()


class Wire(asyncio.Protocol):
    """One connection as the event loop and the parser see it: they call all but the first three."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: asyncio.Future[Answer] | None = None
        self._started = 0.0
        self._used_at = perf_counter()
        self._parser = httptools.HttpResponseParser(self)

    def stale(self, now: float) -> bool:
        """Is it closed, or about to be?"""
        return self._transport.is_closing() or now - self._used_at > IDLE_S

    async def send(self, request: bytes) -> Answer:
        """Send, and wait for the answer."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._started = perf_counter()
        self._transport.write(request)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._waiting
        except TimeoutError:
            self.close()
            return Answer(self._started, perf_counter(), 0, b"no_answer")

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self._transport = cast(asyncio.Transport, transport)
        self._client.open += 1
        self._client.most_open = max(self._client.open, self._client.most_open)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns it."""
        self._client.open -= 1
        self._answered(0, b"connection_lost", {})

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._answered(0, b"no_http", {})
            self.close()

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._body: list[bytes] = []
        self._headers: dict[str, str] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Part of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        if "ratelimit-policy" in self._headers:
            self._client.heard(self._headers)
        if not self._parser.should_keep_alive():
            self._transport.close()
        self._answered(self._parser.get_status_code(), b"".join(self._body), self._headers)

    def _answered(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._used_at = perf_counter()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(self._started, self._used_at, status, body, headers))


def _allow_files(count: int) -> None:
    """Have the system allow so many open files.

    Raises LoadError.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < count:
        raise LoadError(f"The system allows {hard} open files, and {count} are needed: ulimit -n.")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
