"""Bookings that are refused: the right answer, and not a row."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import pytest

from tests.conftest import Person, Service, Venue, problem_of, serve

HOUR = timedelta(hours=1)

NEW_HOLD = """
insert into holds
select * from json_populate_record(null::holds, json_build_object(
    'id', gen_random_uuid(), 'event_id', $1::bigint, 'user_id', $2::text, 'quantity', 1,
    'seat_ids', array[$3::bigint], 'seats', '[]'::json, 'created_at', now() - interval '1 hour',
    'first_expires_at', $4::timestamptz, 'expires_at', $4::timestamptz))
returning id
"""


async def hold(
    service: Service, venue: Venue, person: Person, seat_id: int, until: datetime
) -> None:
    """A hold, as the database has it."""
    [row] = await service.sql(NEW_HOLD, venue.event_id, person.id, seat_id, until)
    await service.sql(
        "update seats set hold_id = $1, held_until = $2, changed = pg_current_xact_id()"
        " where id = $3",
        row["id"], until, seat_id,
    )  # fmt: skip


async def block(service: Service, seat_id: int) -> None:
    """Take a seat off sale."""
    await service.sql(
        "update seats set blocked = true, changed = pg_current_xact_id() where id = $1", seat_id
    )


async def bookings_of(service: Service, person: Person) -> int:
    """How many bookings the user ever had."""
    rows = await service.sql("select from bookings where user_id::text = $1", person.id)
    return len(rows)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"seat_id": None}, {"seat_ids": None}, {"seat_id": 1, "seat_ids": [1]},
        {"seat_id": 1, "seat_ids": [2]}, {"seat_ids": []}, {"seat_ids": [1, 2, 1]},
        {"seat_ids": list(range(1, 52))}, {"seat_ids": 1}, {"seat_ids": "12"}, {"seat_ids": {}},
        {"seat_ids": [[1]]}, {"seat_ids": [None]}, {"seat_ids": [1, "2"]}, {"seat_ids": [1, 2.0]},
        {"seat_ids": [True]}, {"seat_ids": [0]}, {"seat_ids": [1, -1]}, {"seat_ids": [2**63]},
        {"seat_id": "1"}, {"seat_id": 1.0}, {"seat_id": 1.5}, {"seat_id": True}, {"seat_id": [1]},
        {"seat_id": 0}, {"seat_id": -1}, {"seat_id": 2**63}, {"seat_id": 10**400},
        {"seat_id": {}}, {"seat_id": ""},
        {"seat_id": 1, "ticket_type_id": "1"}, {"seat_id": 1, "ticket_type_id": 0},
        {"seat_id": 1, "ticket_type_id": 2**63}, {"seat_id": 1, "ticket_type_id": True},
        {"seat_id": 1, "price": 0}, {"seat_id": 1, "user_id": "x"}, {"seat_id": 1, "status": "x"},
    ],
    ids=lambda body: str(body)[:40],
)  # fmt: skip
async def test_bad_body(shared: Service, ann: Person, body: dict[str, Any]) -> None:
    """422 that says where, and no booking."""
    answer = await ann.call("POST", "/bookings", json=body)
    problem = problem_of(answer, 422, "invalid_request")
    assert all(error["at"].startswith("body") for error in problem["errors"])
    assert await bookings_of(shared, ann) == 0


@pytest.mark.parametrize("unknown", [999_999, 2**63 - 1])
async def test_unknown_seat(shared: Service, ann: Person, unknown: int) -> None:
    """404 that blames the seats which do not exist, and none of the others is booked."""
    venue = await shared.add_event()
    answer = await ann.book(venue.seats[0], unknown, venue.seats[1])
    problem = problem_of(answer, 404, "not_found")
    assert problem["seats"] == [{"id": unknown, "reason": "not_found"}]
    assert await shared.booked(venue) == []


async def test_seats_of_two_events(shared: Service, ann: Person) -> None:
    """422 mixed_events, and neither is booked."""
    one, two = await shared.add_event(), await shared.add_event()
    problem_of(await ann.book(one.seats[0], two.seats[0]), 422, "mixed_events")
    assert await bookings_of(shared, ann) == 0


async def test_one_of_three_is_taken(shared: Service, ann: Person, ben: Person) -> None:
    """All or nothing: the taken one is blamed, the other two stay free."""
    venue = await shared.add_event()
    assert (await ben.book(venue.seats[1])).status_code == 201
    problem = problem_of(await ann.book(*venue.seats), 409, "seat_taken")
    assert problem["seats"] == [{"id": venue.seats[1], "reason": "seat_taken"}]
    assert await bookings_of(shared, ann) == 0
    assert await shared.booked(venue) == [venue.seats[1]]
    assert await shared.free(event_id=venue.event_id) == {venue.seats[0], venue.seats[2]}


async def test_own_seat_is_taken_too(shared: Service, ann: Person) -> None:
    """The same seat is not sold twice to the same user either."""
    venue = await shared.add_event()
    assert (await ann.book(venue.seats[0])).status_code == 201
    problem_of(await ann.book(venue.seats[0]), 409, "seat_taken")
    assert await bookings_of(shared, ann) == 1


async def test_overlapping_orders_race(shared: Service) -> None:
    """Twelve want overlapping pairs at once: no seat twice, nothing by halves, no 5xx."""
    venue = await shared.add_event(seats=6)
    people = await asyncio.gather(*(shared.newcomer() for _ in range(12)))
    pairs = [(venue.seats[n % 6], venue.seats[(n + 1) % 6]) for n in range(12)]
    calls = (person.book(*pair) for person, pair in zip(people, pairs, strict=True))
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} <= {201, 409}
    won = [pair for pair, answer in zip(pairs, answers, strict=True) if answer.status_code == 201]
    assert won
    assert await shared.booked(venue) == sorted(seat_id for pair in won for seat_id in pair)


async def test_one_booking_a_day(service: Service, alice: Person, bob: Person) -> None:
    """The default event's limit; a cancelled booking gives its allowance back."""
    booking = (await alice.book(1)).json()
    problem = problem_of(await alice.book(2), 409, "daily_limit_reached")
    assert problem["allowance"] == {"remaining_seats": None, "remaining_today": 0}
    assert (await bob.book(2)).status_code == 201
    assert (await alice.call("DELETE", f"/bookings/{booking['id']}")).status_code == 200
    assert (await alice.book(3)).status_code == 201
    rows = await service.sql("select seat_id from booking_seats where active order by seat_id")
    assert [row["seat_id"] for row in rows] == [2, 3]


async def test_a_day_is_the_utc_day(shared: Service, ann: Person) -> None:
    """A booking of the last moment before midnight, UTC, was yesterday's."""
    venue = await shared.add_event(max_bookings_per_user_per_day=1)
    assert (await ann.book(venue.seats[0])).status_code == 201
    await shared.sql(
        "update bookings set created_at = date_trunc('day', now(), 'UTC') - interval '1 ms'"
        " where user_id::text = $1",
        ann.id,
    )
    assert (await ann.book(venue.seats[1])).status_code == 201
    problem_of(await ann.book(venue.seats[2]), 409, "daily_limit_reached")


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """A second service on the same servers: what meets in one travels in one transaction."""
    async with serve(shared.settings) as running:
        yield running


async def at_once(person: Person, orders: list[list[int]], *services: Service) -> Counter[str]:
    """All these orders of one user at the same moment, at the services in turn; their codes."""
    clients = cycle(replace(person, client=service.client) for service in services)
    answers = await asyncio.gather(*(next(clients).book(*order) for order in orders))
    return Counter(answer.json().get("code", "201") for answer in answers)


async def test_daily_limit_race(shared: Service, other: Service, ann: Person) -> None:
    """One user books eight seats in eight calls at once, against a limit of two a day."""
    for _ in range(4):
        venue = await shared.add_event(seats=8, max_bookings_per_user_per_day=2)
        codes = await at_once(ann, [[seat_id] for seat_id in venue.seats], shared, other)
        assert codes == {"201": 2, "daily_limit_reached": 6}
        assert len(await shared.booked(venue)) == 2


async def test_seats_of_one_user(shared: Service, ann: Person, ben: Person) -> None:
    """max_seats_per_user counts over bookings; cancelled seats count no more."""
    venue = await shared.add_event(seats=6, max_seats_per_user=3)
    first = (await ann.book(*venue.seats[:2])).json()
    problem = problem_of(await ann.book(*venue.seats[2:4]), 409, "user_limit_reached")
    assert problem["allowance"] == {"remaining_seats": 1, "remaining_today": None}
    assert await shared.booked(venue) == venue.seats[:2]
    assert (await ann.book(venue.seats[2])).status_code == 201
    assert (await ben.book(*venue.seats[3:6])).status_code == 201
    await ann.call("DELETE", f"/bookings/{first['id']}")
    assert (await ann.book(*venue.seats[:2])).status_code == 201
    problem_of(await ann.book(venue.seats[3]), 409, "seat_taken")


async def test_seat_limit_race(shared: Service, other: Service, ann: Person) -> None:
    """One user books eight pairs in eight calls at once, against a limit of four seats."""
    for _ in range(4):
        venue = await shared.add_event(seats=16, max_seats_per_user=4)
        pairs = [venue.seats[n : n + 2] for n in range(0, 16, 2)]
        assert await at_once(ann, pairs, shared, other) == {"201": 2, "user_limit_reached": 6}
        assert len(await shared.booked(venue)) == 4


async def test_blocked_seat(shared: Service, ann: Person) -> None:
    """A house seat is not on sale."""
    venue = await shared.add_event()
    await block(shared, venue.seats[2])
    problem = problem_of(await ann.book(*venue.seats), 409, "seat_blocked")
    assert problem["seats"] == [{"id": venue.seats[2], "reason": "seat_blocked"}]
    assert await shared.booked(venue) == []


async def test_held_seat(shared: Service, ann: Person, ben: Person) -> None:
    """Another's hold keeps a seat; when it has expired it does not, by the database's clock."""
    venue = await shared.add_event()
    await hold(shared, venue, ben, venue.seats[0], datetime.now(UTC) + HOUR)
    problem = problem_of(await ann.book(*venue.seats), 409, "seat_held")
    assert problem["seats"] == [{"id": venue.seats[0], "reason": "seat_held"}]
    assert await shared.booked(venue) == []
    await hold(shared, venue, ben, venue.seats[0], datetime.now(UTC) - HOUR)
    assert (await ann.book(*venue.seats)).status_code == 201
    assert await shared.booked(venue) == venue.seats


async def test_each_seat_has_its_reason(shared: Service, ann: Person, ben: Person) -> None:
    """Blocked, held and taken seats together: a taken one gives the answer its code."""
    venue = await shared.add_event(seats=4)
    await block(shared, venue.seats[0])
    await hold(shared, venue, ben, venue.seats[1], datetime.now(UTC) + HOUR)
    assert (await ben.book(venue.seats[3])).status_code == 201
    problem = problem_of(await ann.book(*venue.seats), 409, "seat_taken")
    reasons = ["seat_blocked", "seat_held", "seat_taken"]
    seats = [venue.seats[0], venue.seats[1], venue.seats[3]]
    assert problem["seats"] == [
        {"id": seat_id, "reason": reason} for seat_id, reason in zip(seats, reasons, strict=True)
    ]
    assert await shared.booked(venue) == [venue.seats[3]]


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [(-HOUR, HOUR, 201), (HOUR, None, 409), (None, -HOUR, 409), (HOUR, 2 * HOUR, 409),
     (-2 * HOUR, -HOUR, 409), (-HOUR, None, 201), (None, HOUR, 201)],
)  # fmt: skip
async def test_sales_window(
    shared: Service, ann: Person, start: timedelta | None, end: timedelta | None, status: int
) -> None:
    """Before its start and from its end on nothing is sold."""
    now = datetime.now(UTC)
    venue = await shared.add_event(sales_start=start and now + start, sales_end=end and now + end)
    answer = await ann.book(venue.seats[0])
    if status == 409:
        problem_of(answer, 409, "sales_closed")
    assert answer.status_code == status
    assert await shared.booked(venue) == venue.seats[: status == 201]


async def test_cancelled_event(shared: Service, ann: Person) -> None:
    """Sells nothing."""
    venue = await shared.add_event()
    await shared.sql("update events set status = 'cancelled' where id = $1", venue.event_id)
    problem_of(await ann.book(venue.seats[0]), 409, "event_cancelled")
    assert await shared.booked(venue) == []


async def test_a_refusal_leaves_no_lock(shared: Service, ann: Person, ben: Person) -> None:
    """Seats that a refused order named can be booked at once."""
    venue = await shared.add_event()
    assert (await ben.book(venue.seats[0])).status_code == 201
    for _ in range(3):
        problem_of(await ann.book(*venue.seats), 409, "seat_taken")
        booking = await ben.book(*venue.seats[1:])
        assert booking.status_code == 201
        await ben.call("DELETE", f"/bookings/{booking.json()['id']}")
