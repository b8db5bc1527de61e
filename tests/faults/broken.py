"""Serves as `seatsvc serve` does, with one guard off: `python -m tests.faults.broken GUARD`.

For the tests that show that the suite reports what then goes wrong.
"""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from seatsvc import app, checkout, cli, db, locks, scripts, seats
from seatsvc.checkout import Checkout
from seatsvc.errors import Unavailable
from seatsvc.lanes import Lane
from seatsvc.locks import Claim, SeatLocks
from seatsvc.orders import Order
from seatsvc.scripts import Redis
from seatsvc.sentinel import Primary
from tests.faults import watched
from tests.faults.giving_up import cancels, no_shield
from tests.test_guards import broken
from tests.test_guards_readers import no_wait

CLOCK_SEED = "now[1] .. string.format('%06d', now[2])", "'1'"
DELETED = "redis.call('DEL', KEYS[key])", "0"
TOO_LONG = " and redis.call('PTTL', KEYS[key]) <= LONGEST_MS", ""
LONG_S = 60.0
BLOCK_S = 0.15


def no_clock(patches: pytest.MonkeyPatch) -> None:
    """A wiped Redis counts generations from one again."""
    patches.setattr(seats, "READ", broken(seats.READ, CLOCK_SEED))
    patches.setattr(locks, "FINISH", broken(locks.FINISH, CLOCK_SEED))


def no_unlock(patches: pytest.MonkeyPatch) -> None:
    """Locks are kept until they expire."""
    patches.setattr(locks, "FINISH", broken(locks.FINISH, DELETED))


def forgotten_locks(patches: pytest.MonkeyPatch) -> None:
    """Who was not told that it got its locks does not release them."""
    lock = SeatLocks.lock

    async def forget(ours: SeatLocks, claims: list[Claim]) -> list[Exception | None]:
        refusals = await lock(ours, claims)
        if ours._redis.breaker._failures:
            for claim in claims:
                claim.keys = []
        return refusals

    patches.setattr(SeatLocks, "lock", forget)


def no_settling(patches: pytest.MonkeyPatch) -> None:
    """When a commit's reply is lost, nobody asks what became of it."""

    async def give_up(
        _: Checkout[Any], _batch: int, orders: Sequence[Order], _until: float
    ) -> list[Exception]:
        return [Unavailable(retry_after_s=1) for _ in orders]

    patches.setattr(Checkout, "_settle", give_up)


def no_wait_for_standbys(patches: pytest.MonkeyPatch) -> None:
    """What is seen to be committed counts, whether a standby has it or not."""
    settled = {"get_settled": "select pg_advisory_xact_lock($1::bigint)"}
    patches.setattr(checkout, "SQL", checkout.SQL | settled)


def no_lease(patches: pytest.MonkeyPatch) -> None:
    """Whichever primary was found last is relied upon, at once and for ever."""
    patches.setattr(Primary, "sure", True)


def no_era(patches: pytest.MonkeyPatch) -> None:
    """What a primary takes over from the one before counts as its own."""
    patches.setattr(Redis, "era", "")


def old_locks_count(patches: pytest.MonkeyPatch) -> None:
    """A lock that outlives all others, since the clock was set back, counts."""
    patches.setattr(locks, "LOCK", broken(locks.LOCK, TOO_LONG))


def needs_redis(patches: pytest.MonkeyPatch) -> None:
    """Without Redis nobody may book."""
    lock = SeatLocks.lock

    async def refuse(ours: SeatLocks, claims: list[Claim]) -> list[Exception | None]:
        refusals = await lock(ours, claims)
        if not ours._redis.breaker._failures:
            return refusals
        return [refusal or Unavailable() for refusal in refusals]

    patches.setattr(SeatLocks, "lock", refuse)


def no_timeouts(patches: pytest.MonkeyPatch) -> None:
    """Whoever asks Redis waits for its answer."""
    patches.setattr(scripts, "REPLY_TIMEOUT_S", LONG_S)


def errors_pass(patches: pytest.MonkeyPatch) -> None:
    """A Redis that refuses is not taken for down."""
    patches.setattr(Redis, "_usable", lambda _, result: result)


def no_deadlines(patches: pytest.MonkeyPatch) -> None:
    """Whoever asks PostgreSQL waits for its answer, and whoever waits in a lane, too."""
    patches.setattr(db, "COMMAND_TIMEOUT_S", LONG_S)
    patches.setattr(db, "BRIEF_S", LONG_S)
    patches.setattr(checkout, "DECIDE_S", LONG_S)
    patches.setattr(Lane, "_set_alarm", lambda _: None)


def blocks(patches: pytest.MonkeyPatch) -> None:
    """Something waits without letting others run, now and then; the loop watches itself."""
    watched.install(patches)
    usage = db.Database.usage

    def slowly(database: db.Database) -> dict[str, int]:
        time.sleep(BLOCK_S)
        return usage(database)

    patches.setattr(db.Database, "usage", slowly)


def no_drain(patches: pytest.MonkeyPatch) -> None:
    """Told to end, it ends."""

    @asynccontextmanager
    async def at_once(_: Any) -> AsyncIterator[None]:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        yield

    patches.setattr(app, "_draining", at_once)


GUARDS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    no_wait,
    no_clock,
    no_unlock,
    forgotten_locks,
    no_settling,
    no_wait_for_standbys,
    no_lease,
    no_era,
    old_locks_count,
    needs_redis,
    no_timeouts,
    errors_pass,
    no_deadlines,
    blocks,
    no_drain,
    cancels,
    no_shield,
)


def main() -> None:
    """Break what the first argument names, and serve with the others."""
    name, *arguments = sys.argv[1:]
    next(guard for guard in GUARDS if guard.__name__ == name)(pytest.MonkeyPatch())
    cli.main(["serve", *arguments])


if __name__ == "__main__":
    main()
