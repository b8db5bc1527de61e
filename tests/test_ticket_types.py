"""What seats cost: whose ticket type counts, how many of a type there are, and the total."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.conftest import Person, Service, Venue, problem_of


@dataclass(frozen=True)
class Offer(Venue):
    """An event and the ids of its ticket types, by name."""

    types: dict[str, int]


async def add_offer(
    service: Service, *types: TicketTypeDraft, sections: dict[str, str | None]
) -> Offer:
    """An event with these types, and a row of four seats for each section and its type."""
    rows = [RowDraft("1", ["1", "2", "3", "4"])]
    drafts = [SectionDraft(name, rows, ticket_type=kind) for name, kind in sections.items()]
    venue = await service.add_event(*drafts, ticket_types=list(types))
    found = await service.sql(
        "select id, name from ticket_types where event_id = $1", venue.event_id
    )
    return Offer(venue.event_id, venue.seats, {row["name"]: row["id"] for row in found})


async def taken(service: Service, offer: Offer) -> dict[str, int]:
    """How many of each type with a quantity are counted as booked or held."""
    rows = await service.sql(
        "select name, taken from ticket_types where event_id = $1 and quantity is not null",
        offer.event_id,
    )
    return {row["name"]: row["taken"] for row in rows}


async def made(person: Person, path: str, *seat_ids: int, **more: Any) -> dict[str, Any]:
    """A booking or a hold that succeeds."""
    answer = await person.call("POST", path, json={"seat_ids": list(seat_ids), **more})
    assert answer.status_code == 201, answer.text
    sale: dict[str, Any] = answer.json()
    return sale


def sold_at(sale: dict[str, Any]) -> list[tuple[int, int]]:
    """Each seat's ticket type and price."""
    return [(seat["ticket_type_id"], seat["price"]) for seat in sale["seats"]]


DEAR = TicketTypeDraft("Dear", 4500, "CHF")
CHEAP = TicketTypeDraft("Cheap", 3000, "CHF")
PATHS = pytest.mark.parametrize("path", ["/bookings", "/holds"])


@PATHS
async def test_a_seats_own_type(shared: Service, ann: Person, path: str) -> None:
    """Each seat has its section's type and price, whichever comes first, named or not."""
    offer = await add_offer(shared, CHEAP, DEAR, sections={"A": "Dear", "B": "Cheap"})
    dear, cheap = (offer.types["Dear"], 4500), (offer.types["Cheap"], 3000)
    assert sold_at(await made(ann, path, *offer.seats[3:5])) == [dear, cheap]
    named = await made(ann, path, offer.seats[0], ticket_type_id=offer.types["Dear"])
    assert sold_at(named) == [dear]
    assert await taken(shared, offer) == {}


@PATHS
async def test_choose_where_the_section_has_none(shared: Service, ann: Person, path: str) -> None:
    """The buyer's choice, or else the event's first."""
    offer = await add_offer(shared, DEAR, CHEAP, sections={"A": None})
    dear, cheap = offer.types["Dear"], offer.types["Cheap"]
    chosen = await made(ann, path, *offer.seats[:2], ticket_type_id=cheap)
    assert sold_at(chosen) == [(cheap, 3000)] * 2
    assert sold_at(await made(ann, path, offer.seats[2])) == [(dear, 4500)]


@PATHS
async def test_the_first_type_with_room(shared: Service, ann: Person, path: str) -> None:
    """Without a choice, a type that has too few left is passed over, for all seats alike."""
    few = TicketTypeDraft("Few", 1000, "CHF", 3)
    offer = await add_offer(shared, few, DEAR, sections={"A": None, "B": None})
    first, second = (offer.types["Few"], 1000), (offer.types["Dear"], 4500)
    assert sold_at(await made(ann, path, *offer.seats[:2])) == [first] * 2
    assert sold_at(await made(ann, path, *offer.seats[2:4])) == [second] * 2
    assert sold_at(await made(ann, path, offer.seats[4])) == [first]
    assert sold_at(await made(ann, path, offer.seats[5])) == [second]
    assert await taken(shared, offer) == {"Few": 3}


async def test_no_types_at_all(shared: Service, ann: Person) -> None:
    """Free of charge, in no currency; there is no type to choose."""
    offer = await add_offer(shared, sections={"A": None})
    booking = await made(ann, "/bookings", *offer.seats[:2])
    assert [(seat["ticket_type_id"], seat["price"]) for seat in booking["seats"]] == [(None, 0)] * 2
    assert (booking["total"], booking["currency"]) == (0, None)
    answer = await ann.book(offer.seats[2], ticket_type_id=999_999)
    problem_of(answer, 422, "ticket_type_not_allowed")


@PATHS
async def test_a_type_that_is_not_sold_there(shared: Service, ann: Person, path: str) -> None:
    """422 that blames the seats: another section's type, another event's, and one of nowhere."""
    offer = await add_offer(shared, DEAR, CHEAP, sections={"A": "Dear", "B": "Cheap", "C": None})
    other = await add_offer(shared, DEAR, sections={"A": "Dear"})
    cheap = offer.types["Cheap"]
    for wrong, seats, blamed in (
        (cheap, offer.seats[0:1], offer.seats[0:1]),
        (cheap, offer.seats[3:9], offer.seats[3:4]),
        (other.types["Dear"], offer.seats[0:1], offer.seats[0:1]),
        (other.types["Dear"], offer.seats[8:9], offer.seats[8:9]),
        (999_999, offer.seats[8:9], offer.seats[8:9]),
    ):
        body = {"seat_ids": seats, "ticket_type_id": wrong}
        answer = await ann.call("POST", path, json=body)
        problem = problem_of(answer, 422, "ticket_type_not_allowed")
        reason = "ticket_type_not_allowed"
        assert problem["seats"] == [{"id": seat_id, "reason": reason} for seat_id in blamed]
    assert await shared.free(event_id=offer.event_id) == set(offer.seats)


@PATHS
async def test_too_few_of_a_type(shared: Service, ann: Person, ben: Person, path: str) -> None:
    """Bookings and holds count alike; beyond the quantity nothing is sold, in part neither."""
    few = TicketTypeDraft("Few", 1000, "CHF", 5)
    offer = await add_offer(shared, few, DEAR, sections={"A": "Few", "B": "Few", "C": "Dear"})
    await made(ann, "/bookings", *offer.seats[:2])
    await made(ben, "/holds", *offer.seats[2:4])
    assert await taken(shared, offer) == {"Few": 4}
    for seats in (offer.seats[4:6], offer.seats[6:9]):
        answer = await ann.call("POST", path, json={"seat_ids": seats})
        problem_of(answer, 409, "ticket_type_sold_out")
    assert await taken(shared, offer) == {"Few": 4}
    assert sold_at(await made(ann, path, *offer.seats[7:9]))[0] == (offer.types["Few"], 1000)
    assert await taken(shared, offer) == {"Few": 5}
    assert await shared.free(event_id=offer.event_id) == {*offer.seats[4:7], *offer.seats[9:]}


async def test_a_chosen_type_is_sold_out(shared: Service, ann: Person) -> None:
    """Where the buyer chose the type, no other one takes its place."""
    few = TicketTypeDraft("Few", 1000, "CHF", 1)
    offer = await add_offer(shared, DEAR, few, sections={"A": None})
    answer = await ann.book(*offer.seats[:2], ticket_type_id=offer.types["Few"])
    problem_of(answer, 409, "ticket_type_sold_out")
    dear = (offer.types["Dear"], 4500)
    assert sold_at(await made(ann, "/bookings", *offer.seats[:2])) == [dear] * 2
    assert await taken(shared, offer) == {"Few": 0}


@pytest.mark.parametrize("end", ["cancelled", "released", "expired", "booked and cancelled"])
async def test_tickets_come_back(shared: Service, ann: Person, ben: Person, end: str) -> None:
    """What was cancelled or released, or has expired, can be sold again, once."""
    few = TicketTypeDraft("Few", 1000, "CHF", 2)
    offer = await add_offer(shared, few, sections={"A": "Few"})
    path = "/bookings" if end == "cancelled" else "/holds"
    sale = await made(ann, path, *offer.seats[:2])
    problem_of(await ben.book(offer.seats[2]), 409, "ticket_type_sold_out")
    if end == "expired":
        await shared.sql("update holds set expires_at = now() where id = $1", UUID(sale["id"]))
        async with asyncio.timeout(10):
            while (await taken(shared, offer))["Few"]:
                pass
    else:
        if end == "booked and cancelled":
            path = "/bookings"
            sale = (await ann.call("POST", path, json={"hold_id": sale["id"]})).json()
            assert await taken(shared, offer) == {"Few": 2}
        assert (await ann.call("DELETE", f"{path}/{sale['id']}")).is_success
        assert (await ann.call("DELETE", f"{path}/{sale['id']}")).is_error
    assert await taken(shared, offer) == {"Few": 0}
    await made(ben, "/bookings", *offer.seats[2:4])
    assert await taken(shared, offer) == {"Few": 2}


async def test_race_for_the_last_tickets(shared: Service) -> None:
    """Eight buyers and eight holders race for three tickets, on seats of their own: three win."""
    few = TicketTypeDraft("Few", 1000, "CHF", 3)
    offer = await add_offer(shared, few, sections={name: "Few" for name in "ABCD"})
    people = await asyncio.gather(*(shared.newcomer() for _ in range(16)))
    calls = (
        person.call("POST", "/bookings" if n % 2 else "/holds", json={"seat_id": offer.seats[n]})
        for n, person in enumerate(people)
    )
    answers = await asyncio.gather(*calls)
    assert Counter(answer.status_code for answer in answers) == {201: 3, 409: 13}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes == {"ticket_type_sold_out"}
    assert await taken(shared, offer) == {"Few": 3}
    assert len(await shared.free(event_id=offer.event_id)) == 13


async def test_total_and_currency(shared: Service, ann: Person) -> None:
    """The sum in minor units, from a hold as well; a later price is for later bookings."""
    offer = await add_offer(shared, DEAR, CHEAP, sections={"A": "Dear", "B": "Cheap"})
    held = await made(ann, "/holds", *offer.seats[2:5])
    booking = await made(ann, "/bookings", *offer.seats[:2], offer.seats[7])
    await shared.sql(
        "update ticket_types set price = price + 1 where event_id = $1", offer.event_id
    )
    from_hold = (await ann.call("POST", "/bookings", json={"hold_id": held["id"]})).json()
    later = await made(ann, "/bookings", *offer.seats[5:7])
    totals = [(sale["quantity"], sale["total"]) for sale in (booking, from_hold, later)]
    assert totals == [(3, 12000), (3, 12000), (2, 6002)]
    assert {sale["currency"] for sale in (booking, from_hold, later)} == {"CHF"}
    rows = await shared.sql(
        "select quantity, total from bookings where event_id = $1 order by created_at",
        offer.event_id,
    )
    assert [tuple(row) for row in rows] == totals
    assert (await ann.call("GET", f"/bookings/{booking['id']}")).json() == booking


async def test_the_largest_price(shared: Service, ann: Person) -> None:
    """A total beyond 32 bits is exact."""
    gold = TicketTypeDraft("Gold", 2**53 - 1, "JPY")
    offer = await add_offer(shared, gold, sections={"A": "Gold"})
    booking = await made(ann, "/bookings", *offer.seats)
    assert (booking["total"], booking["currency"]) == (4 * (2**53 - 1), "JPY")
