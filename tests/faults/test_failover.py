"""The standby of PostgreSQL is promoted, and Sentinel makes another Redis the primary."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time
from uuid import uuid4

import pytest

from tests.faults.caller import Wish
from tests.faults.conftest import Ground
from tests.faults.figures import back_s, compare
from tests.faults.pairs import Pair, postgres_pair, redis_pair
from tests.faults.test_unguarded import broken_invariants

pytestmark = pytest.mark.faults

CALM_S = 2.0
AFTER_S = 3.0
DEAF_S = 3.0
END_S = 0.2
LAG_S = 0.7

# What was shown taken, and told to be taken, to others than its buyer.
SEEN_TOO_EARLY = {6, 9}

Fault = Callable[[Pair], Awaitable[None]]


async def befall(pair: Pair, fault: Fault) -> None:
    """Buyers come before, during and after it."""
    workload = pair.stage.workload
    running = workload.start(1000)
    await asyncio.sleep(CALM_S)
    await fault(pair)
    pair.stage.heal()
    await asyncio.sleep(AFTER_S)
    workload.stopped = True
    await running
    await workload.finish()


async def crash(pair: Pair) -> None:
    """The primary is gone."""
    pair.changed_at = time()
    pair.stage.machines.crash_postgres()
    await pair.promote()


async def part(pair: Pair) -> None:
    """For a while before the crash, the standby hears nothing."""
    pair.between.deaf = True
    await asyncio.sleep(DEAF_S)
    await crash(pair)


async def part_and_end(pair: Pair) -> None:
    """Likewise, and what waits for it is ended."""
    pair.between.deaf = True
    ended = 0
    for _ in range(int(DEAF_S / END_S)):
        await asyncio.sleep(END_S)
        ended += await pair.end_what_waits()
    assert ended, "nobody waited"
    await crash(pair)


async def stop(pair: Pair) -> None:
    """The primary takes connections and says nothing, until the operator ends it."""
    pair.changed_at = time()
    with pair.stage.machines.stopped(pair.stage.machines.postgres):
        await pair.promote()
        await asyncio.sleep(AFTER_S)
    pair.stage.machines.crash_postgres()


async def forbid_writing(pair: Pair) -> None:
    """The operator lets the primary write nothing more, promotes, and leaves it alive."""
    await pair.first_only_reads()
    pair.changed_at = time()
    await pair.promote()


@pytest.mark.parametrize("fault", [part, stop, forbid_writing])
async def test_promotion(tmp_path: Path, fault: Fault) -> None:
    """Where replication is synchronous, nothing that was answered is lost."""
    what = f"standby promoted: {fault.__name__.replace('_', ' ')}"
    async with postgres_pair(tmp_path) as pair:
        await befall(pair, fault)
        samples, since = pair.stage.workload.samples, pair.changed_at
        booked = [each for each in samples if each.status == 201 and each.due_at > since]
        first_s = min(each.due_at + each.waited_s for each in booked) - since
        compare(what, "first booking after the loss", first_s, 5, "s")
        compare(what, "back to 95 % of the throughput", back_s(samples, since), 10, "s")
        await pair.stage.end(what)


async def test_promotion_after_commits_that_did_not_wait(tmp_path: Path) -> None:
    """They are visible until the crash, and nobody was told that they are safe."""
    async with postgres_pair(tmp_path) as pair:
        await befall(pair, part_and_end)
        assert await broken_invariants(pair.stage) <= SEEN_TOO_EARLY


async def test_promotion_without_synchrony(tmp_path: Path) -> None:
    """What the standby has not got is lost."""
    async with postgres_pair(tmp_path, synchronous=False) as pair:
        await befall(pair, part)
        assert 2 in await broken_invariants(pair.stage)


async def test_promotion_without_waiting(tmp_path: Path) -> None:
    """Seen is taken for safe."""
    module = "tests.faults.broken", "no_wait_for_standbys"
    async with postgres_pair(tmp_path, module=module) as pair:
        await befall(pair, part_and_end)
        assert 2 in await broken_invariants(pair.stage)


async def kill(pair: Pair) -> None:
    """The replica lags, then the primary is gone."""
    pair.between.deaf = True
    await asyncio.sleep(LAG_S)
    pair.changed_at = time()
    await pair.way.cut()
    pair.stage.machines.kill_redis()
    await pair.failed_over()
    await pair.cached()


async def hand_over(pair: Pair) -> None:
    """The old primary lives on, and the first worker hears of the new one only later."""
    for way in pair.first_workers_ways:
        await way.cut()
    await pair.fail_over()
    await pair.failed_over()
    await asyncio.sleep(AFTER_S)
    pair.changed_at = time()
    for way in pair.first_workers_ways:
        await way.open()
    await pair.cached()


async def kill_quietly(pair: Pair) -> None:
    """Nobody writes while the primary changes, and the clock of the new one is behind."""
    caller, user = pair.stage.caller, pair.stage.workload.users[0]
    for url in caller.urls:
        await caller.call(Wish("read", user), url)
    await pair.replicated()
    pair.between.deaf = True
    await caller.call(Wish("book", user, caller.hall.seats[:1], key=uuid4().hex))
    await pair.way.cut()
    pair.stage.machines.kill_redis()
    await pair.failed_over()
    await pair.set_clock_back()
    await pair.cached()
    for url in caller.urls:
        await caller.call(Wish("read", user), url)


@pytest.mark.parametrize("fault", [kill, hand_over])
async def test_sentinel(ground: Ground, tmp_path: Path, fault: Fault) -> None:
    """Nobody is shown what another primary's time has left, or has not heard of."""
    what = f"Redis failed over: {fault.__name__.replace('_', ' ')}"
    async with redis_pair(ground, tmp_path) as pair:
        await befall(pair, fault)
        samples = pair.stage.workload.samples
        compare(what, "until locks and cache are back", pair.cached_at - pair.changed_at, 10, "s")
        compare(what, "back to 95 % of the throughput", back_s(samples, pair.changed_at), 10, "s")
        await pair.stage.end(what)


async def test_sentinel_quietly(ground: Ground, tmp_path: Path) -> None:
    """What the old primary cached is not current, however long it lives."""
    async with redis_pair(ground, tmp_path) as pair:
        await kill_quietly(pair)
        await pair.stage.end("Redis failed over: killed quietly")


async def test_sentinel_without_leases(ground: Ground, tmp_path: Path) -> None:
    """Each worker relies on its own primary."""
    module = "tests.faults.broken", "no_lease"
    async with redis_pair(ground, tmp_path, module=module) as pair:
        await befall(pair, hand_over)
        assert 5 in await broken_invariants(pair.stage)


async def test_sentinel_without_eras(ground: Ground, tmp_path: Path) -> None:
    """An old entry has the present generation."""
    module = "tests.faults.broken", "no_era"
    async with redis_pair(ground, tmp_path, module=module) as pair:
        await kill_quietly(pair)
        assert 5 in await broken_invariants(pair.stage)
