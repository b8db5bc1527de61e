"""The clock of Redis is an hour off, and jumps while buyers are at work."""

import asyncio
from dataclasses import replace

import pytest

from tests.faults.clock import HOUR_S, clocked, off_s
from tests.faults.conftest import FULL, Setting, Stage
from tests.faults.figures import note
from tests.faults.stage import Machines
from tests.faults.test_redis import redis_of

pytestmark = pytest.mark.faults

# Behind it all and ahead of it all, in both directions. The last jump ends what is left.
OFF_S = (0, HOUR_S, 0, -HOUR_S, 0) * (5 if FULL else 1)
BETWEEN_S = 4.0
LOCK_MS = 5000
LEFT = 5  # seats, the most wanted ones


async def leave_locks(stage: Stage, since_s: int) -> None:
    """What a worker that died before the clock was set back leaves: it expires much later."""
    event, seats = stage.caller.hall.event_id, stage.caller.hall.seats[:LEFT]
    async with redis_of(stage) as client:
        for seat in seats:
            await client.set(f"{{{event}}}:lock:{seat}", "nobody", px=LOCK_MS + 1000 * since_s)


async def test_jumps(staged: Setting, own_machines: Machines) -> None:
    """Nothing is decided by that clock, and nothing that it keeps stays for too long."""
    fault = f"Redis' clock an hour off, {len(OFF_S) - 1} jumps"
    async with clocked(own_machines) as clock, staged(pair=True) as stage:
        running, before_s = stage.workload.start(1000), 0
        for jump_to_s in OFF_S:
            clock.set(jump_to_s)
            assert await off_s(own_machines) == pytest.approx(jump_to_s, abs=2)
            if jump_to_s < before_s:
                await leave_locks(stage, before_s - jump_to_s)
            stage.heal()
            await asyncio.sleep(BETWEEN_S)
            before_s = jump_to_s
        stage.workload.stopped = True
        await running
        note(fault, "off by", "an hour ahead, right, an hour behind, right")
        await stage.end(fault)


async def test_set_back_where_old_locks_count(staged: Setting, own_machines: Machines) -> None:
    """Without its guard: seats stay busy for an hour, and nobody is there."""
    guard = "tests.faults.broken", "old_locks_count"
    async with clocked(own_machines) as clock, staged(pair=True, module=guard) as stage:
        stage.rules = replace(stage.rules, locks_may_stay=False)
        stage.workload.start(1000)
        await asyncio.sleep(BETWEEN_S)
        clock.set(-HOUR_S)
        await leave_locks(stage, HOUR_S)
        await asyncio.sleep(BETWEEN_S)
        stage.workload.stopped = True
        assert 9 in {each.invariant for each in await stage.violations()}
