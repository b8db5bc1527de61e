"""Many at once against a limit: of a ticket type, of a user, and one booking for each key."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import cycle, islice
from uuid import uuid4

import httpx
import pytest

from seatsvc import local
from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from seatsvc.settings import Settings
from tests.conftest import Person, Service, Venue, make_settings, serve
from tests.test_races import (
    NOBODY_HERE,
    buyers,
    code_of,
    counted,
    crowd,
    decided,
    everywhere,
    together,
)


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """Another service on the same servers."""
    async with serve(shared.settings) as running:
        yield running


async def add_typed_event(
    service: Service, seats: int, *quantities: int
) -> tuple[Venue, list[int]]:
    """A row of seats that are sold as any of the ticket types; the ids of the types."""
    types = [TicketTypeDraft(str(n), 1000, "EUR", each) for n, each in enumerate(quantities)]
    venue = await service.add_event(seats=seats, ticket_types=types)
    rows = await service.sql(
        "select id from ticket_types where event_id = $1 order by id", venue.event_id
    )
    return venue, [row["id"] for row in rows]


async def sold(service: Service, type_id: int) -> int:
    """How many tickets of this type are out; the rows and the count must agree."""
    [row] = await service.sql(
        "select taken, quantity, (select count(*) from booking_seats"
        "         where active and ticket_type_id = t.id) as booked"
        " from ticket_types t where id = $1",
        type_id,
    )
    assert row["booked"] <= row["quantity"], f"type oversold: {dict(row)}"
    assert row["booked"] == row["taken"]
    return int(row["booked"])


async def last_ticket(*services: Service, count: int = 8) -> None:
    """Each wants a seat of their own, all as the type of which there is one ticket."""
    venue, [type_id] = await add_typed_event(services[0], count, 1)
    people = await crowd(*services, count=count)
    calls = (
        partial(person.book, seat_id, ticket_type_id=type_id)
        for person, seat_id in zip(people, venue.seats, strict=True)
    )
    answers = await together(map(decided, calls))
    assert await sold(services[0], type_id) == 1
    assert counted(answers) == {"201": 1, "ticket_type_sold_out": count - 1}
    assert len(await buyers(services[0], venue)) == 1


async def types_share_the_places(*services: Service) -> None:
    """Two types of eight tickets each share ten places: all are sold, and no more of either."""
    venue, types = await add_typed_event(services[0], 10, 8, 8)
    people = await crowd(*services, count=24)
    calls = (
        partial(
            person.call,
            "POST",
            "/bookings",
            json={"event_id": venue.event_id, "quantity": 1, "ticket_type_id": type_id},
        )
        for person, type_id in zip(people, cycle(types), strict=False)
    )
    answers = await together(map(decided, calls))
    each = [await sold(services[0], type_id) for type_id in types]
    assert sum(each) == 10, f"not all places sold: {each}"
    assert counted(answers)["201"] == 10
    assert set(counted(answers)) <= {"201", "sold_out", "ticket_type_sold_out"}
    assert list(await buyers(services[0], venue)) == venue.seats


async def one_user(
    *services: Service,
    what: Sequence[str] = ("bookings",),
    max_seats: int | None = None,
    max_today: int | None = None,
) -> dict[str, int]:
    """One user books, or holds, eight seats in eight calls at once; the codes of the answers."""
    venue = await services[0].add_event(
        seats=8, max_seats_per_user=max_seats, max_bookings_per_user_per_day=max_today
    )
    [person] = await crowd(services[0], count=1)
    calls = (
        partial(each.call, "POST", f"/{path}", json={"seat_id": seat_id})
        for each, path, seat_id in zip(
            cycle(everywhere(person, services)), cycle(what), venue.seats, strict=False
        )
    )
    answers = await together(map(decided, calls))
    booked = len(await buyers(services[0], venue))
    held = await services[0].sql(
        "select from seats where event_id = $1 and hold_id is not null", venue.event_id
    )
    assert booked + len(held) == counted(answers).get("201", 0)
    assert max_seats is None or booked + len(held) <= max_seats, "seat limit broken"
    assert max_today is None or booked <= max_today, "daily limit broken"
    return counted(answers)


async def holds_against_the_day(*services: Service) -> None:
    """One user books eight holds at once, where one booking a day is allowed."""
    venue = await services[0].add_event(seats=8, max_bookings_per_user_per_day=1)
    [person] = await crowd(services[0], count=1)
    clients = list(islice(cycle(everywhere(person, services)), 8))
    holds = [
        (await person.call("POST", "/holds", json={"seat_id": seat_id})).json()["id"]
        for seat_id in venue.seats
    ]
    calls = (
        partial(client.call, "POST", "/bookings", json={"hold_id": hold_id})
        for client, hold_id in zip(clients, holds, strict=True)
    )
    answers = await together(map(decided, calls))
    assert len(await buyers(services[0], venue)) == 1, "daily limit broken"
    assert counted(answers) == {"201": 1, "daily_limit_reached": 7}


async def one_key(*services: Service, what: str = "bookings", count: int = 50) -> None:
    """The same request with the same key, many times at once: done once, answered alike."""
    venue = await services[0].add_event(seats=8)
    [person] = await crowd(services[0], count=1)
    clients = islice(cycle(everywhere(person, services)), count)
    body = {"event_id": venue.event_id, "quantity": 1}
    headers = {"Idempotency-Key": uuid4().hex}
    calls = [
        partial(client.call, "POST", f"/{what}", json=body, headers=headers) for client in clients
    ]
    first = await together(call() for call in calls)
    assert set(counted(first)) <= {"201", "idempotency_in_flight"}, counted(first)
    for answer in first:
        assert answer.status_code == 201 or answer.headers["retry-after"]
    later = [await decided(call) for call in calls[:4]]
    await check_one_sale(services[0], venue, [*first, *later])


async def check_one_sale(service: Service, venue: Venue, answers: list[httpx.Response]) -> None:
    """There is one, and every success says so in the same bytes; all but the first are replays."""
    successes = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in successes}) == 1, "answered differently"
    rows = await service.sql(
        "select id from bookings where event_id = $1 union all"
        " select id from holds where event_id = $1",
        venue.event_id,
    )
    assert [str(row["id"]) for row in rows] == [successes[0].json()["id"]], "done twice"
    replays = [answer.headers.get("idempotency-replayed") for answer in successes]
    assert replays.count("true") == len(successes) - 1
    assert len(await service.free(event_id=venue.event_id)) == len(venue.seats) - 1


async def test_last_ticket_of_a_type(shared: Service, other: Service) -> None:
    """Buyers of different seats race for the last ticket of their type."""
    await last_ticket(shared, other, count=20)


async def test_types_share_the_capacity(shared: Service, other: Service) -> None:
    """Buyers of two types race for the places that the types share."""
    await types_share_the_places(shared, other)


async def test_types_of_two_sections(shared: Service) -> None:
    """Orders over two sections race: of each type's two tickets none is sold twice, all or none."""
    venue = await shared.add_event(
        SectionDraft("A", [RowDraft("1", ["1", "2", "3", "4"])], ticket_type="A"),
        SectionDraft("B", places=4, ticket_type="B"),
        ticket_types=[TicketTypeDraft(name, 0, "EUR", 2) for name in "AB"],
    )
    people = await crowd(shared, count=16)
    pairs = [(a, b) for a in venue.seats[:4] for b in venue.seats[4:]]
    calls = (partial(person.book, *pair) for person, pair in zip(people, pairs, strict=True))
    answers = await together(map(decided, calls))
    rows = await shared.sql("select id from ticket_types where event_id = $1", venue.event_id)
    assert [await sold(shared, row["id"]) for row in rows] == [2, 2]
    assert counted(answers)["201"] == 2
    assert set(counted(answers)) <= {"201", "seat_taken", "ticket_type_sold_out"}


async def test_one_user_against_a_seat_limit(shared: Service, other: Service) -> None:
    """One user books eight times at once against a limit of two seats."""
    codes = await one_user(shared, other, max_seats=2)
    assert codes == {"201": 2, "user_limit_reached": 6}


async def test_one_user_against_a_daily_limit(shared: Service, other: Service) -> None:
    """One user books eight times at once against a limit of one booking a day."""
    codes = await one_user(shared, other, max_today=1)
    assert codes == {"201": 1, "daily_limit_reached": 7}


async def test_holds_and_bookings_against_a_seat_limit(shared: Service, other: Service) -> None:
    """One user's holds and bookings race against a limit of two seats, which both count for."""
    codes = await one_user(shared, other, what=("bookings", "holds", "holds"), max_seats=2)
    assert codes == {"201": 2, "user_limit_reached": 6}


async def test_holds_and_bookings_against_a_daily_limit(shared: Service, other: Service) -> None:
    """One user's holds and bookings race against one booking a day, for which holds count not."""
    codes = await one_user(shared, other, what=("holds", "holds", "bookings"), max_today=1)
    assert set(codes) <= {"201", "daily_limit_reached"}
    await holds_against_the_day(shared, other)


@pytest.mark.parametrize("what", ["bookings", "holds"])
async def test_one_key_50_times(shared: Service, other: Service, what: str) -> None:
    """50 requests with one key race at two services."""
    await one_key(shared, other, what=what)


async def test_one_key_without_redis(servers: local.Servers, test_settings: Settings) -> None:
    """Requests with one key race where PostgreSQL alone can tell that they are the same."""
    alone = make_settings(servers, "test", redis_url=NOBODY_HERE, cache_ttl_ms=50)
    async with serve(alone) as first, serve(alone) as second:
        await one_key(first, second, count=10)


async def test_one_key_two_bodies(shared: Service, other: Service) -> None:
    """Two requests race with one key: one is done, the other is told, and neither is both."""
    venue = await shared.add_event(seats=2)
    [person] = await crowd(shared, count=1)
    clients: list[Person] = everywhere(person, [shared, other])
    calls = (
        partial(client.book, seat_id, key="two")
        for client, seat_id in zip(clients, venue.seats, strict=True)
    )
    answers = await together(map(decided, calls))
    assert sorted(map(code_of, answers)) == ["201", "idempotency_key_reused"]
    assert len(await buyers(shared, venue)) == 1
