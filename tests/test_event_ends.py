"""How events end: cancelled, with everything sold, or deleted."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Person, Service, problem_of
from tests.organizing import create, half_booked, organizer, seats_of

SEATED: dict[str, Any] = {
    "sections": [{"name": "A", "ticket_type": "Seat", "rows": [{"name": "1", "seats": 60}]}],
    "ticket_types": [{"name": "Seat", "price": 100, "currency": "EUR", "quantity": 60}],
    "hold_seconds": 5,
}


@pytest.fixture
async def olga(shared: Service) -> Person:
    """An organizer of the shared service."""
    return await organizer(shared)


async def left_over(service: Service, event: dict[str, Any]) -> dict[str, int]:
    """What of a sale is still in the database."""
    [row] = await service.sql(
        """
        select (select count(*) from bookings where event_id = $1 and status = 'active') as active,
               (select count(*) from booking_seats join bookings b on b.id = booking_id
                 where event_id = $1 and active) as booked,
               (select count(*) from holds where event_id = $1 and ended_at is null) as holds,
               (select count(*) from seats where event_id = $1 and
                 num_nonnulls(booking_id, hold_id, held_until) > 0) as seats,
               (select coalesce(sum(taken), 0) from ticket_types where event_id = $1) as taken
        """,
        event["id"],
    )
    return {name: count for name, count in row.items() if count}


async def test_cancel(shared: Service, olga: Person, ann: Person) -> None:
    """Bookings become cancelled, holds go, the places are free, and nobody can book any more."""
    event = await create(olga, **SEATED)
    path, seats = f"/events/{event['id']}", await seats_of(shared, event)
    booked = (await ann.book(*seats[:3])).json()
    held = (await ann.call("POST", "/holds", json={"seat_ids": seats[3:5]})).json()
    ended = (await ann.call("POST", "/bookings", json={"seat_id": seats[5]})).json()
    ended = (await ann.call("DELETE", f"/bookings/{ended['id']}")).json()

    answer = await olga.call("POST", f"{path}/cancel")
    cancelled = answer.json()
    assert (answer.status_code, cancelled["status"], cancelled["version"]) == (200, "cancelled", 2)
    assert (cancelled["available"], cancelled["booked"], cancelled["held"]) == (60, 0, 0)
    assert await left_over(shared, event) == {}
    assert await shared.free(event_id=event["id"]) == set(seats)
    seen = (await ann.call("GET", f"/bookings/{booked['id']}")).json()
    assert seen["status"] == "cancelled"
    assert seen["cancelled_at"] == seen["updated_at"] > booked["updated_at"]
    assert seen["seats"] == booked["seats"]
    assert (await ann.call("GET", f"/bookings/{ended['id']}")).json() == ended
    problem_of(await ann.call("GET", f"/holds/{held['id']}"), 404, "not_found")
    problem_of(await ann.book(seats[0]), 409, "event_cancelled")

    again = await olga.call("POST", f"{path}/cancel")
    assert (again.status_code, again.json()) == (200, cancelled)
    assert (await ann.call("GET", f"/bookings/{booked['id']}")).json() == seen


async def test_cancel_completes_what_was_left(shared: Service, olga: Person, ann: Person) -> None:
    """A cancellation that was cut short between its two halves is finished by the next."""
    event = await create(olga, **SEATED)
    [seat, *_] = await seats_of(shared, event)
    assert (await ann.book(seat)).status_code == 201
    await shared.sql("update events set status = 'cancelled' where id = $1", event["id"])
    assert (await olga.call("POST", f"/events/{event['id']}/cancel")).status_code == 200
    assert await left_over(shared, event) == {}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/cancel", 200), ("DELETE", "", 409)]
)
async def test_sale_that_is_half_done(
    shared: Service, olga: Person, ann: Person, method: str, path: str, status: int
) -> None:
    """Race: a booking that was begun before, and commits after: it is waited for."""
    event = await create(olga, **SEATED)
    [seat, *_] = await seats_of(shared, event)
    async with half_booked(shared, ann, event, seat):
        call = asyncio.create_task(olga.call(method, f"/events/{event['id']}{path}"))
        await asyncio.sleep(0.3)
        assert not call.done()
    assert (await call).status_code == status
    left = {"active": 1, "booked": 1, "seats": 1, "taken": 1} if status == 409 else {}
    assert await left_over(shared, event) == left


@pytest.mark.parametrize("answered", [0, 5, 15, 30])
async def test_cancel_while_50_users_book(shared: Service, olga: Person, answered: int) -> None:
    """Race: whoever still got a booking or a hold has lost it when the cancellation is answered;
    some book, some hold and book that, some cancel theirs meanwhile."""
    event = await create(olga, **SEATED)
    people, seats = [await shared.newcomer() for _ in range(50)], await seats_of(shared, event)
    codes: Counter[str] = Counter()
    enough = asyncio.Semaphore(0)

    async def buy(number: int) -> None:
        person, body = people[number], {"seat_id": seats[number]}
        if number % 3 == 0:
            hold = await person.call("POST", "/holds", json=body)
            body = {"hold_id": hold.json().get("id", str(uuid4()))}
        answer = await person.call("POST", "/bookings", json=body)
        codes[answer.json().get("code", "booked")] += 1
        enough.release()
        if answer.status_code == 201 and number % 5 == 0:
            await person.call("DELETE", f"/bookings/{answer.json()['id']}")

    buyers = [asyncio.create_task(buy(number)) for number in range(50)]
    for _ in range(answered):
        await enough.acquire()
    answer = await olga.call("POST", f"/events/{event['id']}/cancel")
    assert answer.status_code == 200, answer.text
    assert await left_over(shared, event) == {}
    await asyncio.gather(*buyers)
    assert await left_over(shared, event) == {}
    assert await shared.free(event_id=event["id"]) == set(seats)
    assert codes["booked"] >= answered
    assert codes.keys() <= {"booked", "event_cancelled", "hold_expired", "not_found"}


async def test_cancel_while_buyers_never_pause(shared: Service, olga: Person) -> None:
    """Race: waiting for the sales that run does not last as long as new ones are tried."""
    event = await create(olga, capacity=5000)
    people = [await shared.newcomer() for _ in range(20)]
    body, done = {"event_id": event["id"], "quantity": 1}, asyncio.Event()

    async def keep_buying(person: Person) -> None:
        while not done.is_set():
            answer = await person.call("POST", "/bookings", json=body)
            assert answer.status_code in (201, 409), answer.text

    buyers = [asyncio.create_task(keep_buying(person)) for person in people]
    await asyncio.sleep(0.5)
    async with asyncio.timeout(5):
        answer = await olga.call("POST", f"/events/{event['id']}/cancel")
    assert answer.status_code == 200, answer.text
    assert await left_over(shared, event) == {}
    done.set()
    await asyncio.gather(*buyers)
    assert await left_over(shared, event) == {}


async def test_delete(shared: Service, olga: Person, ann: Person) -> None:
    """204 and no trace of it, even of seats that were held under a key; then 404."""
    event = await create(olga, **SEATED)
    path, seats = f"/events/{event['id']}", await seats_of(shared, event)
    for seat, key in zip(seats[:2], (f"first-{uuid4()}", f"second-{uuid4()}"), strict=True):
        headers = {"Idempotency-Key": key}
        answer = await ann.call("POST", "/holds", json={"seat_id": seat}, headers=headers)
        assert answer.status_code == 201, answer.text
    await ann.call("DELETE", f"/holds/{answer.json()['id']}")
    assert (await olga.call("DELETE", path)).status_code == 204
    for table in ("seats", "seat_rows", "sections", "ticket_types", "holds"):
        query = f"select from {table} where event_id = $1"
        assert await shared.sql(query, event["id"]) == []
    for answer in (
        await shared.client.get(path),
        await olga.call("DELETE", path),
        await shared.client.get("/seats", params={"event_id": event["id"]}),
        await ann.book(seats[0]),
    ):
        problem_of(answer, 404, "not_found")


async def test_delete_what_was_sold(shared: Service, olga: Person, ann: Person) -> None:
    """409, even after the only booking was cancelled."""
    event = await create(olga, **SEATED)
    path, [seat, *_] = f"/events/{event['id']}", await seats_of(shared, event)
    booking = (await ann.book(seat)).json()
    problem_of(await olga.call("DELETE", path), 409, "event_has_bookings")
    await ann.call("DELETE", f"/bookings/{booking['id']}")
    problem_of(await olga.call("DELETE", path), 409, "event_has_bookings")
    assert (await shared.client.get(path)).json() == event


async def test_delete_against_book(shared: Service, olga: Person) -> None:
    """Race: either the booking stands and the event with it, or both are not there."""
    people = [await shared.newcomer() for _ in range(5)]
    outcomes: Counter[tuple[int, bool]] = Counter()
    for round_ in range(20):
        event = await create(olga, **SEATED)
        path, seats = f"/events/{event['id']}", await seats_of(shared, event)

        buyers = [
            asyncio.create_task(person.book(seat))
            for person, seat in zip(people, seats, strict=False)
        ]
        await asyncio.sleep(round_ % 5 * 0.004)
        deleted = (await olga.call("DELETE", path)).status_code
        answers = await asyncio.gather(*buyers)
        booked = [answer for answer in answers if answer.status_code == 201]
        assert all(answer.status_code in (201, 404) for answer in answers)
        rows = await shared.sql("select from bookings where event_id = $1", event["id"])
        assert len(rows) == len(booked)
        status = (await shared.client.get(path)).status_code
        assert (deleted, status) == ((409, 200) if booked else (204, 404))
        outcomes[deleted, bool(booked)] += 1
    assert outcomes[204, False] + outcomes[409, True] == 20


@pytest.mark.slow
async def test_cancel_ten_thousand_bookings(shared: Service, olga: Person) -> None:
    """In seconds, and all at once."""
    event = await create(
        olga, **SEATED | {"ticket_types": [], "sections": None, "capacity": 20_000}
    )
    await shared.sql(
        """
        with buyer as (select id from users limit 1), sold as (
            insert into bookings (id, event_id, user_id, quantity, total)
            select gen_random_uuid(), $1, buyer.id, 2, 0 from buyer, generate_series(1, 10000)
            returning id
        ), places as (
            select s.id as seat_id, b.id as booking_id
              from (select id, row_number() over () - 1 as n from sold) b
              join (select id, row_number() over () - 1 as n from seats where event_id = $1) s
                on s.n / 2 = b.n
        ), taken as (
            update seats set booking_id = places.booking_id, changed = pg_current_xact_id()
              from places where seats.id = places.seat_id
        )
        insert into booking_seats (booking_id, seat_id, price)
        select booking_id, seat_id, 0 from places
        """,
        event["id"],
    )
    assert len(await left_over(shared, event)) == 3
    async with asyncio.timeout(10):
        answer = await olga.call("POST", f"/events/{event['id']}/cancel")
    assert (answer.status_code, answer.json()["available"]) == (200, 20_000)
    assert await left_over(shared, event) == {}
