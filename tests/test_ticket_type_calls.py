"""Listing, adding, changing and deleting ticket types."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Person, Service, problem_of
from tests.organizing import create, half_booked, half_done, organizer, post, seats_of

SEAT: dict[str, Any] = {"name": "Seat", "price": 4500, "currency": "EUR"}


@pytest.fixture
async def olga(shared: Service) -> Person:
    """An organizer of the shared service."""
    return await organizer(shared)


async def add(person: Person, event: dict[str, Any], **body: Any) -> dict[str, Any]:
    """A ticket type that is accepted."""
    answer = await post(person, f"/events/{event['id']}/ticket-types", SEAT | body)
    assert answer.status_code == 201, answer.text
    ticket_type: dict[str, Any] = answer.json()
    return ticket_type


async def listed(service: Service, event: dict[str, Any]) -> list[dict[str, Any]]:
    """What everyone sees."""
    answer = await service.client.get(f"/events/{event['id']}/ticket-types")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_add_and_list(shared: Service, olga: Person) -> None:
    """In the order in which they were made, those of the new event first."""
    event = await create(olga, capacity=5, ticket_types=[SEAT | {"quantity": 3}])
    cheap = await add(olga, event, name="Cheap", price=0)
    first, second = await listed(shared, event)
    assert second == cheap
    assert first == SEAT | {"id": first["id"], "event_id": event["id"], "quantity": 3}
    assert cheap["quantity"] is None


async def test_list_of_none(shared: Service, olga: Person) -> None:
    """An event may have none; no event is something else."""
    assert await listed(shared, await create(olga)) == []
    answer = await shared.client.get(f"/events/{2**62}/ticket-types")
    problem_of(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 409, "name_taken"),
        ({"name": "New", "currency": "CHF"}, 422, "invalid_request"),
        ({"name": "New", "price": 1.5}, 422, "invalid_request"),
        ({"name": "New", "quantity": -1}, 422, "invalid_request"),
        ({"name": "New", "taken": 1}, 422, "invalid_request"),
    ],
)
async def test_refused_additions(
    shared: Service, olga: Person, body: dict[str, Any], status: int, code: str
) -> None:
    """A name or a currency that does not fit the others, and what makes no sense."""
    event = await create(olga, capacity=5, ticket_types=[SEAT])
    answer = await post(olga, f"/events/{event['id']}/ticket-types", SEAT | body)
    problem_of(answer, status, code)
    assert len(await listed(shared, event)) == 1


async def test_at_most_a_hundred(shared: Service, olga: Person) -> None:
    """The list stays short enough to be one answer."""
    types = [SEAT | {"name": str(n)} for n in range(99)]
    event = await create(olga, capacity=5, ticket_types=types)
    path = f"/events/{event['id']}/ticket-types"
    answers = await asyncio.gather(*(post(olga, path, SEAT | {"name": n}) for n in "abc"))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 422: 2}
    assert len(await listed(shared, event)) == 100


async def test_first_two_ticket_types(shared: Service, olga: Person) -> None:
    """Race: two that are added at once have one currency, too."""
    event = await create(olga, capacity=5)
    row = (event["id"], UUID(olga.id), "Seat", 4500, "EUR", None)
    async with half_done(shared, "ticket_types", "add_ticket_type", *row):
        body = SEAT | {"name": "Box", "currency": "CHF"}
        call = asyncio.create_task(post(olga, f"/events/{event['id']}/ticket-types", body))
        await asyncio.sleep(0.3)
        assert not call.done()
    problem_of(await call, 422, "invalid_request")
    assert len(await listed(shared, event)) == 1


async def test_change(shared: Service, olga: Person, ann: Person) -> None:
    """A new price is for new bookings."""
    event = await create(olga, capacity=5, ticket_types=[SEAT])
    [kind], seats = await listed(shared, event), await seats_of(shared, event)
    old = (await ann.book(seats[0])).json()
    changes = {"name": "Late", "price": 5000, "quantity": 4}
    answer = await olga.call("PATCH", f"/ticket-types/{kind['id']}", json=changes)
    assert (answer.status_code, answer.json()) == (200, kind | changes)
    assert await listed(shared, event) == [kind | changes]
    assert ((await ann.book(seats[1])).json()["total"], old["total"]) == (5000, 4500)
    assert (await ann.call("GET", f"/bookings/{old['id']}")).json() == old


@pytest.mark.parametrize(
    "body", [{}, {"name": None}, {"price": None}, {"currency": "CHF"}, {"event_id": 1}]
)
async def test_refused_changes(shared: Service, olga: Person, body: dict[str, Any]) -> None:
    """422, and nothing changes."""
    event = await create(olga, capacity=5, ticket_types=[SEAT])
    [kind] = await listed(shared, event)
    answer = await olga.call("PATCH", f"/ticket-types/{kind['id']}", json=body)
    problem_of(answer, 422, "invalid_request")
    assert await listed(shared, event) == [kind]


async def test_change_to_anothers_name(shared: Service, olga: Person) -> None:
    """409 by the constraint."""
    event = await create(olga, capacity=5, ticket_types=[SEAT, SEAT | {"name": "Box"}])
    [_, box] = await listed(shared, event)
    answer = await olga.call("PATCH", f"/ticket-types/{box['id']}", json={"name": "Seat"})
    problem_of(answer, 409, "name_taken")


async def test_quantity_counts_what_is_sold_and_held(
    shared: Service, olga: Person, ann: Person
) -> None:
    """Also what was sold while there was no quantity; a cancelled booking gives its place back."""
    event = await create(olga, capacity=9, ticket_types=[SEAT])
    [kind], seats = await listed(shared, event), await seats_of(shared, event)
    path = f"/ticket-types/{kind['id']}"
    booking = (await ann.book(*seats[:2])).json()
    assert (await ann.call("POST", "/holds", json={"seat_id": seats[2]})).status_code == 201
    assert (
        await ann.call("DELETE", f"/bookings/{(await ann.book(seats[3])).json()['id']}")
    ).is_success
    answer = await olga.call("PATCH", path, json={"quantity": 2})
    problem_of(answer, 409, "ticket_type_in_use")
    assert (await olga.call("PATCH", path, json={"quantity": 3})).status_code == 200
    problem_of(await ann.book(seats[4]), 409, "ticket_type_sold_out")
    assert (await ann.call("DELETE", f"/bookings/{booking['id']}")).status_code == 200
    assert (await ann.book(*seats[4:6])).status_code == 201
    problem_of(await ann.book(seats[6]), 409, "ticket_type_sold_out")
    assert (await olga.call("PATCH", path, json={"quantity": None})).status_code == 200
    assert (await ann.book(*seats[6:])).status_code == 201


async def test_delete(shared: Service, olga: Person, ann: Person) -> None:
    """204 for one that nothing refers to; 409 while it is a section's, held, or was ever sold."""
    sections = [{"name": "A", "ticket_type": "Seat", "places": 2}, {"name": "B", "places": 5}]
    types = [SEAT | {"name": name} for name in ("Seat", "Held", "Sold", "Unused")]
    event = await create(olga, sections=sections, ticket_types=types)
    seat, held, sold, unused = await listed(shared, event)
    seats = await seats_of(shared, event)
    hold = await ann.call(
        "POST", "/holds", json={"seat_id": seats[3], "ticket_type_id": held["id"]}
    )
    booking = (await ann.book(seats[4], ticket_type_id=sold["id"])).json()
    await ann.call("DELETE", f"/bookings/{booking['id']}")
    for kind in (seat, held, sold):
        answer = await olga.call("DELETE", f"/ticket-types/{kind['id']}")
        problem_of(answer, 409, "ticket_type_in_use")
    assert (await olga.call("DELETE", f"/ticket-types/{unused['id']}")).status_code == 204
    await ann.call("DELETE", f"/holds/{hold.json()['id']}")
    assert (await olga.call("DELETE", f"/ticket-types/{held['id']}")).status_code == 204
    assert await listed(shared, event) == [seat, sold]


async def test_ticket_types_of_others(shared: Service, olga: Person, ann: Person) -> None:
    """To all but the event's organizer and admins, as absent as one that never was."""
    [kind] = await listed(shared, await create(olga, capacity=1, ticket_types=[SEAT]))
    for person in (await organizer(shared), ann):
        for type_id in (kind["id"], 2**62):
            path = f"/ticket-types/{type_id}"
            answer = await person.call("PATCH", path, json={"price": 1})
            problem_of(answer, 404, "not_found")
            problem_of(await person.call("DELETE", path), 404, "not_found")
    admin = await organizer(shared, "admin")
    assert (await admin.call("DELETE", f"/ticket-types/{kind['id']}")).status_code == 204


@pytest.mark.parametrize("what", ["book", "cancel_booking", "release_hold"])
async def test_quantity_waits_for_what_is_half_done(
    shared: Service, olga: Person, ann: Person, what: str
) -> None:
    """Race: a sale that begins or ends while the quantity is set is counted as it came out."""
    event = await create(olga, capacity=3, ticket_types=[SEAT])
    [kind], [first, second, _] = await listed(shared, event), await seats_of(shared, event)
    booked = (await ann.book(first)).json()["id"]
    held = (await ann.call("POST", "/holds", json={"seat_id": second})).json()["id"]
    running = {
        "book": half_booked(shared, ann, event, first + 2),
        "cancel_booking": half_done(shared, "bookings", what, UUID(booked), UUID(ann.id)),
        "release_hold": half_done(shared, "holds", what, UUID(held), UUID(ann.id)),
    }
    async with running[what]:
        path, body = f"/ticket-types/{kind['id']}", {"quantity": 3}
        call = asyncio.create_task(olga.call("PATCH", path, json=body))
        await asyncio.sleep(0.3)
        assert not call.done()
    assert (await call).status_code == 200
    assert await counted(shared, kind)
    rows = await shared.sql("select taken from ticket_types where id = $1", kind["id"])
    assert rows[0]["taken"] == (3 if what == "book" else 1)


async def test_quantity_set_while_buyers_buy(shared: Service, olga: Person) -> None:
    """Race: buyers book, hold and cancel while the type gets, changes and loses its quantity:
    the counter says what is taken, and that is never more than the quantity."""
    people = [await shared.newcomer() for _ in range(20)]
    event = await create(olga, capacity=200, ticket_types=[SEAT])
    [kind] = await listed(shared, event)
    body, done = {"event_id": event["id"], "quantity": 1}, asyncio.Event()
    codes: Counter[str] = Counter()

    async def keep_buying(number: int) -> None:
        person = people[number]
        while not done.is_set():
            path = "/holds" if number % 3 == 0 else "/bookings"
            answer = await person.call("POST", path, json=body)
            codes[answer.json().get("code", path)] += 1
            if answer.status_code == 201 and number % 2:
                await person.call("DELETE", f"{path}/{answer.json()['id']}")

    async def set_quantity(quantity: int | None) -> int:
        path = f"/ticket-types/{kind['id']}"
        return (await olga.call("PATCH", path, json={"quantity": quantity})).status_code

    buyers = [asyncio.create_task(keep_buying(number)) for number in range(20)]
    statuses = []
    for round_ in range(12):
        await asyncio.sleep(0.05)
        statuses.append(await set_quantity((60, None, 70 + round_)[round_ % 3]))
        assert await counted(shared, kind) in (None, True)
    done.set()
    await asyncio.gather(*buyers)
    assert set(statuses) <= {200, 409}
    assert statuses.count(200) >= 4
    await set_quantity(200)
    assert await counted(shared, kind)
    assert codes.keys() <= {
        "/holds", "/bookings", "busy", "sold_out", "ticket_type_sold_out", "unavailable",
    }  # fmt: skip
    assert codes["unavailable"] == 0


async def counted(service: Service, kind: dict[str, Any]) -> bool | None:
    """Does the counter say what is booked and held? None: there is no quantity."""
    [row] = await service.sql(
        """
        select quantity, taken, (
               select count(*) from booking_seats
                where ticket_type_id = $1 and active) + (
               select coalesce(sum(quantity), 0) from holds
                where event_id = t.event_id and ended_at is null) as right_now
          from ticket_types t where id = $1
        """,
        kind["id"],
    )
    if row["quantity"] is None:
        return None
    return bool(row["taken"] == row["right_now"] <= row["quantity"])
