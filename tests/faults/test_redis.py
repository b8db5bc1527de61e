"""Redis dies, stops, forgets, fills up, is cut off from one worker, and loses replies."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from time import time

import pytest
import redis.asyncio

from seatsvc.locks import LOCK
from tests.faults.conftest import FULL, Setting, Stage
from tests.faults.figures import (
    WRITES,
    back_s,
    between,
    compare,
    failed_percent,
    note,
    percentile_ms,
)
from tests.faults.proxy import Link, Losing, Verdict, let_pass
from tests.faults.workload import Sample

pytestmark = pytest.mark.faults

CALM_S = 4.0
AFTER_S = 11.0
WIPES = 20
TRICKLE_S = 30.0 if FULL else 6.0
LOSSES = 200
LOSS_PAUSE_S = 0.15  # so that the breaker never sees three in a row


@asynccontextmanager
async def redis_of(stage: Stage) -> AsyncIterator[redis.asyncio.Redis]:
    """The server itself, past all proxies."""
    async with redis.asyncio.Redis.from_url(stage.machines.servers.redis_url) as client:
        yield client


@asynccontextmanager
async def under_load(stage: Stage, fault: str, fault_s: float) -> AsyncIterator[None]:
    """Buyers come all the time; the block is the fault. Then the figures, and the verdict."""
    running = stage.workload.start(CALM_S + fault_s + AFTER_S)
    await asyncio.sleep(CALM_S)
    began_at = time()
    yield
    healed_at = stage.heal()
    await running
    await stage.workload.finish()
    compare_all(stage.workload.samples, fault, began_at, healed_at)
    await stage.end(fault)


def compare_all(samples: list[Sample], fault: str, began_at: float, healed_at: float) -> None:
    """What clients felt of a fault, and what they feel without one on this machine at this time."""
    reads = between(samples, began_at, healed_at, "read")
    writes = between(samples, began_at, healed_at, *WRITES)
    compare(fault, "p99 of reads meanwhile", percentile_ms(reads, 99), 400, "ms")
    compare(fault, "p99 of bookings meanwhile", percentile_ms(writes, 99), 2000, "ms")
    compare(fault, "failures meanwhile", failed_percent(reads + writes), 0.1, "%")
    compare(fault, "back to 95 % of the throughput", back_s(samples, healed_at), 10, "s")
    after = [each for each in samples if each.due_at > healed_at + CALM_S]
    calm = [[each for each in after if each.kind in kinds] for kinds in (("read",), WRITES)]
    p99 = [f"{percentile_ms(each, 99):,.0f} ms" for each in calm]
    note(fault, "p99 of reads, of bookings without it", ", ".join(p99))


async def test_killed(staged: Setting) -> None:
    away_s = 60.0 if FULL else 20.0
    async with staged() as stage, under_load(stage, f"Redis killed for {away_s:g} s", away_s):
        stage.machines.kill_redis()
        await asyncio.sleep(away_s)
        stage.machines.start_redis()


async def test_stopped(staged: Setting) -> None:
    """What was queued for it, it does when it goes on."""
    away_s = 30.0 if FULL else 10.0
    fault = f"Redis stopped for {away_s:g} s"
    async with staged() as stage, under_load(stage, fault, away_s):
        stopped_at = time()
        with stage.machines.stopped(stage.machines.redis):
            await asyncio.sleep(away_s)
            opened_at = breaker_opened_at(stage.workers[0].log, stopped_at)
        # On a machine that is too busy, a breaker may have been open before.
        assert opened_at, "no worker noticed"
        what = f"the last of {len(opened_at)} breakers opens"
        compare(fault, what, max(opened_at) - stopped_at, 0.5, "s")


def breaker_opened_at(log: str, since: float) -> list[float]:
    """The first time for each worker, by their log."""
    lines = [json.loads(line) for line in log.splitlines() if "going on without Redis" in line]
    times = [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
    return [each for each in times if each >= since][:2]


async def test_wiped(staged: Setting) -> None:
    fault = f"Redis wiped {WIPES} times"
    async with staged() as stage, under_load(stage, fault, WIPES / 2):
        for _ in range(WIPES):
            await stage.wipe_redis()
            await asyncio.sleep(0.5)


async def test_full(staged: Setting) -> None:
    """It refuses every write."""
    full_s = 30.0 if FULL else 8.0
    fault = f"Redis full for {full_s:g} s"
    async with staged() as stage, redis_of(stage) as client, under_load(stage, fault, full_s):
        await client.config_set("maxmemory", 1)
        await asyncio.sleep(full_s)
        await client.config_set("maxmemory", 0)


async def test_one_worker_cut_off(staged: Setting) -> None:
    """The other still caches, and must not show what the first one sold."""
    cut_s = 30.0 if FULL else 8.0
    fault = f"one worker cut off from Redis for {cut_s:g} s"
    async with staged(pair=True) as stage, under_load(stage, fault, cut_s):
        await stage.redis[0].cut()
        await asyncio.sleep(cut_s)
        await stage.redis[0].open()


async def test_replies_trickle(staged: Setting) -> None:
    """Byte by byte: some arrive in time, some do not."""
    fault = f"Redis trickles for {TRICKLE_S:g} s"
    async with staged() as stage, under_load(stage, fault, TRICKLE_S):
        stage.redis[0].rule = trickle
        await asyncio.sleep(TRICKLE_S)
        stage.redis[0].rule = let_pass


def trickle(_link: Link, _chunk: bytes, is_reply: bool) -> Verdict:
    """A rule."""
    return Verdict.TRICKLE if is_reply else Verdict.PASS


async def test_lock_replies_lost(staged: Setting) -> None:
    """Nobody is told that a seat is busy at which nobody is."""
    async with staged() as stage:
        stage.rules = replace(stage.rules, locks_may_stay=False)
        running = stage.workload.start(1000)
        rule = Losing(LOCK.sha.encode(), LOSSES, LOSS_PAUSE_S, Verdict.SWALLOW)
        stage.redis[0].rule = rule
        async with asyncio.timeout(10 + LOSSES):
            await rule.done.wait()
        stage.heal()
        await asyncio.sleep(2)
        stage.workload.stopped = True
        await running
        await stage.end(f"{LOSSES} lock replies lost")
