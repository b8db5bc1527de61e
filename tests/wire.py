"""Requests as bytes, and what becomes of them."""

import asyncio
from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from io import BytesIO
from urllib.parse import urlsplit

import httpx

from seatsvc.errors import BY_CODE
from tests.calls import Call
from tests.conftest import Service

AT_ONCE = 8
SEND_S = 300


async def send(service: Service, calls: Iterable[Call]) -> list[tuple[Call, httpx.Response]]:
    """All of them, some at once. Byte by byte: a client library would refuse, or tidy up."""
    waiting, answers = deque(calls), []
    where = urlsplit(service.url)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        while waiting:
            call = waiting.popleft()
            writer.write(request_of(call))
            answer = await response_of(reader)
            answers.append((call, answer))
            if answer.headers.get("connection") == "close":
                writer.close()
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.close()

    async with asyncio.timeout(SEND_S):
        await asyncio.gather(*(connection() for _ in range(AT_ONCE)))
    return answers


def request_of(call: Call) -> bytes:
    """As it goes over the wire."""
    headers = [(b"Host", b"test"), (b"Content-Length", b"%d" % len(call.content)), *call.headers]
    lines = [b"%s: %s" % header for header in headers]
    start = f"{call.method} {call.url} HTTP/1.1".encode()
    return b"\r\n".join([start, *lines, b"", call.content])


async def response_of(reader: asyncio.StreamReader) -> httpx.Response:
    """An answer of a known length, as all refusals are."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).strip().split(b"\r\n")
    fields = [line.partition(b": ") for line in lines]
    headers = httpx.Headers([(name, value) for name, _, value in fields])
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return httpx.Response(int(start.split()[1]), headers=headers, content=content)


def is_refusal(answer: httpx.Response, codes: set[str]) -> bool:
    """Is it a problem document with one of these codes, and the status that belongs to it?"""
    if answer.headers.get("content-type") != "application/problem+json":
        return False
    code = answer.json()["code"]
    return code in codes and BY_CODE[code].status == answer.status_code


async def digest(service: Service) -> dict[str, str]:
    """What all tables hold, each in one word."""
    words = {}
    tables = await service.sql("select tablename from pg_tables where schemaname = 'public'")
    async with service.pool.acquire() as connection:
        for [table] in tables:
            rows = BytesIO()
            await connection.copy_from_table(table, output=rows)
            lines = sorted(rows.getvalue().splitlines())
            words[table] = f"{len(lines)} rows: {sha256(b'|'.join(lines)).hexdigest()}"
    return words


async def all_refused(
    service: Service, calls: list[Call], codes: set[str], *, anywhere: frozenset[int] = frozenset()
) -> None:
    """All are refused with one of the codes, as documented, and no row of any table is another.

    A status that may come from anywhere is not said of each operation.
    """
    before = await digest(service)
    answers = await send(service, calls)
    wrong = [
        f"{call}: {answer.status_code} {answer.text[:200]}"
        for call, answer in answers
        if not is_refusal(answer, codes) or answer.status_code not in call.statuses | anywhere
    ]
    assert not wrong, f"{len(wrong)} of {len(calls)}:\n" + "\n".join(wrong[:40])
    assert await digest(service) == before
