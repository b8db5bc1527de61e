"""PostgreSQL crashes, stops, and its commits' replies are lost."""

import asyncio
from itertools import chain
from time import time

import asyncpg
import pytest

from tests.faults import watched
from tests.faults.conftest import FULL, Setting, Stage
from tests.faults.figures import WRITES, between, compare, failed, note, percentile_ms
from tests.faults.proxy import Losing, Verdict
from tests.faults.workload import Sample

pytestmark = pytest.mark.faults

CALM_S = 4.0
AFTER_S = 8.0
CRASHES = 10 if FULL else 3
LOSSES = 200
AWAY_S = 20.0
LOSS_PAUSE_S = 0.1
ORDER = b'"request_hash"'  # only an order's parameters hold it
KINDS = ("read", *WRITES)
PING_S = 0.02
FAR_S = 0.02


async def back(stage: Stage) -> float:
    """When PostgreSQL answers again."""
    while True:
        try:
            connection = await asyncpg.connect(stage.database_url, timeout=1)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            await asyncio.sleep(0.02)
        else:
            await connection.close()
            return time()


def answers_in_time(samples: list[Sample]) -> str:
    """How those that the service failed were told so."""
    refused = [each for each in samples if each.status == 503]
    unheard = [each for each in samples if each.status == 0]
    return f"{len(refused):,} were 503, {len(unheard):,} had no answer, {len(samples):,} in all"


async def test_crashes(staged: Setting) -> None:
    """Everybody is told to come again, and nothing that was answered is lost."""
    fault = f"PostgreSQL crashed and started {CRASHES} times"
    async with staged() as stage:
        running = stage.workload.start(CALM_S + CRASHES * (AFTER_S + 2))
        late_s, spans = [], []
        for _ in range(CRASHES):
            await asyncio.sleep(CALM_S)
            crashed_at = time()
            stage.machines.crash_postgres()
            stage.machines.start_postgres()
            healed_at = await back(stage)
            stage.healed.append(healed_at)
            await asyncio.sleep(AFTER_S - CALM_S)
            spans.append(between(stage.workload.samples, crashed_at, time(), *KINDS))
            lost = [each.due_at for each in spans[-1] if failed(each)]
            late_s.append(max([0.0, *(each - healed_at for each in lost)]))
        stage.workload.stopped = True
        await running
        note(fault, "answers meanwhile", answers_in_time([*chain.from_iterable(spans)]))
        compare(fault, "last failure after it was back", max(late_s), 2, "s")
        await stage.end(fault)


async def pings(stage: Stage, path: str, seconds: float) -> list[float]:
    """How long each worker's answers took that touch nothing; all are 200."""
    waits, deadline = [], time() + seconds
    while time() < deadline:
        for url in stage.caller.urls:
            started_at = time()
            answer = await stage.caller.get(path, url)
            waits.append(time() - started_at)
            assert answer.status == 200
        await asyncio.sleep(PING_S)
    return waits


async def stopped(stage: Stage, fault: str, away_s: float, after_s: float = AFTER_S) -> None:
    """It takes connections and never answers, under load. The workers watch their event loops."""
    running = stage.workload.start(CALM_S + away_s + after_s)
    await asyncio.sleep(CALM_S)
    began_at, machine = time(), watched.idle(away_s)
    with stage.machines.stopped(stage.machines.postgres):
        waits = await pings(stage, "/livez", away_s)
    healed_at = stage.heal()
    await running
    await stage.workload.finish()
    samples = between(stage.workload.samples, began_at, healed_at, *KINDS)
    note(fault, "answers meanwhile", answers_in_time(samples))
    for what, kinds in (("read", ("read",)), ("booking", WRITES)):
        waits_s = [each.waited_s for each in samples if each.kind in kinds]
        compare(fault, f"slowest answer to a {what}, nearly all 503", max(waits_s), 3, "s")
    late = [watched.latest_ms(each.log, began_at, healed_at) for each in stage.workers]
    compare(fault, "an event loop late by", max(late), 100, "ms")
    output, _ = await asyncio.to_thread(machine.communicate)
    note(fault, "an idle process late by, meanwhile", f"{float(output):.1f} ms")
    note(fault, f"slowest of {len(waits):,} looks at /livez", f"{1000 * max(waits):.0f} ms")
    lost = between(stage.workload.samples, healed_at, time(), *KINDS)
    last_at = max((each.due_at for each in lost if failed(each)), default=healed_at)
    compare(fault, "last failure after it was back", last_at - healed_at, 2, "s")


async def test_stopped(staged: Setting) -> None:
    """503 in time, and the event loops run on."""
    fault = f"PostgreSQL stopped for {AWAY_S:g} s"
    async with staged(pair=True, module=("tests.faults.watched",)) as stage:
        await stopped(stage, fault, AWAY_S)
        await stage.end(fault)


async def test_far_away(staged: Setting) -> None:
    """Each way there takes long."""
    fault = f"{1000 * FAR_S:g} ms to and from PostgreSQL"
    async with staged() as stage:
        stage.postgres[0].delay_s = FAR_S
        await stage.workload.run(CALM_S + AFTER_S)
        await stage.workload.finish()
        writes = [each for each in stage.workload.samples if each.kind in WRITES]
        note(fault, "p99 of bookings", f"{percentile_ms(writes, 99):,.0f} ms")
        stage.postgres[0].delay_s = 0  # or some chore always waits for its answer
        await stage.end(fault)


async def test_commit_replies_lost(staged: Setting) -> None:
    """Nothing is sold twice, and nothing that was sold is forgotten."""
    async with staged() as stage:
        running = stage.workload.start(1000)
        stage.postgres[0].rule = rule = Losing(
            ORDER, LOSSES, LOSS_PAUSE_S, Verdict.SWALLOW, Verdict.RESET
        )
        async with asyncio.timeout(10 + LOSSES):
            await rule.done.wait()
        stage.heal()
        await asyncio.sleep(2)
        stage.workload.stopped = True
        await running
        await stage.end(f"{LOSSES} commit replies lost")
