"""Creating events: every kind of hall, and what is refused."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Person, Service, problem_of
from tests.organizing import HALL, create, in_hours, organizer, post, seats_of

SETTABLE = {
    "name", "description", "venue", "starts_at", "ends_at", "sales_start", "sales_end",
    "max_seats_per_user", "max_bookings_per_user_per_day", "hold_seconds",
}  # fmt: skip
FIELDS = SETTABLE | {
    "id", "organizer_id", "status", "capacity", "available", "held", "booked", "created_at",
    "updated_at", "version",
}  # fmt: skip


@pytest.fixture
async def olga(shared: Service) -> Person:
    """An organizer of the shared service."""
    return await organizer(shared)


async def test_created_event(shared: Service, olga: Person) -> None:
    """201 with exactly the contract's fields, where to find it, and its entity tag."""
    body = {"name": "Fair", "capacity": 5, "starts_at": "2027-05-01T20:00:00+02:00"}
    answer = await olga.call("POST", "/events", json=body)
    event = answer.json()
    assert (answer.status_code, set(event)) == (201, FIELDS)
    assert (event["organizer_id"], event["status"], event["version"]) == (olga.id, "on_sale", 1)
    assert (event["capacity"], event["available"], event["held"], event["booked"]) == (5, 5, 0, 0)
    assert (event["starts_at"], event["hold_seconds"]) == ("2027-05-01T18:00:00Z", 600)
    assert answer.headers["location"] == f"/events/{event['id']}"
    again = await shared.client.get(answer.headers["location"])
    assert again.json() == event
    assert again.headers["etag"] == answer.headers["etag"]
    assert answer.headers["etag"].startswith('"1-')


async def test_mixed_hall(shared: Service, olga: Person) -> None:
    """Numbered rows, labelled rows and general admission, in consecutive places."""
    sections = [
        {
            "name": "Stalls", "ticket_type": "Seat",
            "rows": [
                {"name": "1", "seats": 2, "accessible": ["2"], "x": 0, "y": 1.5},
                {"name": "2", "seats": ["1", "1a"]},
            ],
        },
        {"name": "Floor", "places": 3},
    ]  # fmt: skip
    types = [{"name": "Seat", "price": 4500, "currency": "EUR", "quantity": 4}]
    event = await create(olga, sections=sections, ticket_types=types)
    rows = await shared.sql(
        "select s.id, section, row_name, number, accessible, t.name as kind from seats s"
        " left join ticket_types t on t.id = s.ticket_type_id where s.event_id = $1 order by s.id",
        event["id"],
    )
    first = rows[0]["id"]
    assert [tuple(row) for row in rows] == [
        (first, "Stalls", "1", "1", False, "Seat"),
        (first + 1, "Stalls", "1", "2", True, "Seat"),
        (first + 2, "Stalls", "2", "1", False, "Seat"),
        (first + 3, "Stalls", "2", "1a", False, "Seat"),
        *((first + place, "Floor", None, None, False, None) for place in (4, 5, 6)),
    ]
    assert len(await shared.free(event_id=event["id"])) == event["capacity"] == 7


async def test_who_may_create(shared: Service, ann: Person) -> None:
    """Organizers and admins; others have not the role, or have to log in first."""
    body = {"name": "Event", "capacity": 1}
    problem_of(await ann.call("POST", "/events", json=body), 403, "forbidden")
    problem_of(await shared.client.post("/events", json=body), 401, "not_authenticated")
    await create(await organizer(shared, "admin"), **body)


def room(**row: Any) -> dict[str, Any]:
    """A body whose only row is this."""
    return {"sections": [{"name": "A", "rows": [{"name": "1", "seats": 3} | row]}]}


def priced(*types: dict[str, Any]) -> dict[str, Any]:
    """A body with these ticket types."""
    base = {"name": "Seat", "price": 1, "currency": "EUR"}
    return {"capacity": 1, "ticket_types": [base | kind for kind in types]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "either capacity or sections"),
        ({"capacity": 1, "sections": [HALL]}, "either capacity or sections"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": 1_000_001}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"sections": []}, "sections"),
        ({"sections": [HALL, HALL]}, "the section 'A' is there twice"),
        ({"sections": [{"name": "A"}]}, "either rows or places"),
        ({"sections": [HALL | {"places": 1}]}, "either rows or places"),
        ({"sections": [{"name": "A", "rows": []}]}, "rows"),
        ({"sections": [{"name": "A", "rows": HALL["rows"] * 2}]}, "the row '1' is there twice"),
        ({"sections": [HALL | {"ticket_type": "Box"}]}, "there is no ticket type 'Box'"),
        ({"sections": [{"name": n, "places": 600_000} for n in "AB"]}, "at most 1,000,000 places"),
        (room(seats=["1", "2", "1"]), "the label '1' is there twice"),
        (room(seats=[]), "seats"),
        (room(seats=0), "seats"),
        (room(seats=["1\n2"]), "control characters"),
        (room(accessible=["4"]), "row '1' has no seat '4'"),
        (room(seats=["a"], accessible=["b"]), "row '1' has no seat 'b'"),
        (room(x=float("nan")), "x"),
        (priced({}, {}), "the ticket type 'Seat' is there twice"),
        (priced({}, {"name": "Box", "currency": "CHF"}), "one currency"),
        (priced({"currency": "eur"}), "currency"),
        (priced({"price": -1}), "price"),
        ({"capacity": 1, "starts_at": "2027-05-01T20:00:00"}, "with an offset"),
        ({"capacity": 1, "starts_at": 1_800_000_000}, "with an offset"),
        ({"capacity": 1, "starts_at": "0001-01-01T00:00:00+14:00"}, "between the years"),
        ({"capacity": 1, "starts_at": in_hours(2), "ends_at": in_hours(1)}, "ends_at"),
        ({"capacity": 1, "sales_start": in_hours(2), "sales_end": in_hours(1)}, "sales_end"),
        ({"capacity": 1, "hold_seconds": 4}, "hold_seconds"),
        ({"capacity": 1, "max_seats_per_user": 0}, "max_seats_per_user"),
        ({"capacity": 1, "name": " "}, "name"),
        ({"capacity": 1, "description": "\0"}, "control characters"),
        ({"capacity": 1, "organizer_id": str(uuid4())}, "organizer_id"),
        ({"capacity": 1, "status": "cancelled"}, "status"),
    ],
)
async def test_refused_bodies(
    shared: Service, olga: Person, body: dict[str, Any], said: str
) -> None:
    """422 that says what is wrong; nothing is left behind."""
    before = await shared.sql("select count(*) from events")
    answer = await post(olga, "/events", {"name": "Event", **body})
    assert said in problem_of(answer, 422, "invalid_request")["detail"]
    assert await shared.sql("select count(*) from events") == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "limit_s"),
    [
        (
            {
                "sections": [
                    {"name": "A", "rows": [{"name": str(n), "seats": 100} for n in range(1000)]}
                ]
            },
            5,
        ),
        ({"capacity": 1_000_000}, 30),
    ],
)
async def test_large_halls(
    shared: Service, olga: Person, ann: Person, body: dict[str, Any], limit_s: float
) -> None:
    """A hundred thousand seats in 5 s, a million places too; meanwhile others book as ever."""
    other = await create(olga, capacity=1000)
    seats = iter(await seats_of(shared, other))
    clock = asyncio.get_running_loop().time
    started_at, waits = clock(), []
    creating = asyncio.create_task(create(olga, **body))
    while not creating.done():
        before = clock()
        assert (await ann.book(next(seats))).status_code == 201
        waits.append(clock() - before)
        await asyncio.sleep(0.05)
    assert clock() - started_at < limit_s
    assert max(waits) < 0.5
    event = creating.result()
    assert event["available"] == event["capacity"] == len(await seats_of(shared, event))
