"""Every safety property of a sale, with its guards off: the race that asserts it must fail.

A guard is switched off in the test's own database, or by a patch. Where the damage would need
luck, sales also pause before they commit; with the guards on, the same pause does no damage.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from seatsvc import locks
from seatsvc.locks import Claim, SeatLocks
from seatsvc.scripts import Script
from tests.conftest import Service, serve
from tests.test_races import one_seat, one_try, overlapping_fours, shared_seat
from tests.test_races_holds import expiry_against_booking, hand_over, hold_against_rivals
from tests.test_races_limits import holds_against_the_day, last_ticket, one_key, one_user

pytestmark = pytest.mark.slow

Race = Callable[..., Awaitable[object]]

REPEATS_MAX = 8


@dataclass
class Build:
    """Two services on one database, to be broken, and how to repair it."""

    service: Service
    rival: Service
    patches: pytest.MonkeyPatch
    repairs: list[str] = field(default_factory=list)

    async def sql(self, statement: str, *repairs: str) -> None:
        """Break something that these statements repair."""
        await self.service.sql(statement)
        self.repairs += repairs

    async def rewrite(self, function: str, *edits: tuple[str, str]) -> None:
        """Replace parts of an SQL function; each must be there."""
        text = await self.text_of(function)
        await self.sql(edited(text, *edits), text)

    async def replace(self, function: str, body: str) -> None:
        """Replace the body of an SQL function."""
        text = await self.text_of(function)
        head = text[: text.index("AS $function$")]
        await self.sql(f"{head} as $${body}$$", text)

    async def text_of(self, function: str) -> str:
        """What created it."""
        [row] = await self.service.sql("select pg_get_functiondef($1::regproc) as text", function)
        return str(row["text"])

    async def lose(self, race: Race) -> None:
        """Run the race until it fails, a few times at most."""
        for _ in range(REPEATS_MAX):
            await race(self.service, self.rival)


@pytest.fixture
async def build(
    shared: Service, other: Service, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Build]:
    """A build with all guards on, and on again afterwards, on rows that satisfy them."""
    whole = Build(shared, other, monkeypatch)
    yield whole
    await shared.sql("update booking_seats set active = false where active")
    await shared.sql("update ticket_types set taken = 0")
    for statement in reversed(whole.repairs):
        await shared.sql(statement)


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """Another service on the same servers."""
    async with serve(shared.settings) as running:
        yield running


def edited(text: str, *edits: tuple[str, str]) -> str:
    """The text with these parts replaced; each must be there."""
    for old, new in edits:
        if old not in text:
            pytest.fail(f"This guard looks different by now: {old!r} is not in {text}")
        text = text.replace(old, new)
    return text


def broken(script: Script, *edits: tuple[str, str]) -> Script:
    """A Lua script with these parts replaced."""
    copy = Script.__new__(Script)
    copy.text = edited(script.text, *edits)
    copy.sha = hashlib.sha1(copy.text.encode(), usedforsecurity=False).hexdigest()
    return copy


async def pause(build: Build) -> None:
    """After its last look, before it commits, every sale gives others time."""
    for function in ("book", "hold"):
        await build.rewrite(function, ("return query", "perform pg_sleep(0.03); return query"))


async def no_redis_lock(build: Build) -> None:
    """Everybody gets every lock at once."""

    async def lock(_locks: SeatLocks, claims: list[Claim]) -> list[None]:
        return [None] * len(claims)

    build.patches.setattr(SeatLocks, "lock", lock)


async def half_a_redis_lock(build: Build) -> None:
    """One free seat is enough for a request to lock all that it names."""
    edit = "if #busy == 0 then", "if #busy <= last - first then"
    build.patches.setattr(locks, "LOCK", broken(locks.LOCK, edit))


async def no_row_lock(build: Build) -> None:
    """Check, then insert: the seats' rows are looked at, but not locked."""
    await build.rewrite("lock_seats", ("for update skip locked", ""))


async def no_check(build: Build) -> None:
    """Every seat passes for free."""
    await build.rewrite("lock_seats", ("return array(", "return wanted; return array("))
    await build.rewrite("look_at_seats", ("s.held_until is null or", "true or"))


async def no_index(build: Build) -> None:
    """Two active bookings may have one seat."""
    await build.sql(
        "drop index booking_seats_active_seat_key",
        "create unique index booking_seats_active_seat_key on booking_seats (seat_id) where active",
    )


async def no_order(build: Build) -> None:
    """Seats are locked in any order, and waited for."""
    one = "perform from seats where id = seat for update; perform pg_sleep(0.002);"
    await build.rewrite(
        "lock_seats",
        ("declare", "declare seat bigint;"),
        (
            "begin",
            f"begin for seat in select unnest(wanted) order by random() loop {one} end loop;",
        ),
    )


async def no_user_lock(build: Build) -> None:
    """A user's orders do not take turns."""
    edit = "from users where id = any (buyers)", "from users where false"
    await build.rewrite("lock_parties", edit)


async def no_type_lock(build: Build) -> None:
    """A ticket type's orders do not take turns."""
    await build.rewrite("lock_parties", ("and quantity is not null", "and false"))


async def no_type_constraint(build: Build) -> None:
    """More of a ticket type may be taken than there are."""
    await build.sql(
        "alter table ticket_types drop constraint ticket_types_not_oversold",
        "alter table ticket_types add constraint ticket_types_not_oversold"
        " check (taken <= quantity)",
    )


async def no_memory(build: Build) -> None:
    """Idempotency-Keys are not remembered."""
    for function in ("book", "hold"):
        await build.rewrite(function, ("key is not null", "false"))


async def what_is_left(build: Build) -> None:
    """An order gets those of its seats that are free."""
    edit = "where s.id = any (wanted) and", "where s.id = any (wanted) and s.id = any (locked) and"
    await build.rewrite("look_at_seats", edit)


async def no_lock_of_held_seats(build: Build) -> None:
    """Who books from a hold that still runs, is late, and does not look for its seats again."""
    until = "(select max(expires_at) + interval '0.2 s' from holds where id = any (running))"
    await build.rewrite(
        "lock_seats",
        ("return array(", f"perform pg_sleep_until({until}); return wanted; return array("),
    )


async def no_look_at_holds(build: Build) -> None:
    """A held seat passes for free."""
    edit = "and (held_until is null or held_until <= clock_timestamp())", ""
    await build.rewrite("lock_seats", edit)
    await build.rewrite("look_at_seats", ("s.held_until is null or", "true or"))


async def no_look_at_the_status(build: Build) -> None:
    """A booking can be cancelled again, and frees what is another's by now."""
    edits = ("b.status = 'cancelled'", "false"), ("and booking_id = wanted", "")
    await build.rewrite("cancel_booking", *edits)


Break = Callable[[Build], Awaitable[None]]


def case(name: str, race: Race, violation: str, *breaks: Break) -> Any:
    """A row of the table below."""
    return pytest.param(race, violation, breaks, id=name)


limit_of_2 = partial(one_user, max_seats=2)
limit_of_1_a_day = partial(one_user, max_today=1)
holds_too = partial(one_user, what=("bookings", "holds"), max_seats=2)
few_overlaps = partial(overlapping_fours, clients=12, rounds=2)
few_expiries = partial(expiry_against_booking, count=4)
few_keys = partial(one_key, count=8)


@pytest.mark.parametrize(
    ("race", "violation", "breaks"),
    [
        case("seats", one_seat, "sold twice", no_redis_lock, no_row_lock, no_index, pause),
        case("free seats", one_seat, "sold twice", no_check, no_index),
        case("seat limit", limit_of_2, "seat limit", no_user_lock, pause),
        case("seat limit for holds", holds_too, "seat limit", no_user_lock, pause),
        case("daily limit", limit_of_1_a_day, "daily limit", no_user_lock, pause),
        case("daily limit for holds", holds_against_the_day, "daily limit", no_user_lock, pause),
        case("type", last_ticket, "type oversold", no_type_lock, no_type_constraint, pause),
        case("key", few_keys, "differently|twice", no_memory),
        case("key at once", few_keys, "differently|twice", no_redis_lock, no_user_lock, pause),
        case("all or nothing", shared_seat, "not all of it", what_is_left),
        case("no lock left", one_try, "left locked", half_a_redis_lock),
        case("no deadlock", few_overlaps, "the service failed", no_redis_lock, no_order, pause),
        case("expiry", few_expiries, "sold twice", no_lock_of_held_seats, no_index),
        case("held", hold_against_rivals, "took a hold", no_look_at_holds),
        case("cancelled", hand_over, "given back twice", no_look_at_the_status),
    ],
)  # fmt: skip
async def test_without_its_guards(
    build: Build, race: Race, violation: str, breaks: Sequence[Break]
) -> None:
    """The guards that `breaks` name are off: the race between two services is lost."""
    for switch_off in breaks:
        await switch_off(build)
    with pytest.raises(AssertionError, match=violation):
        await build.lose(race)


@pytest.mark.parametrize(
    "breaks",
    [[no_redis_lock, no_check], [no_redis_lock, no_index], [no_row_lock, no_index]],
    ids=["index", "row lock", "Redis lock"],
)
async def test_one_guard_is_enough(build: Build, breaks: Sequence[Break]) -> None:
    """Of the three guards against a double sale only one is on: the race is won."""
    for switch_off in breaks:
        await switch_off(build)
    await one_seat(build.service, build.rival)


async def test_the_pause_does_no_damage(build: Build) -> None:
    """All guards are on, and sales pause before they commit: every race is won."""
    await pause(build)
    for race in (one_seat, limit_of_2, limit_of_1_a_day, holds_too, holds_against_the_day,
                 last_ticket, few_keys, shared_seat, few_overlaps):  # fmt: skip
        await race(build.service, build.rival)
