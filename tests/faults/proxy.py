"""A TCP proxy that can delay, cut, reset, swallow, and trickle, and sees what goes by."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import cycle
from time import monotonic
from urllib.parse import urlsplit, urlunsplit

CHUNK = 65536
TRICKLE_S = 0.001
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Verdict(Enum):
    """What becomes of a chunk."""

    PASS = auto()
    SWALLOW = auto()
    RESET = auto()
    TRICKLE = auto()


@dataclass
class Link:
    """A client's connection, and its request: all it has sent since the last reply."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    request: bytes = b""
    answered: bool = True


Rule = Callable[[Link, bytes, bool], Verdict]


def let_pass(_link: Link, _chunk: bytes, _is_reply: bool) -> Verdict:
    """The rule of a quiet day."""
    return Verdict.PASS


class Losing:
    """A rule: of replies to requests that hold `what`, so many are lost, never two in a row.

    The verdicts take turns. `done` is set when all are lost.
    """

    def __init__(self, what: bytes, count: int, pause_s: float, *verdicts: Verdict) -> None:
        self._what, self._left, self._pause_s = what, count, pause_s
        self._verdicts = cycle(verdicts)
        self._next_at = 0.0
        self.done = asyncio.Event()

    def __call__(self, link: Link, _chunk: bytes, is_reply: bool) -> Verdict:
        """What becomes of this chunk."""
        wanted = is_reply and self._what in link.request and not self.done.is_set()
        if not wanted or monotonic() < self._next_at:
            return Verdict.PASS
        self._next_at = monotonic() + self._pause_s
        self._left -= 1
        if not self._left:
            self.done.set()
        return next(self._verdicts)


class Proxy:
    """Relays connections to one address. `rule` decides about each chunk, `delay_s` holds it up."""

    def __init__(self, url: str) -> None:
        self._parts, self._port = urlsplit(url), 0
        self._server: asyncio.Server | None = None
        self._links: dict[int, Link] = {}
        self.rule: Rule = let_pass
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        """The server's URL, by way of the proxy."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    async def open(self) -> None:
        """Let connections through, always at the same port."""
        self._server = await asyncio.start_server(
            self._relay, "127.0.0.1", self._port, backlog=2048
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
        self.reset()

    def reset(self) -> None:
        """Break all connections, without a word; new ones are let through."""
        for link in list(self._links.values()):
            _break(link)

    async def _relay(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            back, server = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        except OSError:
            client.transport.abort()
            return
        link = self._links[id(client)] = Link(client, server)
        try:
            await asyncio.gather(
                self._pump(link, reader, server, False), self._pump(link, back, client, True)
            )
        finally:
            del self._links[id(client)]
            client.transport.abort()
            server.transport.abort()

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool
    ) -> None:
        verdict = Verdict.PASS
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                _note(link, chunk, is_reply)
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if verdict is not Verdict.SWALLOW:  # TCP leaves no holes: what follows is lost, too
                    verdict = self.rule(link, chunk, is_reply)
                await _carry_out(verdict, link, chunk, writer)
        writer.close()


def _note(link: Link, chunk: bytes, is_reply: bool) -> None:
    if not is_reply:
        link.request = chunk if link.answered else link.request + chunk
    link.answered = is_reply


async def _carry_out(
    verdict: Verdict, link: Link, chunk: bytes, writer: asyncio.StreamWriter
) -> None:
    match verdict:
        case Verdict.PASS:
            writer.write(chunk)
            await writer.drain()
        case Verdict.RESET:
            _break(link)
        case Verdict.TRICKLE:
            for position in range(len(chunk)):
                writer.write(chunk[position : position + 1])
                await asyncio.sleep(TRICKLE_S)


def _break(link: Link) -> None:
    for writer in (link.client, link.server):
        with suppress(OSError):
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.transport.abort()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """An open proxy to this URL's server."""
    proxy = Proxy(url)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.cut()
