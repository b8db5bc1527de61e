"""Idempotency-Key: the same request, however often, makes one booking."""

import asyncio
from collections import Counter
from functools import partial

import httpx
import pytest
import redis.asyncio

from seatsvc import local
from seatsvc.settings import Settings
from tests.conftest import Person, Service, make_settings, problem_of, serve, until

REPLAYED = "idempotency-replayed"


def is_replay(answer: httpx.Response, first: httpx.Response) -> bool:
    """Byte for byte the first answer, and marked as such."""
    assert answer.status_code == 201, answer.text
    assert answer.content == first.content
    assert answer.headers["content-type"] == first.headers["content-type"]
    assert answer.headers["location"] == first.headers["location"]
    return bool(answer.headers.get(REPLAYED) == "true")


async def test_replay(shared: Service, ann: Person) -> None:
    """Same key, same body: the same answer, and no second booking."""
    venue = await shared.add_event()
    first = await ann.book(*venue.seats[:2], key="again")
    assert first.status_code == 201
    assert REPLAYED not in first.headers
    for _ in range(3):
        assert is_replay(await ann.book(*venue.seats[:2], key="again"), first)
    assert await shared.booked(venue) == venue.seats[:2]


async def test_replay_after_the_world_moved_on(shared: Service, ann: Person, ben: Person) -> None:
    """The first answer still, when the booking was cancelled, resold, and its event cancelled."""
    venue = await shared.add_event()
    first = await ann.book(venue.seats[0], key="again")
    await ann.call("DELETE", f"/bookings/{first.json()['id']}")
    assert is_replay(await ann.book(venue.seats[0], key="again"), first)
    assert await shared.booked(venue) == []
    assert (await ben.book(venue.seats[0])).status_code == 201
    assert is_replay(await ann.book(venue.seats[0], key="again"), first)
    await shared.sql("update events set status = 'cancelled' where id = $1", venue.event_id)
    assert is_replay(await ann.book(venue.seats[0], key="again"), first)
    rows = await shared.sql("select from bookings where event_id = $1", venue.event_id)
    assert len(rows) == 2


async def test_replay_is_no_booking_of_today(shared: Service, ann: Person) -> None:
    """A limit that the booking itself reached does not refuse its replay."""
    venue = await shared.add_event(max_bookings_per_user_per_day=1, max_seats_per_user=1)
    first = await ann.book(venue.seats[0], key="once")
    assert is_replay(await ann.book(venue.seats[0], key="once"), first)
    problem_of(await ann.book(venue.seats[1], key="other"), 409, "daily_limit_reached")


async def test_other_body(shared: Service, ann: Person) -> None:
    """422, whatever differs, in this event or another; the first booking is untouched."""
    venue, other = await shared.add_event(), await shared.add_event()
    first = await ann.book(venue.seats[0], key="used")
    for answer in (
        await ann.book(venue.seats[1], key="used"),
        await ann.book(*venue.seats[:2], key="used"),
        await ann.book(other.seats[0], key="used"),
        await ann.book(venue.seats[0], key="used", ticket_type_id=1),
    ):
        problem_of(answer, 422, "idempotency_key_reused")
    assert is_replay(await ann.book(venue.seats[0], key="used"), first)
    assert await shared.booked(venue) == venue.seats[:1]
    assert await shared.booked(other) == []


async def test_key_belongs_to_its_user(shared: Service, ann: Person, ben: Person) -> None:
    """Another's same key is another key."""
    venue = await shared.add_event()
    first = await ann.book(venue.seats[0], key="mine")
    other = await ben.book(venue.seats[1], key="mine")
    assert (first.status_code, other.status_code) == (201, 201)
    assert other.json()["user_id"] == ben.id
    assert REPLAYED not in other.headers
    assert await shared.booked(venue) == venue.seats[:2]


async def test_failures_are_not_stored(shared: Service, ann: Person, ben: Person) -> None:
    """A refused request may be repeated with its key, changed or not."""
    venue = await shared.add_event()
    theirs = (await ben.book(venue.seats[0])).json()
    problem_of(await ann.book(venue.seats[0], key="try"), 409, "seat_taken")
    problem_of(await ann.book(999_999, key="try"), 404, "not_found")
    await ben.call("DELETE", f"/bookings/{theirs['id']}")
    answer = await ann.book(venue.seats[0], key="try")
    assert answer.status_code == 201
    assert REPLAYED not in answer.headers
    assert await shared.booked(venue) == venue.seats[:1]


async def test_key_is_kept_a_day(shared: Service, ann: Person) -> None:
    """A key of yesterday makes a new booking, even for another body; then that one counts."""
    venue = await shared.add_event()
    age = "update idempotency_keys set created_at = now() - $1 * interval '1 s' where key = 'old'"
    first = await ann.book(venue.seats[0], key="old")
    await shared.sql(age, 24 * 3600 - 60)
    assert is_replay(await ann.book(venue.seats[0], key="old"), first)
    await shared.sql(age, 24 * 3600 + 1)
    second = await ann.book(venue.seats[1], key="old")
    assert second.status_code == 201
    assert REPLAYED not in second.headers
    assert is_replay(await ann.book(venue.seats[1], key="old"), second)
    assert await shared.booked(venue) == venue.seats[:2]


@pytest.mark.parametrize(
    "key", [b"x" * 65, b"two words", b"", b"\xc3\xa9", b"\xe9", b"tab\there"], ids=str
)
async def test_bad_key(shared: Service, ann: Person, key: bytes) -> None:
    """1 to 64 visible ASCII characters, or 422 and no booking."""
    venue = await shared.add_event()
    headers = {name.encode(): value.encode() for name, value in ann.headers.items()}
    answer = await shared.client.post(
        "/bookings", json={"seat_id": venue.seats[0]}, headers=headers | {b"Idempotency-Key": key}
    )
    problem = problem_of(answer, 422, "invalid_request")
    assert [error["at"] for error in problem["errors"]] == ["header.Idempotency-Key"]
    assert await shared.booked(venue) == []


@pytest.mark.parametrize("key", ["!", "~" * 64, '"{}:*\\'])
async def test_odd_keys_that_are_good(shared: Service, ann: Person, key: str) -> None:
    """Any visible ASCII character will do."""
    venue = await shared.add_event()
    first = await ann.book(venue.seats[0], key=key)
    assert is_replay(await ann.book(venue.seats[0], key=key), first)


async def check_race(service: Service) -> Counter[int]:
    """Twenty at once with one key: one booking, every 201 the same; how often which status."""
    venue = await service.add_event()
    person = await service.newcomer()
    calls = (person.book(*venue.seats, key="at-once") for _ in range(20))
    answers = await asyncio.gather(*calls)
    good = [answer for answer in answers if answer.status_code == 201]
    assert len([answer for answer in good if REPLAYED not in answer.headers]) == 1
    assert len({answer.content for answer in good}) == 1
    for answer in answers:
        if answer.status_code == 409:
            problem_of(answer, 409, "idempotency_in_flight")
            assert answer.headers["retry-after"] == "1"
    assert await service.booked(venue) == venue.seats
    rows = await service.sql("select from bookings where event_id = $1", venue.event_id)
    assert len(rows) == 1
    return Counter(answer.status_code for answer in answers)


async def test_one_key_twenty_times_at_once(service: Service) -> None:
    """Twenty requests race with one key; afterwards no lock and no connection is kept."""
    statuses = await check_race(service)
    assert set(statuses) <= {201, 409}
    async with redis.asyncio.Redis.from_url(
        service.settings.redis_url.get_secret_value()
    ) as client:
        assert await client.keys("*:lock:*") == []
        assert await client.keys("*:key:*") == []
    await until(partial(pool_is_full, service))


async def pool_is_full(service: Service) -> bool:
    """Every connection is back."""
    usage = service.state["database"].usage()
    return usage["idle"] == usage["open"]


async def test_one_key_twenty_times_without_redis(
    servers: local.Servers, test_settings: Settings
) -> None:
    """The same race when PostgreSQL arbitrates alone: the others are replays, or wait too long."""
    name = test_settings.database_url.get_secret_value().rpartition("/")[2]
    dead = make_settings(servers, name, redis_url="redis://127.0.0.1:1/0", cache_ttl_ms=50)
    async with serve(dead) as service:
        assert set(await check_race(service)) <= {201, 503}
