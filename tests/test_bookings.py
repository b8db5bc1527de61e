"""Booking seats, seeing one's bookings, and cancelling them."""

import asyncio
import base64
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.conftest import Person, Service, Venue, problem_of

BOOKING_FIELDS = {
    "id", "event_id", "user_id", "status", "seats", "quantity", "total", "currency", "created_at",
    "updated_at", "cancelled_at",
}  # fmt: skip
SEAT_FIELDS = {"id", "section", "row", "number", "ticket_type_id", "price"}


async def add_priced_event(service: Service) -> tuple[Venue, dict[str, int]]:
    """Two seats at 45 EUR, one at 30 EUR, one with no type of its own; the ids of the types."""
    venue = await service.add_event(
        SectionDraft("Stalls", [RowDraft("A", ["1", "2"])], ticket_type="Dear"),
        SectionDraft("Circle", [RowDraft("B", ["1"])], ticket_type="Cheap"),
        SectionDraft("Open", [RowDraft("C", ["1"])]),
        ticket_types=[TicketTypeDraft("Dear", 4500, "EUR"), TicketTypeDraft("Cheap", 3000, "EUR")],
    )
    rows = await service.sql(
        "select name, id from ticket_types where event_id = $1", venue.event_id
    )
    return venue, {row["name"]: row["id"] for row in rows}


async def booked_by(person: Person, *seat_ids: int) -> dict[str, Any]:
    """A booking that succeeds."""
    answer = await person.book(*seat_ids)
    assert answer.status_code == 201, answer.text
    booking: dict[str, Any] = answer.json()
    return booking


async def test_book_one_seat(shared: Service, ann: Person) -> None:
    """`seat_id`: 201 with exactly the contract's fields, and the rows to it."""
    venue = await shared.add_event()
    seat_id = venue.seats[1]
    answer = await ann.call("POST", "/bookings", json={"seat_id": seat_id})
    assert answer.status_code == 201
    booking = answer.json()
    assert set(booking) - {"adjacent"} == BOOKING_FIELDS
    assert set(booking["seats"][0]) == SEAT_FIELDS
    assert answer.headers["location"] == f"/bookings/{booking['id']}"
    assert "idempotency-replayed" not in answer.headers
    assert (booking["event_id"], booking["user_id"]) == (venue.event_id, ann.id)
    assert (booking["status"], booking["cancelled_at"]) == ("active", None)
    assert (booking["quantity"], booking["total"], booking["currency"]) == (1, 0, None)
    [row] = await shared.sql("select * from bookings where event_id = $1", venue.event_id)
    assert (str(row["id"]), str(row["user_id"])) == (booking["id"], ann.id)
    assert row["created_at"] == datetime.fromisoformat(booking["created_at"])
    assert await shared.booked(venue) == [seat_id]


async def test_times_are_utc(shared: Service, ann: Person) -> None:
    """RFC 3339 in UTC, whatever the servers' clocks show."""
    booking = await booked_by(ann, (await shared.add_event()).seats[0])
    created_at = datetime.fromisoformat(booking["created_at"])
    assert created_at.utcoffset() == timedelta()
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
    assert booking["updated_at"] == booking["created_at"]


async def test_book_fifty_seats(shared: Service, ann: Person) -> None:
    """`seat_ids` in any order: one booking, its seats in theirs."""
    venue = await shared.add_event(seats=50)
    booking = await booked_by(ann, *reversed(venue.seats))
    assert booking["quantity"] == 50
    assert [seat["id"] for seat in booking["seats"]] == venue.seats
    assert await shared.booked(venue) == venue.seats


async def test_prices(shared: Service, ann: Person) -> None:
    """Each seat's price is its type's at that moment; the total is theirs, in minor units."""
    venue, types = await add_priced_event(shared)
    booking = await booked_by(ann, *venue.seats[1:3])
    assert booking["seats"] == [
        {"id": venue.seats[1], "section": "Stalls", "row": "A", "number": "2",
         "ticket_type_id": types["Dear"], "price": 4500},
        {"id": venue.seats[2], "section": "Circle", "row": "B", "number": "1",
         "ticket_type_id": types["Cheap"], "price": 3000},
    ]  # fmt: skip
    assert (booking["total"], booking["currency"]) == (7500, "EUR")
    await shared.sql("update ticket_types set price = 1 where event_id = $1", venue.event_id)
    assert (await ann.call("GET", f"/bookings/{booking['id']}")).json() == booking


async def test_choice_of_ticket_type(shared: Service, ann: Person) -> None:
    """Where a seat leaves the type open, the buyer names it; naming a seat's own is fine."""
    venue, types = await add_priced_event(shared)
    answer = await ann.book(venue.seats[3], ticket_type_id=types["Cheap"])
    assert answer.status_code == 201
    assert answer.json()["seats"][0]["ticket_type_id"] == types["Cheap"]
    assert (answer.json()["total"], answer.json()["currency"]) == (3000, "EUR")
    assert (await ann.book(venue.seats[0], ticket_type_id=types["Dear"])).status_code == 201


async def test_ticket_type_of_another_seat(shared: Service, ann: Person) -> None:
    """A dear seat is not sold at the cheap price."""
    venue, types = await add_priced_event(shared)
    answer = await ann.book(*venue.seats[1:3], ticket_type_id=types["Cheap"])
    problem = problem_of(answer, 422, "ticket_type_not_allowed")
    assert problem["seats"] == [{"id": venue.seats[1], "reason": "ticket_type_not_allowed"}]
    assert await shared.booked(venue) == []


async def test_ticket_type_of_another_event(shared: Service, ann: Person) -> None:
    """An open seat is not sold at the price of another event's type."""
    venue, _ = await add_priced_event(shared)
    _, others = await add_priced_event(shared)
    answer = await ann.book(venue.seats[3], ticket_type_id=others["Cheap"])
    problem_of(answer, 422, "ticket_type_not_allowed")
    assert await shared.booked(venue) == []


async def test_unknown_ticket_type(shared: Service, ann: Person) -> None:
    """A type that does not exist does not make an open seat free of charge."""
    venue, _ = await add_priced_event(shared)
    answer = await ann.book(venue.seats[3], ticket_type_id=999_999)
    problem_of(answer, 422, "ticket_type_not_allowed")
    assert await shared.booked(venue) == []


async def test_get_booking(shared: Service, ann: Person) -> None:
    """What the 201 said."""
    booking = await booked_by(ann, *(await shared.add_event()).seats)
    answer = await ann.call("GET", f"/bookings/{booking['id']}")
    assert answer.status_code == 200
    assert answer.json() == booking


async def test_list_is_newest_first_and_mine(shared: Service, ann: Person, ben: Person) -> None:
    """All of mine, none of others'."""
    venue = await shared.add_event(seats=4)
    mine = [await booked_by(ann, seat_id) for seat_id in venue.seats[:3]]
    await booked_by(ben, venue.seats[3])
    page = (await ann.call("GET", "/bookings")).json()
    assert set(page) == {"items", "next_cursor"}
    assert page["items"] == mine[::-1]
    assert page["next_cursor"] is None


async def test_list_filters(shared: Service, ann: Person) -> None:
    """By status, by event, by both."""
    one, two = await shared.add_event(), await shared.add_event()
    kept = await booked_by(ann, one.seats[0])
    other = await booked_by(ann, two.seats[0])
    gone = await booked_by(ann, one.seats[1])
    await ann.call("DELETE", f"/bookings/{gone['id']}")

    async def ids(**params: Any) -> list[str]:
        page = (await ann.call("GET", "/bookings", params=params)).json()
        return [booking["id"] for booking in page["items"]]

    assert await ids() == [gone["id"], other["id"], kept["id"]]
    assert await ids(status="active") == [other["id"], kept["id"]]
    assert await ids(status="cancelled") == [gone["id"]]
    assert await ids(event_id=one.event_id) == [gone["id"], kept["id"]]
    assert await ids(event_id=one.event_id, status="active") == [kept["id"]]
    assert await ids(event_id=999_999) == []


async def test_list_by_cursor_and_by_link(shared: Service, ann: Person) -> None:
    """Pages hold every booking once, those of the same moment too; filters go along."""
    venue = await shared.add_event(seats=7)
    ids = [(await booked_by(ann, seat_id))["id"] for seat_id in venue.seats]
    await shared.sql("update bookings set created_at = now() where user_id::text = $1", ann.id)
    params: dict[str, Any] = {"limit": 3, "event_id": venue.event_id, "status": "active"}
    answer = await ann.call("GET", "/bookings", params=params)
    found: list[str] = []
    while True:
        found += [booking["id"] for booking in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
        by_cursor = await ann.call("GET", "/bookings", params=params | {"cursor": cursor})
        answer = await ann.call("GET", answer.links["next"]["url"])
        assert answer.json() == by_cursor.json()
    assert "link" not in answer.headers
    assert found == sorted(ids, reverse=True)


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"status": "gone"}, {"status": ""},
        {"event_id": "0"}, {"event_id": str(2**63)}, {"cursor": "x"}, {"cursor": "W10"},
        {"cursor": "WzEsMl0"}, {"cursor": "x" * 201}, {"cursor": "\x00"}, {"cursor": ""},
    ],
)  # fmt: skip
async def test_list_with_bad_parameters(ann: Person, params: dict[str, str]) -> None:
    """422 that names the parameter."""
    problem = problem_of(await ann.call("GET", "/bookings", params=params), 422, "invalid_request")
    assert next(iter(params)) in problem["detail"]


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01", "x", 1, None]
)
async def test_list_with_forged_cursor(ann: Person, moment: object) -> None:
    """One that we did not make, such as a time that PostgreSQL cannot hold, does no harm."""
    parts = json.dumps([moment, ann.id]).encode()
    params = {"cursor": base64.urlsafe_b64encode(parts).decode().rstrip("=")}
    answer = await ann.call("GET", "/bookings", params=params)
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_anothers_booking_is_absent(
    shared: Service, ann: Person, ben: Person, method: str
) -> None:
    """The same 404 as for a booking that never was; nothing happens to it."""
    venue = await shared.add_event()
    booking = await booked_by(ann, *venue.seats)
    theirs = problem_of(await ben.call(method, f"/bookings/{booking['id']}"), 404, "not_found")
    absent = problem_of(await ben.call(method, f"/bookings/{uuid4()}"), 404, "not_found")
    assert theirs.pop("request_id") != absent.pop("request_id")
    assert theirs == absent
    assert await shared.booked(venue) == venue.seats


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("wrong", ["1", "x", "%00", "%ff", "..%2f", "-", "9" * 5000])
async def test_not_an_id(ann: Person, method: str, wrong: str) -> None:
    """What is no UUID is refused, not looked for."""
    answer = await ann.call(method, f"/bookings/{wrong}")
    assert answer.status_code in (404, 422)
    problem_of(answer, answer.status_code, answer.json()["code"])


async def test_cancel(shared: Service, ann: Person, ben: Person) -> None:
    """200 cancelled; again 409; its seats are another's to book, and its history stays."""
    venue = await shared.add_event()
    booking = await booked_by(ann, *venue.seats)
    path = f"/bookings/{booking['id']}"
    answer = await ann.call("DELETE", path)
    assert answer.status_code == 200
    cancelled = answer.json()
    changes = {name for name in booking if cancelled[name] != booking[name]}
    assert changes == {"status", "updated_at", "cancelled_at"}
    assert cancelled["status"] == "cancelled"
    assert cancelled["cancelled_at"] == cancelled["updated_at"] > booking["created_at"]
    assert (await ann.call("GET", path)).json() == cancelled
    problem_of(await ann.call("DELETE", path), 409, "already_cancelled")
    assert await shared.booked(venue) == []
    await booked_by(ben, *venue.seats)
    assert await shared.booked(venue) == venue.seats
    assert (await ann.call("GET", path)).json() == cancelled
    rows = await shared.sql(
        "select active from booking_seats where booking_id = $1", UUID(booking["id"])
    )
    assert [row["active"] for row in rows] == [False] * 3


async def test_cancel_ten_times_at_once(shared: Service, ann: Person) -> None:
    """Ten cancels of one booking race: one succeeds."""
    venue = await shared.add_event()
    path = f"/bookings/{(await booked_by(ann, *venue.seats))['id']}"
    answers = await asyncio.gather(*(ann.call("DELETE", path) for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 9}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes == {"already_cancelled"}
    assert await shared.booked(venue) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/bookings"), ("GET", "/bookings"), ("GET", "/bookings/1"),
     ("DELETE", "/bookings/1")],
)  # fmt: skip
async def test_bookings_need_a_login(shared: Service, method: str, path: str) -> None:
    """401 before anything else is looked at."""
    problem_of(await shared.client.request(method, path), 401, "not_authenticated")
