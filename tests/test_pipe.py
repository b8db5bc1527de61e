"""A connection to Redis, which scripts are called by."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError, NoScriptError, ResponseError

from seatsvc import local
from seatsvc.locks import LOCK
from seatsvc.pipe import Pipe
from seatsvc.scripts import Redis, RedisDown
from tests.conftest import make_settings, until


@pytest.fixture
async def client(servers: local.Servers) -> AsyncIterator[redis.asyncio.Redis]:
    """An empty Redis."""
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def pipe(client: redis.asyncio.Redis) -> AsyncIterator[Pipe]:
    """A connection to it, open."""
    opened = Pipe(client)
    assert await replies(opened, ("PING",)) == [b"PONG"]
    yield opened
    await opened.close()


async def replies(pipe: Pipe, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
    """In time, or none at all."""
    async with asyncio.timeout(5):
        return await pipe.ask(commands)


async def test_many_commands(pipe: Pipe) -> None:
    """As many replies, in their order."""
    numbers = range(1000)
    assert await replies(pipe, *(("SET", n, f"é{n}") for n in numbers)) == [b"OK"] * 1000
    found = await replies(pipe, *(("GET", n) for n in numbers))
    assert found == [f"é{n}".encode() for n in numbers]


async def test_refusals(pipe: Pipe) -> None:
    """They take their place among the replies, and nothing ends."""
    found = await replies(pipe, ("EVALSHA", "0" * 40, 0), ("NONSENSE",), ("SET", "a", b"\xff"))
    assert [type(each) for each in found] == [NoScriptError, ResponseError, bytes]
    assert await replies(pipe, ("GET", "a"), ("GET", "b")) == [b"\xff", None]


async def test_late_reply(pipe: Pipe, client: redis.asyncio.Redis) -> None:
    """What comes when nobody awaits it any more is not taken for the next call's."""
    late = asyncio.create_task(replies(pipe, ("BLPOP", "never", 0)))
    await asyncio.sleep(0.05)
    late.cancel()
    await asyncio.wait({late})

    async def has_ended() -> bool:
        return not pipe.leads_to(client)

    await client.rpush("never", "now")
    await until(has_ended)
    with pytest.raises(ConnectionError):
        await replies(pipe, ("PING",))


async def test_end(pipe: Pipe, client: redis.asyncio.Redis) -> None:
    """Nobody waits for what will never come, and nobody asks in vain."""
    waiting = asyncio.create_task(replies(pipe, ("BLPOP", "never", 0)))
    await asyncio.sleep(0.05)
    assert pipe.leads_to(client)
    await client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(ConnectionError):
        await waiting
    assert not pipe.leads_to(client)
    with pytest.raises(ConnectionError):
        await replies(pipe, ("PING",))


async def test_in_pieces(pipe: Pipe) -> None:
    """Replies may come a byte at a time."""
    waiting = asyncio.create_task(replies(pipe, ("WAIT", 1, 0), ("WAIT", 1, 0)))  # for ever
    await asyncio.sleep(0)
    for n in b"*2\r\n:1\r\n$2\r\nab\r\n:7\r\n":
        pipe.data_received(bytes([n]))
    assert await waiting == [[1, b"ab"], 7]


@pytest.mark.parametrize("junk", [b"!!\r\n", b":1\r\n"])
async def test_what_nobody_asked_for(junk: bytes, pipe: Pipe, client: redis.asyncio.Redis) -> None:
    """What would be taken for somebody's reply ends the connection."""
    pipe.data_received(junk)
    assert not pipe.leads_to(client)


async def test_news(pipe: Pipe, client: redis.asyncio.Redis) -> None:
    """What Redis sends unasked, and says so, is no reply."""
    await replies(pipe, ("HELLO", 3), ("CLIENT", "TRACKING", "ON"), ("GET", "a"))
    await client.set("a", "b")
    assert await replies(pipe, ("GET", "a")) == [b"b"]


async def test_while_no_primary_is_known(servers: local.Servers) -> None:
    """The connections are kept until one is."""
    runner = Redis(make_settings(servers, "postgres"))
    assert await runner.run(LOCK, ["{1}:lock:1"], 1000, "mine 1") == [[]]
    client, runner._primary.client = runner._primary.client, None
    with pytest.raises(RedisDown):
        await runner.run(LOCK, ["{1}:lock:1"], 1000, "mine 1")
    runner._primary.client, [kept] = client, runner._idle
    assert await runner.run(LOCK, ["{1}:lock:1"], 1000, "mine 1") == [[]]
    assert runner._idle == [kept]
    await runner.close()
