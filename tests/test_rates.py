"""Rate limits: the quotas, on a real Redis and without it."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import redis.asyncio

from seatsvc import local, rates
from seatsvc.errors import RateLimited
from seatsvc.rates import Memory, Rate, Rates
from seatsvc.scripts import Redis
from tests.conftest import make_settings, until
from tests.gate import gate

NOBODY_HERE = "redis://127.0.0.1:1/0"
TEN = Rate("ten", 10, 600)  # one more a minute: none within a test
STEP_US = 60_000_000
HOUR_US = 3_600_000_000
ALL_KEYS = "rate:*"

Raw = redis.asyncio.Redis


@pytest.fixture
async def raw(servers: local.Servers) -> AsyncIterator[Raw]:
    """A wiped Redis, to look into."""
    async with Raw.from_url(servers.redis_url, decode_responses=True) as client:
        await client.flushall()
        yield client


@asynccontextmanager
async def worker(servers: local.Servers, **overrides: Any) -> AsyncIterator[Rates]:
    """A worker's quotas."""
    current = make_settings(servers, "postgres", **{"rate_limits": "on"} | overrides)
    runner = Redis(current)
    try:
        yield Rates(runner, current)
    finally:
        await runner.close()


@pytest.fixture
async def quotas(
    servers: local.Servers, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rates]:
    """The quotas of one worker, as Redis alone counts them."""
    monkeypatch.setattr(rates, "Memory", lambda: None)
    async with worker(servers) as running:
        yield running


@pytest.fixture
async def alone(servers: local.Servers) -> AsyncIterator[Rates]:
    """The quotas of one worker that has no Redis."""
    async with worker(servers, redis_url=NOBODY_HERE) as running:
        yield running


@pytest.fixture(params=["quotas", "alone"])
def either(request: pytest.FixtureRequest) -> Rates:
    """The quotas of one worker, whichever way it counts."""
    return cast(Rates, request.getfixturevalue(request.param))


async def granted(*calls: Awaitable[object]) -> int:
    """How many of these calls at once were not refused."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, RateLimited):
            raise answer
    return sum(not isinstance(answer, RateLimited) for answer in answers)


async def many(quotas: Rates, count: int, who: str = "me") -> int:
    """Of so many requests at once, how many may go on."""
    return await granted(*(quotas.spend(TEN, who) for _ in range(count)))


async def key_of(raw: Raw) -> str:
    """The only key."""
    [key] = await raw.keys(ALL_KEYS)
    return str(key)


async def moved(raw: Raw, by_us: int) -> None:
    """As if so much time had passed, or, if less than none, as if the clock had been set back."""
    key = await key_of(raw)
    full_at_us = int(await raw.get(key) or 0) - by_us
    await raw.set(key, full_at_us, px=HOUR_US // 500)


async def test_quota(either: Rates) -> None:
    """All at once, down to nothing; then a refusal that says when to come again."""
    left = [await either.spend(TEN, "me") for _ in range(10)]
    assert [each.remaining for each in left if each] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert all(each and 50 < each.more_s <= 60 for each in left)
    with pytest.raises(RateLimited) as refusal:
        await either.spend(TEN, "me")
    assert refusal.value.retry_after_s in range(50, 61)


async def test_quota_of_one(either: Rates) -> None:
    """Is one, not none."""
    only = Rate("only", 1, 600)
    assert await granted(*(either.spend(only, "me") for _ in range(3))) == 1


async def test_quotas_are_apart(either: Rates) -> None:
    """Another's, or another kind's, is not touched."""
    assert await many(either, 11) == 10
    assert await many(either, 11, "you") == 10
    other = await either.spend(Rate("other", 10, 600), "me")
    assert other
    assert other.remaining == 9


async def test_exactly_the_quota_at_once(either: Rates) -> None:
    """A hundred requests race for ten: exactly ten win."""
    assert await many(either, 100) == 10
    assert await many(either, 100) == 0


async def test_workers_share(servers: local.Servers, quotas: Rates) -> None:
    """Two workers race each other for the same ten."""
    async with worker(servers) as other:
        calls = [each.spend(TEN, "me") for _ in range(50) for each in (quotas, other)]
        assert await granted(*calls) == 10


async def test_it_comes_back(either: Rates) -> None:
    """Whoever waits as long as was said gets one more, and no second one."""
    quick = Rate("quick", 2, 2)
    assert await granted(*(either.spend(quick, "me") for _ in range(3))) == 2
    with pytest.raises(RateLimited) as refusal:
        await either.spend(quick, "me")
    assert refusal.value.retry_after_s == 1
    await asyncio.sleep(1)
    assert await granted(*(either.spend(quick, "me") for _ in range(3))) == 1


@pytest.mark.parametrize(("passed", "back"), [(0, 0), (0.9, 0), (1, 1), (3.5, 3), (10, 10)])
async def test_it_comes_back_evenly(quotas: Rates, raw: Raw, passed: float, back: int) -> None:
    """One in each step, until all are back."""
    await many(quotas, 10)
    await moved(raw, int(passed * STEP_US))
    assert await many(quotas, 20) == back


async def test_nothing_is_saved_up(quotas: Rates, raw: Raw) -> None:
    """A key that is old, by whatever accident, is worth a whole quota and no more."""
    await many(quotas, 1)
    await moved(raw, HOUR_US)
    assert await many(quotas, 20) == 10
    assert 590_000 < await raw.pttl(await key_of(raw)) <= 600_000


async def test_refusals_cost_nothing(quotas: Rates, raw: Raw) -> None:
    """Whoever goes on asking does not wait longer for it."""
    await many(quotas, 10)
    before = await raw.get(await key_of(raw))
    assert await many(quotas, 50) == 0
    assert await raw.get(await key_of(raw)) == before


async def test_clock_set_back(quotas: Rates, raw: Raw) -> None:
    """Redis' clock jumps back by an hour: nobody waits longer than after an empty quota."""
    await many(quotas, 1)
    await moved(raw, -HOUR_US)
    with pytest.raises(RateLimited) as refusal:
        await quotas.spend(TEN, "me")
    assert refusal.value.retry_after_s == 60
    assert 0 < await raw.pttl(await key_of(raw)) <= 600_000
    await moved(raw, STEP_US)
    assert await many(quotas, 5) == 1


async def test_wiped_redis(quotas: Rates, raw: Raw) -> None:
    """It knows of nobody; the script is found again, too."""
    assert await many(quotas, 20) == 10
    await raw.flushall()
    await raw.script_flush()
    assert await many(quotas, 20) == 10


async def test_no_key_stays(quotas: Rates, raw: Raw) -> None:
    """A key lives until the quota is whole again, after a refusal as well."""
    await many(quotas, 1)
    assert 50_000 < await raw.pttl(await key_of(raw)) <= 60_000
    await many(quotas, 20)
    assert 590_000 < await raw.pttl(await key_of(raw)) <= 600_000


async def test_keys_name_nobody(quotas: Rates, raw: Raw) -> None:
    """Who reads Redis learns no address and no name."""
    await quotas.spend(TEN, "192.0.2.1 alice@example.org")
    key = await key_of(raw)
    assert re.fullmatch(r"rate:ten:[0-9a-f]{32}", key)


async def test_redis_goes_and_comes(servers: local.Servers, raw: Raw) -> None:
    """The limit holds while Redis is away; when it is back, it counts again."""
    async with gate(servers.redis_url) as way, worker(servers, redis_url=way.url) as quotas:
        assert await many(quotas, 4) == 4
        await way.cut()
        assert await many(quotas, 100) == 10
        assert await many(quotas, 100) == 0
        await way.open()

        async def counts_again() -> bool:
            return await many(quotas, 1) == 1

        await until(counts_again)
        assert await many(quotas, 100) == 5


async def test_redis_freezes(servers: local.Servers, raw: Raw) -> None:
    """Nobody waits longer than for Redis' own timeout, and the limit holds."""
    async with worker(servers) as quotas:
        assert await many(quotas, 1) == 1
        os.kill(servers.redis.pid, signal.SIGSTOP)
        try:
            started_at = time.monotonic()
            assert await many(quotas, 100) == 10
            assert time.monotonic() - started_at < 1
        finally:
            os.kill(servers.redis.pid, signal.SIGCONT)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many quotas, those are forgotten that nobody has asked for the longest."""
    monkeypatch.setattr(rates, "QUOTAS_MAX", 100)
    memory = Memory()
    for number in range(1000):
        memory.ask(TEN, "busy")
        memory.ask(TEN, f"key{number}")
    assert len(memory) == 100
    assert memory.ask(TEN, "busy")[0] == 0
    assert memory.ask(TEN, "key999")[1] > STEP_US
    assert memory.ask(TEN, "key0")[1] == STEP_US


async def test_off(servers: local.Servers, raw: Raw) -> None:
    """Nobody is refused, and nothing is written down."""
    async with worker(servers, rate_limits="off") as quotas:
        assert await many(quotas, 100) == 100
        assert await quotas.spend(TEN, "me") is None
    assert not await raw.keys(ALL_KEYS)
