"""Finding, reading and changing events."""

import asyncio
from dataclasses import fields
from typing import Any
from uuid import uuid4

import pytest

from seatsvc import db
from seatsvc.accounts import User
from seatsvc.events import Event
from seatsvc.reports import SoldPlace
from seatsvc.ticket_types import TicketType
from tests.conftest import Person, Service, problem_of
from tests.organizing import create, in_hours, organizer, seats_of


@pytest.fixture
async def olga(shared: Service) -> Person:
    """An organizer of the shared service."""
    return await organizer(shared)


async def names(service: Service, **params: Any) -> list[str]:
    """What the list shows, in its order."""
    answer = await service.client.get("/events", params=params)
    assert answer.status_code == 200, answer.text
    return [event["name"] for event in answer.json()["items"]]


@pytest.mark.parametrize(
    ("noun", "query", "record"),
    [
        ("events", "get_event", Event), ("events", "list_events", Event),
        ("events", "change_event", Event), ("reports", "list_sold_places", SoldPlace),
        ("ticket_types", "list_ticket_types", TicketType),
        ("ticket_types", "add_ticket_type", TicketType),
        ("ticket_types", "change_ticket_type", TicketType),
        ("accounts", "list_users", User), ("accounts", "change_user", User),
    ],
)  # fmt: skip
async def test_columns(shared: Service, noun: str, query: str, record: type[Any]) -> None:
    """Each query fills exactly its record."""
    async with shared.pool.acquire() as connection:
        statement = await connection.prepare(db.queries(noun)[query])
        columns = [column.name for column in statement.get_attributes()]
    assert columns == [field.name for field in fields(record)]


async def test_upcoming_events_first_come_first(shared: Service, olga: Person) -> None:
    """On sale and not over yet, soonest first, those without a date last."""
    venue = uuid4().hex
    for name, dates in {
        "no date": {},
        "far": {"starts_at": in_hours(48)},
        "near": {"starts_at": in_hours(1)},
        "over": {"starts_at": in_hours(-2)},
        "running": {"starts_at": in_hours(-2), "ends_at": in_hours(1)},
        "ended": {"starts_at": in_hours(-2), "ends_at": in_hours(-1)},
        "cancelled": {"starts_at": in_hours(2)},
    }.items():
        event = await create(olga, name=name, venue=venue, **dates)
    await olga.call("POST", f"/events/{event['id']}/cancel")
    assert await names(shared, venue=venue) == ["running", "near", "far", "no date"]
    assert await names(shared, venue=venue.upper(), status="cancelled") == ["cancelled"]
    assert await names(shared, venue=venue, starts_before=in_hours(0)) == [
        "over", "running", "ended",
    ]  # fmt: skip
    assert await names(shared, venue=venue, starts_after=in_hours(24)) == ["far"]
    assert await names(shared, venue=venue[1:]) == []


async def test_search(shared: Service, olga: Person) -> None:
    """A part of name, venue or description, in any case; no character is special."""
    tag = uuid4().hex
    await create(olga, name=f"{tag} 100% ÄÖ_x")
    await create(olga, name="Other", venue=f"Hall {tag}")
    await create(olga, name="Third", description=f"About\n{tag}, in short")
    assert set(await names(shared, q=tag.upper())) == {f"{tag} 100% ÄÖ_x", "Other", "Third"}
    assert len(await names(shared, q=f"{tag} 100% äö_X")) == 1
    assert await names(shared, q=f"{tag[:5]}%{tag[-5:]}") == []
    assert await names(shared, q=f"{tag} 100% äö?x".replace("?", "__")) == []


async def test_pages(shared: Service, olga: Person) -> None:
    """The cursor and the Link header lead through all events once, equal dates and none too."""
    venue, start = uuid4().hex, in_hours(5)
    made = [
        (await create(olga, venue=venue, **({"starts_at": start} if n < 3 else {})))["id"]
        for n in range(5)
    ]
    seen, path = [], f"/events?venue={venue}&limit=2"
    while path:
        answer = await shared.client.get(path)
        seen += [event["id"] for event in answer.json()["items"]]
        path = answer.links.get("next", {}).get("url", "")
        assert bool(path) == (answer.json()["next_cursor"] is not None)
    assert seen == made


@pytest.mark.parametrize(
    "query",
    [
        "cursor=x", "cursor=WzEsMl0", "cursor=W251bGwsMF0", "limit=0", "limit=101", "status=open",
        "starts_after=tomorrow", "starts_after=2027-01-01T00:00:00", "q=", "q=%00",
    ],
)  # fmt: skip
async def test_refused_queries(shared: Service, query: str) -> None:
    """422, also for a cursor that somebody made up."""
    problem_of(await shared.client.get(f"/events?{query}"), 422, "invalid_request")


async def test_entity_tag_follows_the_event_and_its_places(shared: Service, olga: Person) -> None:
    """304 until the event or the state of a place changes."""
    event = await create(olga)
    path, [seat, *_] = f"/events/{event['id']}", await seats_of(shared, event)

    async def status(tag: str) -> int:
        return (await shared.client.get(path, headers={"If-None-Match": tag})).status_code

    first = (await shared.client.get(path)).headers["etag"]
    assert [await status(tag) for tag in (first, f'W/{first}, "x"', "*")] == [304, 304, 304]
    assert (await (await shared.newcomer()).book(seat)).status_code == 201
    assert await status(first) == 200
    second = (await shared.client.get(path)).headers["etag"]
    assert (await olga.call("PATCH", path, json={"venue": "Elsewhere"})).status_code == 200
    assert await status(second) == 200
    assert len({first, second, (await shared.client.get(path)).headers["etag"]}) == 3


async def test_changes(olga: Person) -> None:
    """What is named changes, null takes an optional field away, the version counts up."""
    event = await create(olga, venue="Hall", description="Old", starts_at=in_hours(5))
    path = f"/events/{event['id']}"
    changes = {"name": "New", "venue": None, "hold_seconds": 60, "max_seats_per_user": 2}
    answer = await olga.call("PATCH", path, json=changes)
    changed = answer.json()
    assert answer.status_code == 200, answer.text
    assert changed["updated_at"] > event["updated_at"]
    untouched = {"updated_at": changed["updated_at"], "version": 2}
    assert changed == event | changes | untouched
    assert answer.headers["etag"].startswith('"2-')


@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": None}, {"hold_seconds": None}, {"capacity": 5}, {"status": "on_sale"},
        {"version": 7}, {"organizer_id": None}, {"ends_at": in_hours(-1)}, {"sections": []},
        {"sales_start": in_hours(2), "sales_end": in_hours(1)},
    ],
)  # fmt: skip
async def test_refused_changes(shared: Service, olga: Person, body: dict[str, Any]) -> None:
    """422, and the event stays as it was; dates are compared with those that are there."""
    event = await create(olga, starts_at=in_hours(1))
    path = f"/events/{event['id']}"
    problem_of(await olga.call("PATCH", path, json=body), 422, "invalid_request")
    assert (await shared.client.get(path)).json() == event


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"1"', 200), ('"1-anything"', 200), ("*", 200), ('"7", "1-x"', 200), ('"2"', 412),
        ('W/"1"', 412), ("1", 412), ('"99999999999"', 412), ('""', 412),
    ],
)  # fmt: skip
async def test_if_match(olga: Person, tag: str, status: int) -> None:
    """Only the event's version counts, not the state of its places."""
    event = await create(olga)
    path, headers = f"/events/{event['id']}", {"If-Match": tag}
    answer = await olga.call("PATCH", path, json={"name": "New"}, headers=headers)
    assert answer.status_code == status
    if status == 412:
        problem_of(answer, 412, "version_mismatch")


async def test_two_changes_of_one_version(shared: Service, olga: Person) -> None:
    """Race: of two who change the version that both saw, the second is told."""
    for _ in range(10):
        event = await create(olga)
        path, headers = f"/events/{event['id']}", {"If-Match": '"1"'}
        answers = await asyncio.gather(
            *(olga.call("PATCH", path, json={"name": n}, headers=headers) for n in ("x", "y"))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412]
        [winner] = [answer.json() for answer in answers if answer.status_code == 200]
        assert (await shared.client.get(path)).json() == winner
        assert winner["version"] == 2


async def test_changes_of_different_fields(shared: Service, olga: Person) -> None:
    """Race: nobody's change undoes another's."""
    event = await create(olga)
    changes: list[dict[str, Any]] = [
        {"name": "New"}, {"venue": "Hall"}, {"description": "Long"}, {"hold_seconds": 99},
        {"max_seats_per_user": 3}, {"starts_at": "2027-05-01T18:00:00Z"},
    ]  # fmt: skip
    path = f"/events/{event['id']}"
    await asyncio.gather(*(olga.call("PATCH", path, json=change) for change in changes))
    found = (await shared.client.get(path)).json()
    assert all(found.items() >= change.items() for change in changes)
    assert found["version"] == 1 + len(changes)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"name": "Mine"}), ("DELETE", "", None), ("POST", "/cancel", None),
        ("GET", "/bookings", None), ("GET", "/report", None),
        ("POST", "/ticket-types", {"name": "x", "price": 1, "currency": "EUR"}),
    ],
)  # fmt: skip
async def test_events_of_others(
    shared: Service, olga: Person, ann: Person, method: str, path: str, body: object
) -> None:
    """To all but its organizer and admins an event is as absent as one that never was."""
    event = await create(olga)
    for person in (await organizer(shared), ann):
        for event_id in (event["id"], 2**62):
            answer = await person.call(method, f"/events/{event_id}{path}", json=body)
            problem_of(answer, 404, "not_found")
    nobody = await shared.client.request(method, f"/events/{event['id']}{path}", json=body)
    problem_of(nobody, 401, "not_authenticated")
    admin = await organizer(shared, "admin")
    answer = await admin.call(method, f"/events/{event['id']}{path}", json=body)
    assert answer.status_code in (200, 201, 204), answer.text


async def test_absent_event(shared: Service) -> None:
    """404 for whatever could be an id, 422 for what could not."""
    problem_of(await shared.client.get(f"/events/{2**63 - 1}"), 404, "not_found")
    problem_of(await shared.client.get(f"/events/{2**63}"), 422, "invalid_request")
    problem_of(await shared.client.get("/events/0"), 422, "invalid_request")
