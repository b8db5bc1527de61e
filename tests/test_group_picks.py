"""Places that the service picks: `event_id` and `quantity`, for bookings and for holds."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest

from seatsvc import local
from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from seatsvc.locks import LOCK, Claim
from tests.conftest import Person, Service, Venue, make_settings, problem_of, serve

PATHS = pytest.mark.parametrize("path", ["/bookings", "/holds"])
FOUR = RowDraft("1", ["1", "2", "3", "4"])


async def pick(
    person: Person, venue: Venue, quantity: int, path: str = "/bookings", **more: Any
) -> httpx.Response:
    """Book, or hold, so many places."""
    key = more.pop("key", None)
    body = {"event_id": venue.event_id, "quantity": quantity, **more}
    headers = {"Idempotency-Key": key} if key else {}
    return await person.call("POST", path, json=body, headers=headers)


def seat_ids(answer: httpx.Response) -> list[int]:
    """The places of a booking or a hold."""
    assert answer.status_code == 201, answer.text
    return [seat["id"] for seat in answer.json()["seats"]]


async def type_ids(service: Service, venue: Venue) -> dict[str, int]:
    """The event's ticket types."""
    rows = await service.sql(
        "select name, id from ticket_types where event_id = $1", venue.event_id
    )
    return {row["name"]: row["id"] for row in rows}


@PATHS
async def test_a_group_sits_together(shared: Service, ann: Person, ben: Person, path: str) -> None:
    """In one stretch of one row, and the answer says so."""
    rows = [FOUR, RowDraft("2", list("123456"))]
    venue = await shared.add_event(SectionDraft("A", rows))
    assert (await ben.book(venue.seats[1])).status_code == 201
    answer = await pick(ann, venue, 5, path)
    ids = seat_ids(answer)
    assert ids in (venue.seats[4:9], venue.seats[5:10])
    assert answer.json()["adjacent"] is True
    assert {seat["row"] for seat in answer.json()["seats"]} == {"2"}
    assert await shared.free(event_id=venue.event_id) == {*venue.seats} - {*ids, venue.seats[1]}


@PATHS
async def test_a_group_that_cannot_sit_together(
    shared: Service, ann: Person, ben: Person, path: str
) -> None:
    """Gets places apart, across rows and sections if need be, and the answer says so."""
    venue = await shared.add_event(SectionDraft("A", [FOUR]), SectionDraft("B", [FOUR]))
    assert (await ben.book(*venue.seats[1:7])).status_code == 201
    answer = await pick(ann, venue, 2, path)
    assert seat_ids(answer) == [venue.seats[0], venue.seats[7]]
    assert answer.json()["adjacent"] is False
    sale = (await ann.call("GET", answer.headers["location"])).json()
    assert (sale["seats"], sale["adjacent"]) == (answer.json()["seats"], False)


async def test_general_admission(shared: Service, ann: Person) -> None:
    """Places without numbers, of the section that was asked for, at its price."""
    venue = await shared.add_event(
        SectionDraft("Seats", [FOUR]),
        SectionDraft("Floor", places=30, ticket_type="Floor"),
        ticket_types=[TicketTypeDraft("Floor", 2500, "EUR")],
    )
    answer = await pick(ann, venue, 30, section="Floor")
    assert seat_ids(answer) == venue.seats[4:]
    booking = answer.json()
    assert {(seat["row"], seat["number"]) for seat in booking["seats"]} == {(None, None)}
    assert (booking["total"], booking["currency"]) == (75_000, "EUR")
    assert await shared.booked(venue) == venue.seats[4:]
    problem_of(await pick(ann, venue, 1, section="Floor"), 409, "sold_out")
    assert await shared.free(event_id=venue.event_id) == set(venue.seats[:4])


@PATHS
async def test_too_few_are_left(shared: Service, ann: Person, path: str) -> None:
    """409 sold_out, all or nothing; what is left can still be had."""
    venue = await shared.add_event(seats=3)
    problem_of(await pick(ann, venue, 4, path), 409, "sold_out")
    assert await shared.free(event_id=venue.event_id) == set(venue.seats)
    assert seat_ids(await pick(ann, venue, 3, path)) == venue.seats
    problem_of(await pick(ann, venue, 1, path), 409, "sold_out")


@PATHS
async def test_freed_places_are_picked_again(shared: Service, ann: Person, path: str) -> None:
    """Right after a cancellation or a release they can be had, again and again."""
    venue = await shared.add_event(seats=2)
    for _ in range(4):
        answer = await pick(ann, venue, 2, path)
        assert seat_ids(answer) == venue.seats
        problem_of(await pick(ann, venue, 1, path), 409, "sold_out")
        assert (await ann.call("DELETE", answer.headers["location"])).is_success


@PATHS
async def test_section_and_ticket_type(shared: Service, ann: Person, path: str) -> None:
    """Only places of that section, and only where that type is sold, are picked."""
    kinds = {"A": "Dear", "B": "Cheap", "C": None, "D": "Cheap"}
    venue = await shared.add_event(
        *(SectionDraft(name, [FOUR], ticket_type=kind) for name, kind in kinds.items()),
        ticket_types=[TicketTypeDraft("Dear", 4500, "EUR"), TicketTypeDraft("Cheap", 3000, "EUR")],
    )
    cheap = (await type_ids(shared, venue))["Cheap"]
    assert set(seat_ids(await pick(ann, venue, 3, path, section="B"))) < set(venue.seats[4:8])
    dear_is_not_sold_there = await pick(ann, venue, 1, path, section="A", ticket_type_id=cheap)
    assert dear_is_not_sold_there.status_code in (409, 422)
    for _ in range(3):
        answer = await pick(ann, venue, 3, path, ticket_type_id=cheap)
        assert not set(seat_ids(answer)) & set(venue.seats[:4])
        assert {seat["price"] for seat in answer.json()["seats"]} == {3000}
    assert await shared.free(event_id=venue.event_id) == set(venue.seats[:4])
    problem_of(await pick(ann, venue, 1, path, ticket_type_id=cheap), 409, "sold_out")


@PATHS
async def test_chosen_type_is_sold_out(shared: Service, ann: Person, path: str) -> None:
    """409 ticket_type_sold_out while there are places enough, and not a place is taken."""
    venue = await shared.add_event(
        SectionDraft("A", [FOUR]),
        SectionDraft("B", places=6),
        ticket_types=[TicketTypeDraft("Few", 1000, "EUR", 2), TicketTypeDraft("Many", 1, "EUR")],
    )
    few = (await type_ids(shared, venue))["Few"]
    problem_of(await pick(ann, venue, 3, path, ticket_type_id=few), 409, "ticket_type_sold_out")
    assert len(seat_ids(await pick(ann, venue, 2, path, ticket_type_id=few))) == 2
    problem_of(await pick(ann, venue, 1, path, ticket_type_id=few), 409, "ticket_type_sold_out")
    assert len(seat_ids(await pick(ann, venue, 3, path))) == 3
    assert len(await shared.free(event_id=venue.event_id)) == 5


@PATHS
async def test_a_sold_out_type_is_passed_over(shared: Service, ann: Person, path: str) -> None:
    """Who asks for any places gets some, as long as those of some type can be sold."""
    venue = await shared.add_event(
        SectionDraft("A", [FOUR], ticket_type="None"),
        SectionDraft("B", [FOUR], ticket_type="Many"),
        ticket_types=[TicketTypeDraft("None", 1000, "EUR", 0), TicketTypeDraft("Many", 1, "EUR")],
    )
    found = {seat_id for _ in range(4) for seat_id in seat_ids(await pick(ann, venue, 1, path))}
    assert found == set(venue.seats[4:])


@PATHS
async def test_limits_count_picked_places(
    shared: Service, ann: Person, ben: Person, path: str
) -> None:
    """409 with the allowance; and the places that one may not have, another gets at once."""
    venue = await shared.add_event(seats=3, max_seats_per_user=2)
    assert (await ann.book(venue.seats[0])).status_code == 201
    problem = problem_of(await pick(ann, venue, 2, path), 409, "user_limit_reached")
    assert problem["allowance"] == {"remaining_seats": 1, "remaining_today": None}
    assert seat_ids(await pick(ben, venue, 2, path)) == venue.seats[1:]


async def test_a_busy_place_hides_no_other(shared: Service, ann: Person, ben: Person) -> None:
    """A group for which one place is missing gets `busy`; the next buyer gets the free one."""
    venue = await shared.add_event(seats=2)
    someone = Claim(venue.event_id, (venue.seats[0],))
    await shared.state["seats"].counts(venue.event_id)
    await shared.state["redis"].run(LOCK, someone.keys, 60_000, f"{someone.token} 1")
    answer = await pick(ann, venue, 2)
    problem_of(answer, 409, "busy")
    assert answer.headers["retry-after"] == "1"
    assert seat_ids(await pick(ben, venue, 1)) == [venue.seats[1]]


@PATHS
async def test_key_replays_what_was_picked(shared: Service, ann: Person, path: str) -> None:
    """The same places byte for byte, though others would be picked now, or none are left."""
    venue = await shared.add_event(seats=6)
    key = uuid4().hex
    first = await pick(ann, venue, 2, path, key=key)
    again = await pick(ann, venue, 2, path, key=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert len(await shared.free(event_id=venue.event_id)) == 4
    assert len(seat_ids(await pick(ann, venue, 4, path))) == 4
    again = await pick(ann, venue, 2, path, key=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    problem_of(await pick(ann, venue, 1, path, key=key), 422, "idempotency_key_reused")
    problem_of(await pick(ann, venue, 2, path, key=uuid4().hex), 409, "sold_out")


@PATHS
async def test_unknown_event(ann: Person, path: str) -> None:
    """404; and more than 50 places at once are 422."""
    nowhere = Venue(999_999, [])
    problem_of(await pick(ann, nowhere, 1, path), 404, "not_found")
    problem = problem_of(await pick(ann, nowhere, 51, path), 422, "invalid_request")
    assert [error["at"] for error in problem["errors"]] == ["body.quantity"]


async def test_fifty_places(shared: Service, ann: Person) -> None:
    """The most that one order may have."""
    venue = await shared.add_event(seats=50)
    assert seat_ids(await pick(ann, venue, 50)) == venue.seats


async def test_no_sales(shared: Service, ann: Person) -> None:
    """A cancelled event says so, even when it is sold out."""
    venue = await shared.add_event(seats=2)
    assert (await ann.book(venue.seats[0])).status_code == 201
    await shared.sql("update events set status = 'cancelled' where id = $1", venue.event_id)
    for quantity in (1, 2):
        problem_of(await pick(ann, venue, quantity), 409, "event_cancelled")


async def check_rush(
    people: list[Person], venue: Venue, quantity: int, winners: int
) -> list[httpx.Response]:
    """All want so many places at once: these many get them, no place twice."""
    calls = (
        pick(person, venue, quantity, "/holds" if n % 2 else "/bookings")
        for n, person in enumerate(people)
    )
    answers = await asyncio.gather(*calls)
    won = [answer for answer in answers if answer.status_code == 201]
    codes = Counter(answer.json()["code"] for answer in answers if answer.status_code != 201)
    assert len(won) == winners, codes
    assert set(codes) <= {"sold_out", "busy"}
    sold = [seat_id for answer in won for seat_id in seat_ids(answer)]
    assert len(set(sold)) == len(sold) == winners * quantity
    return won


@pytest.mark.parametrize("worker_count", [1, 2])
async def test_twenty_buyers_at_once(
    servers: local.Servers, service: Service, worker_count: int
) -> None:
    """Twenty race for two of 200 seats each, on one worker or two: all sit side by side."""
    rows = [RowDraft(str(n), [str(label) for label in range(20)]) for n in range(10)]
    venue = await service.add_event(SectionDraft("A", rows))
    people = await service.sign_up_many(20)
    async with serve(make_settings(servers, "test")) as other:
        clients = [service.client, other.client][:worker_count]
        spread = [
            Person(clients[n % worker_count], person.headers, person.id, person.username)
            for n, person in enumerate(people)
        ]
        won = await check_rush(spread, venue, 2, winners=20)
    assert all(answer.json()["adjacent"] for answer in won)
    assert len(await service.free(event_id=venue.event_id)) == 160


async def test_rush_for_the_last_places(shared: Service) -> None:
    """Twelve race for five pairs, with numbers and without: the places run out to the last."""
    people = await asyncio.gather(*(shared.newcomer() for _ in range(12)))
    for hall in (
        SectionDraft("A", [RowDraft("1", list("0123456789"))]),
        SectionDraft("A", places=10),
    ):
        venue = await shared.add_event(hall)
        await check_rush(people, venue, 2, winners=5)
        assert await shared.free(event_id=venue.event_id) == set()
        problem_of(await pick(people[0], venue, 1), 409, "sold_out")
