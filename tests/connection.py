"""A connection on which a test sends whatever it likes, as slowly as it likes."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.types import ASGIApp

from seatsvc.cli import SERVER_OPTIONS

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """A response, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        """The problem document, checked for what every one holds."""
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        return document


@dataclass(frozen=True)
class Wire:
    """Both directions."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        """These bytes; what the other side reads no more is lost without a word."""
        with suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()

    async def trickle(self, content: bytes, pause_s: float = 0.02) -> None:
        """Byte by byte."""
        for position in range(len(content)):
            await self.send(content[position : position + 1])
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def trickling(self, content: bytes) -> AsyncIterator[None]:
        """Byte by byte, again and again, all the while."""
        task = asyncio.create_task(self.trickle(content * 1000))
        yield
        task.cancel()

    async def answer(self, limit_s: float = 5) -> Answer:
        """The next response."""
        async with asyncio.timeout(limit_s):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")[:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    async def end(self, limit_s: float = 5) -> bytes:
        """What still comes, until the other side ends the connection."""
        with suppress(ConnectionError):
            async with asyncio.timeout(limit_s):
                return await self.reader.read()
        return b""

    async def refusal(self, status: int, code: str) -> Answer:
        """A problem document, after which nothing comes."""
        answer = await self.answer()
        assert (answer.status, answer.problem()["code"]) == (status, code)
        assert answer.headers["connection"] == "close"
        assert await self.end() == b""
        return answer


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Wire]:
    """A connection to the service there."""
    parts = urlsplit(url)
    wire = Wire(*await asyncio.open_connection(parts.hostname, parts.port))
    try:
        yield wire
    finally:
        wire.writer.transport.abort()


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    """Any app, served as the service is."""
    listener = socket.create_server(("127.0.0.1", 0))
    options = SERVER_OPTIONS | {"lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    task = asyncio.create_task(server.serve([listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
    server.should_exit = True
    await task


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the test made the service log as an error."""
    records = caplog.get_records("call")
    return [each.getMessage() for each in records if each.levelno >= logging.ERROR]
