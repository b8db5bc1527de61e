"""A proxy between the load tester and the service, which may lie, lose and forget."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from seatsvc.load.client import Client, Connection

OWN_HEADERS = ("host", "content-length", "content-type", "authorization")


class Hangup(Exception):
    """Close the connection without an answer."""


class Call:
    """A request on its way."""

    def __init__(self, upstream: Connection, method: str, path: str) -> None:
        self.method, self.path = method, path
        self.headers: dict[str, str] = {}
        self.body: Any = None
        self.answer_headers: dict[str, str] = {}
        self._upstream = upstream

    @property
    def books(self) -> bool:
        """Is it an order?"""
        return (self.method, self.path) == ("POST", "/bookings")

    async def forward(self) -> tuple[int, Any]:
        """What the service answers."""
        passed = {name: self.headers[name] for name in self.headers if name not in OWN_HEADERS}
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        answer = await self._upstream.ask(
            self.method, self.path, token=token, body=self.body, headers=passed
        )
        self.answer_headers = {**answer.headers}
        return answer.status, answer.json() if answer.body else None


Tamper = Callable[[Call], Awaitable[tuple[int, Any]]]


@asynccontextmanager
async def proxied(url: str, tamper: Tamper) -> AsyncIterator[str]:
    """Its address. It speaks to the service there."""
    client = Client(url, lambda _name, _burst, _period_s: None)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = Connection(client)
        try:
            while await _answer(upstream, tamper, reader, writer):
                pass
        except (Hangup, ConnectionError):
            pass
        finally:
            writer.close()
            upstream.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _answer(
    upstream: Connection,
    tamper: Tamper,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Is there another request to come?"""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    except asyncio.IncompleteReadError:
        return False
    method, path, _ = head[0].split(" ")
    call = Call(upstream, method, path)
    call.headers = {
        name.lower(): value for name, value in (each.split(": ", 1) for each in head[1:-1])
    }
    if length := int(call.headers.get("content-length", 0)):
        call.body = json.loads(await reader.readexactly(length))
    status, document = await tamper(call)
    content = b"" if document is None else json.dumps(document).encode()
    headers = {**call.answer_headers, "content-length": str(len(content))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + content)
    await writer.drain()
    return True
