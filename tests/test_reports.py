"""What organizers see of their sales: the list, as CSV too, and the numbers."""

import asyncio
import csv
import io
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from seatsvc.api.reports import wants_csv
from seatsvc.reports import EXPORT_PAGE
from tests.conftest import Person, Service, problem_of
from tests.organizing import create, organizer, seats_of

CSV = {"Accept": "text/csv"}
HALL: dict[str, Any] = {
    "ticket_types": [
        {"name": "Seat", "price": 4500, "currency": "EUR", "quantity": 4},
        {"name": "=Floor", "price": 2500, "currency": "EUR"},
        {"name": "Unsold", "price": 1, "currency": "EUR"},
    ],
    "sections": [
        {"name": "Stalls", "ticket_type": "Seat", "rows": [{"name": "-1", "seats": 4}]},
        {"name": "Floor, standing", "ticket_type": "=Floor", "places": 3},
    ],
}


@pytest.fixture
async def olga(shared: Service) -> Person:
    """An organizer of the shared service."""
    return await organizer(shared)


async def booked(person: Person, *seat_ids: int) -> dict[str, Any]:
    """A booking that succeeds."""
    answer = await person.book(*seat_ids)
    assert answer.status_code == 201, answer.text
    booking: dict[str, Any] = answer.json()
    return booking


async def report_of(person: Person, event: dict[str, Any]) -> dict[str, Any]:
    """The event's numbers."""
    answer = await person.call("GET", f"/events/{event['id']}/report")
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


def lines_of(answer: httpx.Response) -> list[dict[str, str]]:
    """The lines of a CSV answer."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def test_report(shared: Service, olga: Person, ann: Person, ben: Person) -> None:
    """Places by state and revenue, in all, by section and by ticket type; cancelled ones free."""
    event = await create(olga, **HALL)
    seats = await seats_of(shared, event)
    await booked(ann, *seats[:2])
    await booked(ben, seats[4])
    gone = await booked(ben, seats[2])
    await ben.call("DELETE", f"/bookings/{gone['id']}")
    await ann.call("POST", "/holds", json={"seat_id": seats[5]})
    body = {"seat_ids": [seats[3]]}
    blocked = await olga.call("POST", f"/events/{event['id']}/blocks", json=body)
    assert blocked.is_success, blocked.text

    report = await report_of(olga, event)
    kinds = report.pop("ticket_types")
    [hour] = report.pop("bookings_per_hour")
    assert report == {
        "event_id": event["id"], "capacity": 7, "booked": 3, "held": 1, "blocked": 1, "free": 2,
        "revenue": 11500, "currency": "EUR",
        "sections": [
            {"name": "Stalls", "capacity": 4, "booked": 2, "held": 0, "blocked": 1, "free": 1,
             "revenue": 9000},
            {"name": "Floor, standing", "capacity": 3, "booked": 1, "held": 1, "blocked": 0,
             "free": 1, "revenue": 2500},
        ],
    }  # fmt: skip
    assert [tuple(kind.values())[1:] for kind in kinds] == [
        ("Seat", 4, 2, 0, 9000), ("=Floor", None, 1, 1, 2500), ("Unsold", None, 0, 0, 0),
    ]  # fmt: skip
    assert (hour["bookings"], hour["seats"]) == (2, 3)
    start = datetime.fromisoformat(hour["hour"])
    assert hour["hour"].endswith(":00:00Z")
    assert 0 <= (datetime.now(UTC) - start).total_seconds() < 3605


async def test_report_of_an_untouched_event(olga: Person) -> None:
    """Nothing sold, and nothing to pay."""
    report = await report_of(olga, await create(olga, capacity=5))
    assert (report["free"], report["revenue"], report["currency"]) == (5, 0, None)
    assert (report["ticket_types"], report["bookings_per_hour"]) == ([], [])


async def test_report_is_of_one_moment(shared: Service, olga: Person) -> None:
    """Race: while buyers book and cancel, the numbers of each report agree with each other."""
    kinds = [{"name": "Seat", "price": 100, "currency": "EUR", "quantity": 20}]
    sections = [{"name": name, "ticket_type": "Seat", "places": 10} for name in "AB"]
    event = await create(olga, ticket_types=kinds, sections=sections)
    people, done = [await shared.newcomer() for _ in range(8)], asyncio.Event()

    async def keep_buying(person: Person) -> None:
        body = {"event_id": event["id"], "quantity": 2}
        while not done.is_set():
            answer = await person.call("POST", "/bookings", json=body)
            if answer.status_code == 201:
                await person.call("DELETE", f"/bookings/{answer.json()['id']}")

    buyers = [asyncio.create_task(keep_buying(person)) for person in people]
    seen = set()
    for _ in range(30):
        report = await report_of(olga, event)
        [kind], hours = report["ticket_types"], report["bookings_per_hour"]
        assert report["capacity"] == report["booked"] + report["free"] == 20
        assert report["revenue"] == report["booked"] * 100 == kind["revenue"]
        assert report["booked"] == kind["booked"] == sum(hour["seats"] for hour in hours)
        seen.add(report["booked"])
    done.set()
    await asyncio.gather(*buyers)
    assert len(seen) > 1


async def test_list_of_bookings(shared: Service, olga: Person, ann: Person, ben: Person) -> None:
    """Newest first, all buyers', by pages or by status."""
    event = await create(olga, **HALL)
    seats, path = await seats_of(shared, event), f"/events/{event['id']}/bookings"
    made = [await booked(person, seats[n]) for n, person in enumerate((ann, ben, ann))]
    gone = (await ann.call("DELETE", f"/bookings/{made.pop()['id']}")).json()

    answer = await olga.call("GET", path)
    assert answer.json() == {"items": [gone, *reversed(made)], "next_cursor": None}
    first = await olga.call("GET", path, params={"limit": 2})
    assert first.json()["items"] == [gone, made[1]]
    second = await olga.call("GET", first.links["next"]["url"])
    assert second.json() == {"items": [made[0]], "next_cursor": None}
    cancelled = await olga.call("GET", path, params={"status": "cancelled"})
    assert cancelled.json()["items"] == [gone]
    for query in ("cursor=x", "cursor=WyIxIiwiMiJd", "status=held"):
        problem_of(await olga.call("GET", f"{path}?{query}"), 422, "invalid_request")


async def test_bookings_as_csv(shared: Service, olga: Person, ann: Person) -> None:
    """A line for each place; no cell can run as a formula."""
    event = await create(olga, **HALL)
    seats, path = await seats_of(shared, event), f"/events/{event['id']}/bookings"
    booking = await booked(ann, seats[0], seats[4])
    gone = await booked(ann, seats[1])
    gone = (await ann.call("DELETE", f"/bookings/{gone['id']}")).json()
    answer = await olga.call("GET", path, headers=CSV)
    name = f'attachment; filename="event-{event["id"]}-bookings.csv"'
    assert answer.headers["content-disposition"] == name
    common = {"booking_id": booking["id"], "user_id": ann.id, "status": "active", "currency": "EUR"}
    common |= {"created_at": booking["created_at"], "cancelled_at": ""}
    last, numbered, standing = lines_of(answer)
    assert numbered == common | {
        "section": "Stalls", "row": "'-1", "number": "1", "ticket_type": "Seat", "price": "4500",
    }  # fmt: skip
    assert standing == common | {
        "section": "Floor, standing", "row": "", "number": "", "ticket_type": "'=Floor",
        "price": "2500",
    }  # fmt: skip
    assert (last["status"], last["cancelled_at"]) == ("cancelled", gone["cancelled_at"])
    active = await olga.call("GET", path, headers=CSV, params={"status": "active"})
    assert lines_of(active) == [numbered, standing]


async def test_csv_of_nothing(shared: Service, olga: Person, ann: Person) -> None:
    """The names of the columns; and an error is an error, not a file."""
    path = f"/events/{(await create(olga))['id']}/bookings"
    answer = await olga.call("GET", path, headers=CSV)
    assert lines_of(answer) == []
    assert answer.text.startswith("booking_id,user_id,status,")
    problem_of(await ann.call("GET", path, headers=CSV), 404, "not_found")


async def test_csv_of_many_pages(shared: Service, olga: Person, ann: Person) -> None:
    """Every booking once, although they are fetched a page at a time; a slow reader and one that
    hangs up keep no connection."""
    event = await create(olga, capacity=EXPORT_PAGE * 3)
    seats, path = await seats_of(shared, event), f"/events/{event['id']}/bookings"
    await shared.sql(
        """
        with sold as (
            insert into bookings (id, event_id, user_id, quantity, total, created_at)
            select gen_random_uuid(), $1, $2::uuid, 1, 0, now() + n / 3 * interval '1 second'
              from generate_series(1, $3::int) n
            returning id
        )
        insert into booking_seats (booking_id, seat_id, price)
        select id, $4::bigint - 1 + row_number() over (), 0 from sold
        """,
        event["id"], ann.id, len(seats), seats[0],
    )  # fmt: skip
    lines = lines_of(await olga.call("GET", path, headers=CSV))
    assert len({line["booking_id"] for line in lines}) == len(lines) == len(seats)
    assert [line["created_at"] for line in lines] == sorted(
        (line["created_at"] for line in lines), reverse=True
    )
    headers = olga.headers | CSV
    async with shared.client.stream("GET", path, headers=headers) as answer:
        await anext(answer.aiter_bytes())
    await asyncio.sleep(0.2)
    usage = shared.state["database"].usage()
    assert usage["open"] == usage["idle"]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/csv", True), ("Text/CSV; charset=utf-8", True), ("text/csv, */*;q=0.1", True),
        ("application/json;q=0.5, text/csv", True), ("", False), ("*/*", False),
        ("application/json", False), ("text/csv;q=0", False), ("text/csv;q=x", False),
        ("application/json, text/csv;q=0.9", False), ("text/html, */*", False),
    ],
)  # fmt: skip
def test_accept(accept: str, wanted: bool) -> None:
    """CSV for who prefers it."""
    assert wants_csv(accept) == wanted


async def test_report_of_no_event(olga: Person) -> None:
    """404, as with another's."""
    problem_of(await olga.call("GET", f"/events/{2**62}/report"), 404, "not_found")
