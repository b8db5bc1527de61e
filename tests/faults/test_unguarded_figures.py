"""Guards that keep the service quick and whole, switched off: the table says what is missed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time

import pytest

from tests.faults.caller import CHANCE
from tests.faults.conftest import Setting, Stage
from tests.faults.figures import Figure, aside, missed
from tests.faults.proxy import Losing, Verdict, let_pass
from tests.faults.test_clients import HANG_UP_S
from tests.faults.test_postgres import ORDER, stopped
from tests.faults.test_redis import compare_all, redis_of
from tests.faults.test_unguarded import CALM_S, LONG_TTL_MS, broken_invariants
from tests.faults.test_workers import told_to_end

pytestmark = pytest.mark.faults

FAULT_S = 4.0
AFTER_S = 5.0
CLIENTS = 100
STOPS = 2


def broken_by(guard: str) -> tuple[str, str]:
    """The module that serves without it."""
    return "tests.faults.broken", guard


@asynccontextmanager
async def felt(stage: Stage) -> AsyncIterator[list[Figure]]:
    """What clients feel of the block, under load."""
    running = stage.workload.start(CALM_S + FAULT_S + AFTER_S)
    await asyncio.sleep(CALM_S)
    began_at = time()
    with aside() as figures:
        yield figures
        healed_at = time()
        await running
        await stage.workload.finish()
        compare_all(stage.workload.samples, "", began_at, healed_at)


async def test_redis_killed_where_it_is_needed(staged: Setting) -> None:
    """Nobody can book without it."""
    async with staged(module=broken_by("needs_redis")) as stage:
        async with felt(stage) as figures:
            stage.machines.kill_redis()
            await asyncio.sleep(FAULT_S)
            stage.machines.start_redis()
        assert "failures meanwhile" in missed(figures)


async def test_redis_stopped_without_time_outs(staged: Setting) -> None:
    """Everybody waits for it."""
    async with staged(module=broken_by("no_timeouts")) as stage:
        async with felt(stage) as figures:
            with stage.machines.stopped(stage.machines.redis):
                await asyncio.sleep(FAULT_S)
        assert "p99 of reads meanwhile" in missed(figures)


async def test_redis_full_and_not_taken_for_down(staged: Setting) -> None:
    """Its refusals become failures of ours."""
    async with staged(module=broken_by("errors_pass")) as stage, redis_of(stage) as client:
        stage.workload.start(CALM_S + FAULT_S)
        await asyncio.sleep(CALM_S)
        await client.config_set("maxmemory", 1)
        await asyncio.sleep(FAULT_S)
        await client.config_set("maxmemory", 0)
        assert 9 in await broken_invariants(stage)


async def test_redis_away_for_a_moment_without_the_wait(staged: Setting) -> None:
    """What it kept from before is shown when it is there again."""
    async with staged(module=broken_by("no_wait"), cache_ttl_ms=5000, pair=True) as stage:
        stage.workload.start(1000)
        for _ in range(6):
            await asyncio.sleep(CALM_S)
            for way in stage.redis:
                await way.cut()
            await asyncio.sleep(1)
            for way in stage.redis:
                await way.open()
        await asyncio.sleep(CALM_S)
        assert 5 in await broken_invariants(stage)


async def test_postgres_stopped_without_deadlines(staged: Setting) -> None:
    """Everybody waits for it, for as long as clients do."""
    async with staged(pair=True, module=broken_by("no_deadlines")) as stage:
        with aside() as figures:
            await stopped(stage, "", FAULT_S, CALM_S)
        assert "slowest answer to a booking, nearly all 503" in missed(figures)


async def test_loop_that_is_blocked(staged: Setting) -> None:
    """One call that does not let others run is noticed."""
    async with staged(pair=True, module=broken_by("blocks")) as stage:
        with aside() as figures:
            await stopped(stage, "", FAULT_S, CALM_S)
        assert "an event loop late by" in missed(figures)


async def test_told_to_end_without_a_drain(staged: Setting) -> None:
    """What was accepted is dropped."""
    async with staged(pair=True, module=broken_by("no_drain")) as stage:
        stage.postgres[0].delay_s = stage.postgres[1].delay_s = 0.05
        with aside() as figures:
            await told_to_end(stage, "", STOPS)
        assert "accepted calls without an answer" in missed(figures)


async def leave(stage: Stage) -> None:
    """Ask for something, give up at a random moment, and never come back."""
    asking = asyncio.create_task(stage.caller.call(stage.workload.wish()))
    await asyncio.wait({asking}, timeout=HANG_UP_S * CHANCE.random())
    asking.cancel()
    await asyncio.wait({asking})


@pytest.mark.parametrize(("guard", "broken"), [("no_shield", {11}), ("cancels", set())])
async def test_hang_up_without_the_shield(staged: Setting, guard: str, broken: set[int]) -> None:
    """Orders stop half-way, and leave their locks behind; with the shield, nothing happens."""
    async with staged(pair=True, module=broken_by(guard), lock_ttl_ms=LONG_TTL_MS) as stage:
        for way in stage.postgres:
            way.rule = Losing(ORDER, CLIENTS, 0, Verdict.SWALLOW)  # so that orders take long
        await asyncio.gather(*(leave(stage) for _ in range(CLIENTS)))
        for way in stage.postgres:
            way.rule = let_pass
        await asyncio.sleep(AFTER_S)
        assert await broken_invariants(stage) & {1, 4, 8, 11} == broken
