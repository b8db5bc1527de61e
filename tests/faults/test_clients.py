"""Clients on a quiet day, and clients that hang up."""

import asyncio
from collections import Counter

import pytest

from tests.faults.caller import CHANCE
from tests.faults.conftest import FULL, Setting, Stage
from tests.faults.figures import note

pytestmark = pytest.mark.faults

CLIENTS = 1000
POOL_SIZE = 2
AT_ONCE_S = 0.1
ROUNDS = 5 if FULL else 1
HANG_UP_S = 1.0
WARM_UP_S = 3.0
QUIET_S = 10.0
TO_SETTLE = ("book", "hold", "cancel", "release")


async def test_nothing_happens(staged: Setting) -> None:
    """The workload is what it says, and the checker has nothing to say about it."""
    async with staged() as stage:
        await stage.workload.run(QUIET_S)
        await stage.end(f"none, for {QUIET_S:g} s")
        done = Counter(sample.kind for sample in stage.workload.samples)
        assert 0.5 < done["read"] / done.total() < 0.7
        assert min(done[kind] for kind in (*TO_SETTLE, "peek")) > 0
        assert {call.status for call in stage.caller.history} == {200, 201, 204, 404, 409}


async def test_crowd_on_a_small_pool(staged: Setting) -> None:
    """A thousand at the same moment, and two connections for all of them: some come again later."""
    fault = f"{CLIENTS:,} clients at once, {POOL_SIZE} connections a worker"
    async with staged(pool_size=POOL_SIZE) as stage:
        for _ in range(ROUNDS):
            await stage.workload.run(AT_ONCE_S, CLIENTS / AT_ONCE_S)
            await stage.workload.finish()
        told = Counter(sample.status for sample in stage.workload.samples)
        note(fault, "answers", f"{told[503]:,} were 503, {told[0]:,} had no answer")
        stage.heal()
        await stage.workload.run(WARM_UP_S)
        await stage.end(fault)


async def hang_up(stage: Stage) -> bool:
    """Ask for something, and give up at a random moment; once it was too late for that: False."""
    wish = stage.workload.wish()
    asking = asyncio.create_task(stage.caller.call(wish))
    await asyncio.wait({asking}, timeout=HANG_UP_S * CHANCE.random())
    if not asking.cancel():
        await stage.workload.settle(wish, asking.result())
        return False
    await asyncio.wait({asking})
    if wish.kind in TO_SETTLE:
        await asyncio.sleep(HANG_UP_S)
        await stage.workload.settle(wish, await stage.caller.call(wish), unsure=True)
    return True


async def test_hang_up(staged: Setting) -> None:
    """A thousand at once, while others go on buying: nothing stays behind."""
    fault = f"{CLIENTS * ROUNDS:,} clients that hang up"
    async with staged() as stage:
        running = stage.workload.start(1000)
        await asyncio.sleep(WARM_UP_S)
        gone = 0
        for _ in range(ROUNDS):
            gone += sum(await asyncio.gather(*(hang_up(stage) for _ in range(CLIENTS))))
        stage.heal()
        await asyncio.sleep(WARM_UP_S)
        stage.workload.stopped = True
        await running
        note(fault, "hung up before the answer", f"{gone:,}")
        await stage.end(fault)
