"""Serves as `seatsvc serve` does, with one guard off: `python -m tests.faults.broken GUARD`.

For the tests that show that the suite reports what then goes wrong.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from seatsvc import cli, locks, seats
from seatsvc.checkout import Checkout
from seatsvc.errors import Unavailable
from seatsvc.locks import Claim, SeatLocks
from seatsvc.orders import Order
from seatsvc.scripts import RedisDown
from tests.test_guards import broken
from tests.test_guards_readers import no_wait

CLOCK_SEED = "now[1] .. string.format('%06d', now[2])", "'1'"
DELETED = "redis.call('DEL', KEYS[key])", "0"


def no_clock(patches: pytest.MonkeyPatch) -> None:
    """A wiped Redis counts generations from one again."""
    patches.setattr(seats, "READ", broken(seats.READ, CLOCK_SEED))
    patches.setattr(locks, "FINISH", broken(locks.FINISH, CLOCK_SEED))


def no_unlock(patches: pytest.MonkeyPatch) -> None:
    """Locks are kept until they expire."""
    patches.setattr(locks, "FINISH", broken(locks.FINISH, DELETED))


def forgotten_locks(patches: pytest.MonkeyPatch) -> None:
    """Who was not told that it got its locks does not release them."""
    lock_event = SeatLocks._lock_event

    async def forget(ours: SeatLocks, claims: list[Claim]) -> Any:
        try:
            return await lock_event(ours, claims)
        except RedisDown:
            for claim in claims:
                claim.keys = []
            raise

    patches.setattr(SeatLocks, "_lock_event", forget)


def no_settling(patches: pytest.MonkeyPatch) -> None:
    """When a commit's reply is lost, nobody asks what became of it."""

    async def give_up(
        _: Checkout[Any], _batch: int, orders: Sequence[Order], _until: float
    ) -> list[Exception]:
        return [Unavailable(retry_after_s=1) for _ in orders]

    patches.setattr(Checkout, "_settle", give_up)


GUARDS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    no_wait,
    no_clock,
    no_unlock,
    forgotten_locks,
    no_settling,
)


def main() -> None:
    """Break what the first argument names, and serve with the others."""
    name, *arguments = sys.argv[1:]
    next(guard for guard in GUARDS if guard.__name__ == name)(pytest.MonkeyPatch())
    cli.main(["serve", *arguments])


if __name__ == "__main__":
    main()
