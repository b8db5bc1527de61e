"""The Lua scripts, each as its head documents it, on a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import redis.asyncio
import uvloop

from seatsvc import local
from seatsvc.locks import FINISH, LOCK
from seatsvc.pipe import Command, Pipe
from seatsvc.scripts import Breaker, Redis, RedisDown
from seatsvc.seats import READ, STORE
from tests.conftest import make_settings

GENERATION, ENTRY, FILL = KEYS = ["{1}:gen", "{1}:avail", "{1}:fill"]
ONE, TWO, THREE = "{1}:lock:1", "{1}:lock:2", "{1}:lock:3"
HOUR_MS = 3_600_000

Raw = redis.asyncio.Redis


@pytest.fixture
async def raw(servers: local.Servers) -> AsyncIterator[Raw]:
    """A wiped Redis, to look into."""
    async with Raw.from_url(servers.redis_url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def scripts(servers: local.Servers, raw: Raw) -> AsyncIterator[Redis]:
    """What runs the scripts."""
    runner = Redis(make_settings(servers, "postgres"))
    yield runner
    await runner.close()


async def test_lock_takes_all(scripts: Redis, raw: Raw) -> None:
    """Each key holds the token, for the TTL."""
    assert await scripts.run(LOCK, [ONE, TWO], 5000, "mine 2") == [[]]
    for key in (ONE, TWO):
        assert await raw.get(key) == b"mine"
        assert 0 < await raw.pttl(key) <= 5000


async def test_lock_takes_all_or_none(scripts: Redis, raw: Raw) -> None:
    """One held key refuses the request, names its position, and leaves the others alone."""
    await raw.set(TWO, "theirs", px=60_000)
    assert await scripts.run(LOCK, [ONE, TWO, THREE], 5000, "mine 3") == [[2]]
    assert await raw.keys("*lock*") == [TWO.encode()]
    assert await raw.get(TWO) == b"theirs"
    assert await raw.pttl(TWO) > 5000


async def test_lock_again_with_own_token(scripts: Redis, raw: Raw) -> None:
    """A lost reply does not lock its owner out: the lock is renewed."""
    await raw.set(ONE, "mine", px=100)
    assert await scripts.run(LOCK, [ONE, TWO], 5000, "mine 2") == [[]]
    assert await raw.pttl(ONE) > 100
    assert await raw.get(TWO) == b"mine"


async def test_lock_judges_each_request(scripts: Redis, raw: Raw) -> None:
    """In one call, an earlier request stands in the way of a later one, and of no other."""
    keys = [ONE, TWO, TWO, THREE, THREE]
    requests = "first 2 second 2 third 1"
    assert await scripts.run(LOCK, keys, 5000, requests) == [[], [1], []]
    assert [await raw.get(key) for key in (ONE, TWO, THREE)] == [b"first", b"first", b"third"]


async def test_lock_of_nothing(scripts: Redis, raw: Raw) -> None:
    """A request without keys is granted, whatever others hold."""
    await raw.set(ONE, "theirs")
    assert await scripts.run(LOCK, [ONE], 5000, "none 0 mine 1") == [[], [1]]


async def test_lock_from_before_the_clock_was_set_back(scripts: Redis, raw: Raw) -> None:
    """It would stay for an hour; no lock may live that long."""
    await raw.set(ONE, "theirs", px=HOUR_MS)
    assert await scripts.run(LOCK, [ONE], 5000, "mine 1") == [[]]
    assert await raw.get(ONE) == b"mine"
    assert await raw.pttl(ONE) <= 5000


async def test_finish_releases_own_locks_only(scripts: Redis, raw: Raw) -> None:
    """Compare and delete: a lock that expired and went to another stays theirs."""
    await raw.mset({ONE: "mine", TWO: "theirs"})
    keys = [GENERATION, ENTRY, ONE, TWO, THREE]
    assert await scripts.run(FINISH, keys, HOUR_MS, "mine mine mine") == 1
    assert await raw.get(ONE) is None
    assert await raw.get(TWO) == b"theirs"


async def test_finish_invalidates(scripts: Redis, raw: Raw) -> None:
    """The generation changes and is remembered; the entry is gone."""
    await raw.set(GENERATION, 41, px=1000)
    await raw.hset(ENTRY, mapping={"generation": 41, "body": "old"})
    assert await scripts.run(FINISH, [GENERATION, ENTRY], HOUR_MS, "") == 0
    assert await raw.get(GENERATION) == b"42"
    assert await raw.pttl(GENERATION) > 1000
    assert not await raw.exists(ENTRY)


async def test_finish_after_a_wipe_repeats_no_generation(scripts: Redis, raw: Raw) -> None:
    """Seeded from the clock, in microseconds: more than any number counted to before."""
    generations = []
    for _ in range(5):
        await scripts.run(FINISH, [GENERATION, ENTRY], HOUR_MS, "")
        await scripts.run(FINISH, [GENERATION, ENTRY], HOUR_MS, "")
        generations.append(int(await raw.get(GENERATION) or 0))
        await raw.flushall()
    assert generations == sorted(set(generations))
    assert abs(generations[0] / 1e6 - time.time()) < 3600


async def test_read_of_nothing_fills(scripts: Redis, raw: Raw) -> None:
    """After a wipe: a new generation, from the clock, and the fill token for whoever asked."""
    [what, generation] = await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "")
    assert what == b"fill"
    assert abs(int(generation) / 1e6 - time.time()) < 3600
    assert await raw.get(GENERATION) == generation
    assert 250 < await raw.pttl(GENERATION) <= HOUR_MS
    assert await raw.get(FILL) == b"me"
    assert 0 < await raw.pttl(FILL) <= 250


async def test_read_waits_for_the_one_who_fills(scripts: Redis, raw: Raw) -> None:
    """There is one fill token; when it has expired the next reader takes it."""
    await raw.mset({GENERATION: 7, FILL: "them"})
    assert await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "") == [b"wait"]
    assert await raw.get(FILL) == b"them"
    await raw.delete(FILL)
    assert await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "") == [b"fill", b"7"]


async def test_read_of_an_entry(scripts: Redis, raw: Raw) -> None:
    """An entry of this generation, with the time it has left; no token is taken."""
    await raw.set(GENERATION, 7)
    await raw.hset(ENTRY, mapping={"generation": 7, "body": b"\x00\xffbody"})
    await raw.pexpire(ENTRY, 1000)
    [what, generation, body, ttl_ms] = await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "")
    assert (what, generation, body) == (b"entry", b"7", b"\x00\xffbody")
    assert 0 < ttl_ms <= 1000
    assert not await raw.exists(FILL)


async def test_read_passes_an_old_entry_over(scripts: Redis, raw: Raw) -> None:
    """An entry that was filled for another generation is never served."""
    await raw.set(GENERATION, 8)
    await raw.hset(ENTRY, mapping={"generation": 7, "body": "old"})
    assert await scripts.run(READ, KEYS, "7", "me", 250, HOUR_MS, "") == [b"fill", b"8"]


async def test_read_after_the_clock_was_set_back(scripts: Redis, raw: Raw) -> None:
    """Neither the entry nor the fill token counts any more: both would stay for an hour."""
    await raw.set(GENERATION, 7)
    await raw.hset(ENTRY, mapping={"generation": 7, "body": "old"})
    await raw.pexpire(ENTRY, HOUR_MS)
    await raw.set(FILL, "them", px=HOUR_MS)
    assert await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "") == [b"fill", b"7"]
    assert await raw.get(FILL) == b"me"
    assert await raw.pttl(FILL) <= 250
    assert await scripts.run(STORE, KEYS, "7", "me", "new", 1000, "") == 1
    [what, _, body, _] = await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "")
    assert (what, body) == (b"entry", b"new")


async def test_read_with_a_copy(scripts: Redis, raw: Raw) -> None:
    """Whoever has a copy of this generation is told only that; a wiped Redis knows of none."""
    await raw.set(GENERATION, 7)
    assert await scripts.run(READ, KEYS, "7", "me", 250, HOUR_MS, "") == [b"same"]
    assert not await raw.exists(FILL)
    await raw.flushall()
    [what, generation] = await scripts.run(READ, KEYS, "7", "me", 250, HOUR_MS, "")
    assert what == b"fill"
    assert generation != b"7"


async def test_store(scripts: Redis, raw: Raw) -> None:
    """With the token, for the present generation: stored for its TTL, and the token is spent."""
    await raw.mset({GENERATION: 7, FILL: "me"})
    assert await scripts.run(STORE, KEYS, "7", "me", b"\x00\xffbody", 1000, "") == 1
    assert await raw.hgetall(ENTRY) == {b"generation": b"7", b"body": b"\x00\xffbody"}
    assert 0 < await raw.pttl(ENTRY) <= 1000
    assert not await raw.exists(FILL)
    assert await scripts.run(STORE, KEYS, "7", "me", "again", 1000, "") == 0


async def test_store_after_a_write(scripts: Redis, raw: Raw) -> None:
    """A write came between: nothing is stored, and the next reader may fill."""
    [_, generation] = await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "")
    await scripts.run(FINISH, [GENERATION, ENTRY], HOUR_MS, "")
    assert await scripts.run(STORE, KEYS, generation, "me", "old", 1000, "") == 0
    assert not await raw.exists(ENTRY)
    assert (await scripts.run(READ, KEYS, "", "other", 250, HOUR_MS, ""))[0] == b"fill"


@pytest.mark.parametrize("token", [None, "them"])
async def test_store_without_the_token(scripts: Redis, raw: Raw, token: str | None) -> None:
    """The token expired, or is another's by now, who keeps it: nothing is stored."""
    await raw.set(GENERATION, 7)
    if token:
        await raw.set(FILL, token)
    assert await scripts.run(STORE, KEYS, "7", "me", "late", 1000, "") == 0
    assert not await raw.exists(ENTRY)
    assert await raw.get(FILL) == (token and token.encode())


async def test_store_after_a_wipe(scripts: Redis, raw: Raw) -> None:
    """What was read before a wipe is not stored after it."""
    [_, generation] = await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "")
    await raw.flushall()
    assert await scripts.run(STORE, KEYS, generation, "me", "old", 1000, "") == 0
    await scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "")
    assert await scripts.run(STORE, KEYS, generation, "me", "old", 1000, "") == 0
    assert not await raw.exists(ENTRY)


async def test_forgotten_scripts_are_loaded_again(scripts: Redis, raw: Raw) -> None:
    """SCRIPT FLUSH, or another Redis at the same address, goes unnoticed."""
    for _ in range(2):
        await raw.script_flush()
        calls = [scripts.run(LOCK, [f"{{1}}:lock:{n}"], 5000, "mine 1") for n in range(5)]
        calls += [scripts.run(READ, KEYS, "", "me", 250, HOUR_MS, "")]
        *locked, read = await asyncio.gather(*calls)
        assert locked == [[[]]] * 5
        assert read[0] in (b"fill", b"wait")


async def test_an_error_of_one_call_is_its_own(scripts: Redis, raw: Raw) -> None:
    """A script that fails gets RedisDown; its neighbours in the pipeline get their results."""
    await raw.hset("{1}:lock:wrong", "no", "string")
    bad = scripts.run(LOCK, ["{1}:lock:wrong"], 5000, "mine 1")
    good = scripts.run(LOCK, [ONE], 5000, "mine 1")
    results = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(results[0], RedisDown)
    assert results[1] == [[]]


def test_breaker() -> None:
    """Open after three failures in a row; then one probe in half a second, until one succeeds."""
    now = 100.0
    breaker = Breaker(lambda: now)
    for _ in range(2):
        breaker.failed("x")
    assert breaker.allows()
    breaker.succeeded()
    for _ in range(2):
        breaker.failed("x")
    assert not breaker.open
    breaker.failed("x")
    assert breaker.open
    now += 0.6
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed("x")
    now += 0.4
    assert not breaker.allows()
    now += 0.2
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_connection_closes_as_it_is_used(
    servers: local.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On uvloop, too, on which the service runs. The next call opens another."""
    ask = Pipe.ask

    async def close_and_ask(pipe: Pipe, commands: Sequence[Command]) -> list[Any]:
        assert pipe._transport is not None
        pipe._transport.abort()
        return await ask(pipe, commands)

    async def use() -> None:
        runner = Redis(make_settings(servers, "postgres"))
        try:
            assert await runner.run(LOCK, [ONE], 1000, "mine 1") == [[]]
            with monkeypatch.context() as patches:
                patches.setattr(Pipe, "ask", close_and_ask)
                with pytest.raises(RedisDown):
                    await runner.run(LOCK, [ONE], 1000, "mine 1")
            assert await runner.run(LOCK, [ONE], 1000, "mine 1") == [[]]
        finally:
            await runner.close()

    loop = uvloop.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
