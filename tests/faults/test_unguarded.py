"""Every guard switched off in turn: the same faults then break what the checker looks for."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from seatsvc.locks import LOCK
from tests.faults.caller import Wish
from tests.faults.conftest import Setting, Stage
from tests.faults.proxy import Losing, Proxy, Verdict, proxied
from tests.faults.test_workers import ORDER, POINTS, SHORT_TTL_MS, killed_at, overslept
from tests.test_guards import edited

pytestmark = pytest.mark.faults

LOAD_S = 8.0
CALM_S = 2.0
LOSSES = 30
WIPES = 100  # so that there is often one write between two, and the next has its number
LONG_TTL_MS = 60_000


async def rewrite(stage: Stage, function: str, *edits: tuple[str, str]) -> None:
    """Replace parts of an SQL function; each must be there."""
    connection = await asyncpg.connect(stage.database_url)
    text = await connection.fetchval("select pg_get_functiondef($1::regproc)", function)
    await connection.execute(edited(text, *edits))
    await connection.close()


async def execute(stage: Stage, statement: str) -> None:
    """Change the test's own database."""
    connection = await asyncpg.connect(stage.database_url)
    await connection.execute(statement)
    await connection.close()


async def no_memory(stage: Stage) -> None:
    """Idempotency-Keys are written down, and never looked up."""
    await rewrite(stage, "judge", ("k.created_at > now() - interval '24 hours'", "false"))


async def no_guard_in_the_database(stage: Stage) -> None:
    """Every seat passes for free, and two active bookings may have it."""
    await rewrite(stage, "lock_seats", ("return array(", "return wanted; return array("))
    await rewrite(stage, "look_at_seats", ("s.held_until is null or", "true or"))
    await execute(stage, "drop index booking_seats_active_seat_key")


async def broken_invariants(stage: Stage) -> set[int]:
    """What the checker reports."""
    stage.workload.stopped = True
    return {each.invariant for each in await stage.violations()}


async def lose(proxy: Proxy, what: bytes, verdict: Verdict) -> None:
    """Some replies, one by one."""
    proxy.rule = rule = Losing(what, LOSSES, 0.25, verdict)
    async with asyncio.timeout(30):
        await rule.done.wait()


async def test_cut_off_without_its_wait(staged: Setting) -> None:
    """The worker that reaches no Redis answers at once: the other's cache still shows the seat."""
    async with staged(pair=True, module=("tests.faults.broken", "no_wait")) as stage:
        stage.workload.start(CALM_S + LOAD_S)
        await asyncio.sleep(CALM_S)
        await stage.redis[0].cut()
        await asyncio.sleep(LOAD_S)
        await stage.redis[0].open()
        assert 5 in await broken_invariants(stage)


async def test_wiped_without_the_clock(staged: Setting) -> None:
    """Generations begin again, and an old copy passes for a new one."""
    module = "tests.faults.broken", "no_clock"
    async with staged(pair=True, module=module, cache_ttl_ms=5000) as stage:
        stage.workload.start(1000)
        for _ in range(WIPES):
            await asyncio.sleep(LOAD_S / WIPES)
            await stage.wipe_redis()
        assert 5 in await broken_invariants(stage)


async def test_lock_replies_lost_without_their_release(staged: Setting) -> None:
    """Seats are called busy where nobody is."""
    async with staged(pair=True, module=("tests.faults.broken", "forgotten_locks")) as stage:
        stage.rules = replace(stage.rules, locks_may_stay=False)
        stage.workload.start(1000)
        await lose(stage.redis[0], LOCK.sha.encode(), Verdict.SWALLOW)
        assert 9 in await broken_invariants(stage)


async def test_locks_that_are_kept(staged: Setting) -> None:
    """They are still there when all is over."""
    module = "tests.faults.broken", "no_unlock"
    async with staged(module=module, lock_ttl_ms=LONG_TTL_MS) as stage:
        await stage.workload.run(CALM_S)
        assert 11 in await broken_invariants(stage)


async def test_commit_replies_lost_without_a_memory(staged: Setting) -> None:
    """Nobody asks what became of the commit, and no key is remembered."""
    async with staged(pair=True, module=("tests.faults.broken", "no_settling")) as stage:
        await no_memory(stage)
        stage.workload.start(1000)
        await lose(stage.postgres[0], ORDER, Verdict.RESET)
        assert 9 in await broken_invariants(stage)


async def test_crash_without_sync(staged: Setting) -> None:
    """PostgreSQL answers before the commit is written, and forgets it in the crash."""
    async with staged() as stage:
        await execute(stage, "alter database stage set synchronous_commit = off")
        stage.postgres[0].reset()
        stage.workload.start(1000)
        await asyncio.sleep(CALM_S)
        stage.machines.crash_postgres()
        stage.machines.start_postgres()
        await asyncio.sleep(CALM_S)
        assert 2 in await broken_invariants(stage)


async def test_killed_without_a_memory(staged: Setting) -> None:
    """Who tries again is told that the seat is taken: by that very booking."""
    async with staged(pair=True) as stage, proxied(stage.workers[0].url) as front:
        await no_memory(stage)
        stage.caller.urls = [stage.workers[1].url]
        committed = next(point for point in POINTS if point.name == "committed")
        wish = Wish("book", stage.workload.users[0], stage.caller.hall.seats[:1], key=uuid4().hex)
        call = await killed_at(stage, committed, front, wish)
        await stage.workload.settle(wish, call)
        assert 9 in await broken_invariants(stage)


async def test_overslept_without_the_database(staged: Setting) -> None:
    """The lock in Redis alone does not prevent a double sale."""
    async with staged(pair=True, lock_ttl_ms=SHORT_TTL_MS) as stage:
        await no_guard_in_the_database(stage)
        await overslept(stage, 0, keep=True)
        assert 1 in await broken_invariants(stage)
