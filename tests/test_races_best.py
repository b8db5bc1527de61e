"""Buyers of a number of places, whichever: the last ones are sold, once each, and none stays."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import cycle

import httpx
import pytest

from seatsvc.events import RowDraft, SectionDraft
from tests.conftest import Person, Service, Venue, serve
from tests.test_races import buyers, code_of, counted, crowd, decided, together

FIELD = SectionDraft("Field", places=12)
STALLS = SectionDraft("Stalls", [RowDraft(name, list("123456")) for name in "AB"])


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """Another service on the same servers."""
    async with serve(shared.settings) as running:
        yield running


async def last_places(
    *services: Service,
    sections: Sequence[SectionDraft],
    quantities: Sequence[int],
    count: int,
    what: Sequence[str] = ("bookings",),
) -> None:
    """More buyers than places: all places are sold that anybody's quantity would still fit."""
    venue = await services[0].add_event(*sections)
    people = await crowd(*services, count=count)

    async def buy(person: Person, quantity: int, path: str) -> tuple[int, httpx.Response]:
        body = {"event_id": venue.event_id, "quantity": quantity}
        return quantity, await decided(partial(person.call, "POST", f"/{path}", json=body))

    results = await together(map(buy, people, cycle(quantities), cycle(what)))
    assert set(counted(answer for _, answer in results)) <= {"201", "sold_out"}
    sold: list[int] = []
    for quantity, answer in results:
        if code_of(answer) == "201":
            got = [seat["id"] for seat in answer.json()["seats"]]
            assert len(got) == quantity, f"not all of it: {got}"
            sold += got
    assert len(set(sold)) == len(sold), f"sold twice: {sold}"
    assert set(sold) <= set(venue.seats)
    await check_rows(services[0], venue, sold)
    refused = [quantity for quantity, answer in results if code_of(answer) == "sold_out"]
    left = len(venue.seats) - len(sold)
    assert refused, "nobody came too late"
    assert left < min(refused), f"sold out with {left} places left"
    for service in services:
        assert len(await service.free(event_id=venue.event_id)) == left


async def check_rows(service: Service, venue: Venue, sold: Sequence[int]) -> None:
    """The places sold are those that the rows have, booked or held."""
    booked = await buyers(service, venue)
    held = await service.sql(
        "select id from seats where event_id = $1 and held_until > now()", venue.event_id
    )
    assert sorted([*booked, *(row["id"] for row in held)]) == sorted(sold)


@pytest.mark.parametrize("quantities", [[1], [3, 1, 2, 4]], ids=["singles", "groups"])
@pytest.mark.parametrize(
    "sections", [[FIELD], [STALLS], [STALLS, FIELD]], ids=["general", "numbered", "mixed"]
)
async def test_last_places(
    shared: Service, other: Service, sections: list[SectionDraft], quantities: list[int]
) -> None:
    """Buyers at two services race for the last places of a hall."""
    count = 40 if quantities == [1] else 20
    await last_places(shared, other, sections=sections, quantities=quantities, count=count)


async def test_holds_and_bookings_of_the_last_places(shared: Service, other: Service) -> None:
    """Some hold and some book, whichever places are left."""
    what = ["holds", "bookings"]
    await last_places(shared, other, sections=[STALLS], quantities=[1, 1, 2], count=24, what=what)
