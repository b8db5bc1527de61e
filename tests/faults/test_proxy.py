"""The proxy does to connections what it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import perf_counter

import pytest

from tests.connection import Wire, connected
from tests.faults.proxy import Link, Proxy, Rule, Verdict, proxied


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """One to a server that repeats what it is told."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while said := await reader.read(100):
                writer.write(said)
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with proxied(f"redis://:secret@127.0.0.1:{port}/0") as running:
        yield running
    server.close()


async def echo(wire: Wire, text: bytes) -> bytes:
    """What comes back of it, until there is silence; raises OSError when the connection breaks."""
    wire.writer.write(text)
    heard = b""
    with suppress(TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(0.1):
            while len(heard) < len(text):
                heard += await wire.reader.readexactly(1)
    return heard


def verdict_on(what: bytes, verdict: Verdict, *, reply: bool) -> Rule:
    """A rule for requests, or for replies to requests, that hold these bytes."""

    def rule(link: Link, _chunk: bytes, is_reply: bool) -> Verdict:
        return verdict if is_reply is reply and what in link.request else Verdict.PASS

    return rule


async def test_lets_pass(proxy: Proxy) -> None:
    assert proxy.url.startswith("redis://:secret@127.0.0.1:")
    async with connected(proxy.url) as wire:
        assert await echo(wire, b"one") == b"one"
        assert await echo(wire, b"two") == b"two"


async def test_delays(proxy: Proxy) -> None:
    proxy.delay_s = 0.03
    async with connected(proxy.url) as wire:
        started_at = perf_counter()
        assert await echo(wire, b"one") == b"one"
        assert perf_counter() - started_at >= 0.06


@pytest.mark.parametrize("reply", [False, True])
async def test_swallows(proxy: Proxy, reply: bool) -> None:
    """A request, or the reply to it, and what follows on this connection; nothing else."""
    proxy.rule = verdict_on(b"two", Verdict.SWALLOW, reply=reply)
    async with connected(proxy.url) as wire:
        assert await echo(wire, b"one") == b"one"
        assert await echo(wire, b"two") == b""
        assert await echo(wire, b"three") == b""
    async with connected(proxy.url) as wire:
        assert await echo(wire, b"three") == b"three"


async def test_trickles(proxy: Proxy) -> None:
    proxy.rule = verdict_on(b"one", Verdict.TRICKLE, reply=True)
    async with connected(proxy.url) as wire:
        wire.writer.write(b"one" * 10)
        assert await wire.reader.read(100) == b"o"
        assert await wire.reader.readexactly(29) == (b"one" * 10)[1:]


async def test_resets_one(proxy: Proxy) -> None:
    """The connection that said it; another goes on."""
    proxy.rule = verdict_on(b"two", Verdict.RESET, reply=False)
    async with connected(proxy.url) as wire, connected(proxy.url) as other:
        assert await echo(wire, b"one") == b"one"
        wire.writer.write(b"two")
        with pytest.raises(ConnectionResetError):
            await wire.reader.read()
        assert await echo(other, b"one") == b"one"


async def test_resets_all(proxy: Proxy) -> None:
    async with connected(proxy.url) as wire:
        assert await echo(wire, b"one") == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await wire.reader.read()
    async with connected(proxy.url) as wire:
        assert await echo(wire, b"one") == b"one"


async def test_is_cut_and_opens_again(proxy: Proxy) -> None:
    await proxy.cut()
    with pytest.raises(ConnectionRefusedError):
        async with connected(proxy.url):
            pytest.fail("was let through")
    await proxy.open()
    async with connected(proxy.url) as wire:
        assert await echo(wire, b"one") == b"one"
