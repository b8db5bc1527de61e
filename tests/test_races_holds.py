"""Many at once at seats that change hands: expiring holds, cancellations, releases."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest

from seatsvc.events import TicketTypeDraft
from tests.conftest import Person, Service, Venue, serve
from tests.test_races import (
    CHANCE,
    PAUSE_S,
    buyers,
    code_of,
    counted,
    crowd,
    decided,
    everywhere,
    together,
)

POLLS_MAX = 500


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """Another service on the same servers."""
    async with serve(shared.settings) as running:
        yield running


async def holds_of(people: Sequence[Person], seats: Sequence[int]) -> list[str]:
    """Each person holds one of the seats."""
    calls = (
        person.call("POST", "/holds", json={"seat_id": seat_id})
        for person, seat_id in zip(people, seats, strict=True)
    )
    return [answer.json()["id"] for answer in await together(calls)]


async def expire(service: Service, holds: Sequence[str], after_ms: Sequence[int]) -> None:
    """Let the holds run only so much longer, or have ended so long ago."""
    await service.sql(
        "with soon as ("
        "  update holds h set expires_at = clock_timestamp() + ms * interval '1 ms'"
        "    from unnest($1::text[], $2::int[]) moved (id, ms) where h.id::text = moved.id"
        "  returning h.id, h.expires_at)"
        " update seats set held_until = soon.expires_at from soon where hold_id = soon.id",
        holds,
        after_ms,
    )


async def until(service: Service, query: str, *args: object) -> None:
    """Return when the database says so."""
    for _ in range(POLLS_MAX):
        if (await service.sql(query, *args))[0][0]:
            return
        await asyncio.sleep(PAUSE_S)
    raise AssertionError(f"never came true: {query}")


async def expiry_against_booking(
    *services: Service, count: int = 16, quantity: int | None = None
) -> None:
    """Holds expire while their owners book them and rivals book the seats: one of each two wins."""
    kind = TicketTypeDraft("All", 100, "EUR", quantity)
    venue = await services[0].add_event(seats=count, ticket_types=[kind])
    owners = await crowd(*services, count=count)
    rivals = await crowd(*reversed(services), count=count)
    holds = await holds_of(owners, venue.seats)
    await expire(services[0], holds, [CHANCE.randrange(-10, 100) for _ in holds])

    async def duel(owner: Person, hold_id: str, rival: Person, seat_id: int) -> str:
        """Who won."""
        book = partial(owner.call, "POST", "/bookings", json={"hold_id": hold_id})
        answers = await together(
            [decided(book), decided(partial(rival.book, seat_id), "seat_held")]
        )
        codes = [code_of(answer) for answer in answers]
        assert codes != ["201", "201"], "sold twice"
        assert codes in (["201", "seat_taken"], ["hold_expired", "201"]), codes
        return owner.id if codes[0] == "201" else rival.id

    winners = await together(map(duel, owners, holds, rivals, venue.seats))
    assert await buyers(services[0], venue) == dict(zip(venue.seats, winners, strict=True))
    await only_bookings_are_left(services[0], venue)
    assert await services[0].free(event_id=venue.event_id) == set()


async def only_bookings_are_left(service: Service, venue: Venue) -> None:
    """Every hold is noticed to have ended, and every count says what the bookings do."""
    await until(
        service,
        "select not exists (select from holds where event_id = $1 and ended_at is null)",
        venue.event_id,
    )
    rows = await service.sql(
        "select id from seats where event_id = $1"
        " and (hold_id is not null or booking_id is distinct from ("
        "     select booking_id from booking_seats where seat_id = seats.id and active))",
        venue.event_id,
    )
    assert rows == [], f"seats and bookings differ: {rows}"
    rows = await service.sql(
        "select taken, (select count(*) from booking_seats"
        "                where active and ticket_type_id = t.id) as booked"
        " from ticket_types t where event_id = $1 and quantity is not null",
        venue.event_id,
    )
    assert all(row["taken"] == row["booked"] for row in rows), f"miscounted: {rows}"


async def hold_against_rivals(*services: Service, count: int = 8) -> None:
    """While a hold runs rivals storm its seat, to book it and to hold it: its owner books it."""
    venue = await services[0].add_event(seats=1)
    owner, *rivals = await crowd(*services, count=count)
    [hold_id] = await holds_of([owner], venue.seats)
    calls = [
        partial(rival.call, "POST", path, json={"seat_id": venue.seats[0]})
        for rival, path in zip(rivals, ["/bookings", "/holds"] * count, strict=False)
    ]
    refusals = await together(map(decided, calls))
    assert counted(refusals) == {"seat_held": len(rivals)}, f"took a hold: {counted(refusals)}"
    book = partial(owner.call, "POST", "/bookings", json={"hold_id": hold_id})
    answer, *others = await together(map(decided, [book, *calls]))
    assert code_of(answer) == "201", f"lost a hold: {answer.text}"
    assert set(counted(others)) <= {"seat_held", "seat_taken"}
    assert await buyers(services[0], venue) == {venue.seats[0]: owner.id}


async def hand_over(*services: Service, count: int = 12) -> None:
    """Seats come free by cancellation, release or expiry while rivals wait: each is sold once."""
    venue = await services[0].add_event(seats=count)
    owners = await crowd(*services, count=count)
    rivals = await crowd(*services, count=2 * count)
    third = count // 3
    bookings = [
        (await owner.book(seat_id)).json()["id"]
        for owner, seat_id in zip(owners[:third], venue.seats, strict=False)
    ]
    holds = await holds_of(owners[third:], venue.seats[third:])
    await expire(services[0], holds[third:], [CHANCE.randrange(100) for _ in holds[third:]])
    won: dict[int, str] = {}

    async def want(rival: Person, seat_id: int) -> None:
        """Until somebody has it."""
        for _ in range(POLLS_MAX):
            if seat_id in won:
                return
            code = code_of(await rival.book(seat_id))
            if code == "201":
                assert seat_id not in won, "sold twice"
                won[seat_id] = rival.id
                return
            assert code in ("busy", "seat_taken", "seat_held"), code
            await asyncio.sleep(CHANCE.uniform(0, PAUSE_S))
        raise AssertionError(f"never came free: {seat_id}")

    async def twice(owner: Person, path: str, codes: set[str]) -> None:
        """Give it back in two calls at once: only one does it."""
        clients = everywhere(owner, [services[0], services[-1]])
        answers = await together(client.call("DELETE", path) for client in clients)
        assert set(map(code_of, answers)) == codes, "given back twice"

    cancels = (
        twice(owner, f"/bookings/{each}", {"200", "already_cancelled"})
        for owner, each in zip(owners, bookings, strict=False)
    )
    releases = (
        twice(owner, f"/holds/{each}", {"204", "not_found"})
        for owner, each in zip(owners[third:], holds[:third], strict=False)
    )
    await together([*map(want, rivals, 2 * venue.seats), *cancels, *releases])
    assert await buyers(services[0], venue) == dict(sorted(won.items()))
    assert list(won.keys() ^ set(venue.seats)) == []
    await only_bookings_are_left(services[0], venue)
    assert await services[-1].free(event_id=venue.event_id) == set(), "shown free"


async def test_expiry_against_booking(shared: Service, other: Service) -> None:
    """A hold's last moment: its owner's booking and a rival's race, at two services."""
    await expiry_against_booking(shared, other)
    await expiry_against_booking(shared, other, quantity=50)


async def test_hold_against_rivals(shared: Service, other: Service) -> None:
    """Bookings and holds race against a hold that runs, and against its being booked."""
    await hold_against_rivals(shared, other)


async def test_booking_against_cancelling_against_expiry(shared: Service, other: Service) -> None:
    """Cancellations, releases and expiries race with buyers who wait for the seats."""
    await hand_over(shared, other)


async def test_extending_against_expiry(shared: Service) -> None:
    """A hold is extended at its last moment: it runs on, or its seat is a rival's; never both."""
    venue = await shared.add_event(seats=12)
    owners, rivals = await crowd(shared, count=12), await crowd(shared, count=12)
    holds = await holds_of(owners, venue.seats)
    await expire(shared, holds, [CHANCE.randrange(-10, 80) for _ in holds])

    async def duel(owner: Person, hold_id: str, rival: Person, seat_id: int) -> None:
        answers = await together(
            [owner.call("POST", f"/holds/{hold_id}/extend"), rival.book(seat_id)]
        )
        codes = list(map(code_of, answers))
        assert codes[0] in ("200", "hold_expired"), codes
        book = partial(owner.call, "POST", "/bookings", json={"hold_id": hold_id})
        booked = code_of(await decided(book))
        assert [booked, codes[1]].count("201") <= 1, "sold twice"
        if codes[0] == "200":
            assert (booked, codes[1]) == ("201", "seat_held"), "lost a hold"

    await together(map(duel, owners, holds, rivals, venue.seats))
    await only_bookings_are_left(shared, venue)


async def test_booking_a_hold_while_releasing_it(shared: Service, other: Service) -> None:
    """Its owner books and releases a hold in one moment: one of the two happens."""
    venue = await shared.add_event(seats=8)
    owners = await crowd(shared, count=8)
    holds = await holds_of(owners, venue.seats)

    async def both(owner: Person, hold_id: str) -> bool:
        here, there = everywhere(owner, [shared, other])
        body = {"hold_id": hold_id}
        calls = here.call("POST", "/bookings", json=body), there.call("DELETE", f"/holds/{hold_id}")
        codes = list(map(code_of, await together(calls)))
        assert codes in (["201", "not_found"], ["hold_expired", "204"]), codes
        return codes[0] == "201"

    booked = await together(map(both, owners, holds))
    expected = [seat_id for seat_id, sold in zip(venue.seats, booked, strict=True) if sold]
    assert list(await buyers(shared, venue)) == expected
    await only_bookings_are_left(shared, venue)
