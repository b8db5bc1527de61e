"""The plan of a hall, and the state of every place in it."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.conftest import Person, Service, Venue, problem_of

STATES = {"f": "free", "h": "held", "b": "booked", "x": "blocked"}


async def get(service: Service, venue: Venue, what: str, **headers: str) -> httpx.Response:
    """The event's `layout` or `availability`."""
    return await service.client.get(f"/events/{venue.event_id}/{what}", headers=headers)


async def availability(service: Service, venue: Venue) -> dict[str, Any]:
    """The event's availability, checked for what every one holds."""
    answer = await get(service, venue, "availability")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == {"event_id", "version", "counts", "sections"}
    assert (body["event_id"], answer.headers["etag"]) == (venue.event_id, f'"{body["version"]}"')
    hall = "".join(section["states"] for section in body["sections"])
    assert body["counts"] == counts(hall)
    for section in body["sections"]:
        states = section["states"]
        assert section == {"name": section["name"], "states": states, **counts(states)}
    return body


def counts(states: str) -> dict[str, int]:
    """How many places are in which state."""
    found = Counter(states)
    return {name: found[letter] for letter, name in STATES.items()}


async def shown(service: Service, venue: Venue) -> str:
    """The hall's states, as the availability shows them."""
    body = await availability(service, venue)
    return "".join(section["states"] for section in body["sections"])


async def hold(person: Person, *seat_ids: int) -> str:
    """The path of a hold that succeeds."""
    answer = await person.call("POST", "/holds", json={"seat_ids": list(seat_ids)})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


@pytest.fixture(scope="module")
async def admin(shared: Service) -> Person:
    """Someone who may keep any event's seats off sale."""
    return await shared.sign_up("an-admin", role="admin")


async def block(person: Person, venue: Venue, *seat_ids: int, method: str = "POST") -> None:
    """Take seats off sale, or with DELETE put them back."""
    path = f"/events/{venue.event_id}/blocks"
    answer = await person.call(method, path, json={"seat_ids": list(seat_ids)})
    assert answer.status_code == 204, answer.text


async def add_mixed_event(service: Service) -> tuple[Venue, int]:
    """Rows in an order of their own, an area without numbers between them; a type's id."""
    venue = await service.add_event(
        SectionDraft(
            "Stalls",
            [
                RowDraft("B", ["3", "1", "2a"], accessible=["1"], x=1.5, y=-2),
                RowDraft("A", ["1"]),
            ],
            ticket_type="Dear",
        ),
        SectionDraft("Floor", places=3, ticket_type="Dear"),
        SectionDraft("Balcony", [RowDraft("B", ["1", "2"], x=0, y=10.25)]),
        ticket_types=[TicketTypeDraft("Dear", 4500, "EUR")],
    )
    [row] = await service.sql("select id from ticket_types where event_id = $1", venue.event_id)
    return venue, row["id"]


async def test_layout(shared: Service) -> None:
    """The whole plan to the letter: rows, labels and sections in the order they were given in."""
    venue, dear = await add_mixed_event(shared)
    answer = await get(shared, venue, "layout")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"

    def seat(n: int, number: str, kind: int | None, accessible: bool = False) -> dict[str, Any]:
        names = {"number": number, "ticket_type_id": kind, "accessible": accessible}
        return {"id": venue.seats[n], **names}

    stalls = [
        {"name": "B", "x": 1.5, "y": -2.0,
         "seats": [seat(0, "3", dear), seat(1, "1", dear, True), seat(2, "2a", dear)]},
        {"name": "A", "x": None, "y": None, "seats": [seat(3, "1", dear)]},
    ]  # fmt: skip
    balcony = [
        {"name": "B", "x": 0.0, "y": 10.25, "seats": [seat(7, "1", None), seat(8, "2", None)]}
    ]
    assert answer.json() == {
        "event_id": venue.event_id,
        "sections": [
            {"name": "Stalls", "ticket_type_id": dear, "general_admission": False, "rows": stalls},
            {"name": "Floor", "ticket_type_id": dear, "general_admission": True, "places": 3},
            {"name": "Balcony", "ticket_type_id": None, "general_admission": False,
             "rows": balcony},
        ],
    }  # fmt: skip


async def test_layout_is_for_caches(shared: Service, ann: Person) -> None:
    """A strong ETag that no sale changes, 304 to who has it, and leave to keep it for long."""
    venue, _ = await add_mixed_event(shared)
    first = await get(shared, venue, "layout")
    etag = first.headers["etag"]
    assert etag[0] == etag[-1] == '"'
    assert len(etag) > 2
    directives = first.headers["cache-control"].split(", ")
    [max_age] = [each for each in directives if each.startswith("max-age=")]
    assert int(max_age.removeprefix("max-age=")) >= 3600
    assert (await ann.book(*venue.seats[:5])).status_code == 201
    again = await get(shared, venue, "layout")
    assert (again.content, again.headers["etag"]) == (first.content, etag)
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = await get(shared, venue, "layout", **{"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == first.headers["cache-control"]
    other = await get(shared, await shared.add_event(), "layout", **{"If-None-Match": etag})
    assert other.status_code == 200
    assert other.headers["etag"] != etag


@pytest.mark.parametrize("what", ["layout", "availability"])
async def test_unknown_event(shared: Service, what: str) -> None:
    """404 for what could be an event's id, 422 for what could not."""
    for unknown in (999_999, 2**63 - 1):
        problem_of(await get(shared, Venue(unknown, []), what), 404, "not_found")
    for wrong in ("0", "-1", "x", "1.5", str(2**63)):
        answer = await shared.client.get(f"/events/{wrong}/{what}")
        problem_of(answer, 422, "invalid_request")


async def test_availability_in_the_layouts_order(
    shared: Service, ann: Person, admin: Person
) -> None:
    """One letter for each place, with a number or without, in all and by section."""
    venue, _ = await add_mixed_event(shared)
    body = await availability(shared, venue)
    assert [section["name"] for section in body["sections"]] == ["Stalls", "Floor", "Balcony"]
    assert [section["states"] for section in body["sections"]] == ["ffff", "fff", "ff"]
    assert (await ann.book(venue.seats[1], venue.seats[4])).status_code == 201
    await hold(ann, venue.seats[2], venue.seats[6])
    await block(admin, venue, venue.seats[8])
    body = await availability(shared, venue)
    assert [section["states"] for section in body["sections"]] == ["fbhf", "bfh", "fx"]
    assert body["counts"] == {"free": 4, "held": 2, "booked": 2, "blocked": 1}


async def test_availability_changes_with_every_write(
    shared: Service, ann: Person, admin: Person
) -> None:
    """Who has the version gets 304 until something changes, and then the new states at once."""
    venue = await shared.add_event(seats=4)
    first, second, third, fourth = venue.seats

    async def book() -> None:
        assert (await ann.book(first)).status_code == 201

    async def cancel() -> None:
        [booking] = (await ann.call("GET", "/bookings")).json()["items"]
        assert (await ann.call("DELETE", f"/bookings/{booking['id']}")).status_code == 200

    async def hold_one() -> None:
        held.append(await hold(ann, second))

    async def release() -> None:
        assert (await ann.call("DELETE", held[0])).status_code == 204

    async def block_two() -> None:
        await block(admin, venue, third, fourth)

    async def unblock() -> None:
        await block(admin, venue, third, method="DELETE")

    held: list[str] = []
    writes: list[tuple[Callable[[], Awaitable[None]], str]] = [
        (book, "bfff"), (hold_one, "bhff"), (block_two, "bhxx"), (cancel, "fhxx"),
        (release, "ffxx"), (unblock, "fffx"),
    ]  # fmt: skip
    for write, states in writes:
        known = (await get(shared, venue, "availability")).headers["etag"]
        answer = await get(shared, venue, "availability", **{"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == known
        await write()
        answer = await get(shared, venue, "availability", **{"If-None-Match": known})
        assert answer.status_code == 200
        assert answer.headers["etag"] != known
        assert await shown(shared, venue) == states
