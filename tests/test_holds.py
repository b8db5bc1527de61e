"""Setting seats aside: making, seeing, extending, releasing, booking and outliving a hold."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.conftest import Person, Service, Venue, problem_of

HOLD_FIELDS = {"id", "event_id", "seats", "adjacent", "expires_at", "expires_in"}


async def hold(person: Person, *seat_ids: int, key: str | None = None) -> httpx.Response:
    """Hold these seats."""
    headers = {"Idempotency-Key": key} if key else {}
    return await person.call("POST", "/holds", json={"seat_ids": list(seat_ids)}, headers=headers)


async def held_by(person: Person, *seat_ids: int) -> str:
    """The id of a hold that succeeds."""
    answer = await hold(person, *seat_ids)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def book_hold(person: Person, hold_id: str) -> httpx.Response:
    """Book what is held."""
    return await person.call("POST", "/bookings", json={"hold_id": hold_id})


async def states(service: Service, venue: Venue) -> str:
    """The hall, as the availability shows it."""
    answer = await service.client.get(f"/events/{venue.event_id}/availability")
    return "".join(section["states"] for section in answer.json()["sections"])


async def pass_time(service: Service, hold_id: str, seconds: int) -> None:
    """Make the hold, and its seats with it, so much older."""
    await service.sql(
        "with h as (update holds set created_at = created_at - $2::interval,"
        " first_expires_at = first_expires_at - $2::interval,"
        " expires_at = expires_at - $2::interval where id = $1 returning *)"
        " update seats set held_until = h.expires_at, changed = pg_current_xact_id()"
        " from h where hold_id = h.id",
        UUID(hold_id), timedelta(seconds=seconds),
    )  # fmt: skip


async def ended(service: Service, hold_id: str) -> None:
    """Return when the database knows that the hold has ended."""
    async with asyncio.timeout(10):
        while True:
            [row] = await service.sql("select ended_at from holds where id = $1", UUID(hold_id))
            if row["ended_at"] is not None:
                return
            await asyncio.sleep(0.05)


async def shown(service: Service, venue: Venue, expected: str) -> None:
    """Return when the availability shows these states."""
    async with asyncio.timeout(10):
        while True:
            if await states(service, venue) == expected:
                return
            await asyncio.sleep(0.05)


async def add_limited_event(service: Service, quantity: int) -> Venue:
    """Three seats of one ticket type."""
    return await service.add_event(
        SectionDraft("A", [RowDraft("1", ["1", "2", "3"])], ticket_type="Standard"),
        ticket_types=[TicketTypeDraft("Standard", 1500, "EUR", quantity)],
    )


async def taken(service: Service, venue: Venue) -> int:
    """How many places of its ticket type are counted as booked or held."""
    [row] = await service.sql("select taken from ticket_types where event_id = $1", venue.event_id)
    return int(row["taken"])


async def test_hold_one_seat(shared: Service, ann: Person) -> None:
    """`seat_id`: 201 with exactly the contract's fields, the rows to it, and no booking."""
    venue = await add_limited_event(shared, 3)
    answer = await ann.call("POST", "/holds", json={"seat_id": venue.seats[1]})
    assert answer.status_code == 201
    made = answer.json()
    assert set(made) == HOLD_FIELDS
    assert answer.headers["location"] == f"/holds/{made['id']}"
    assert "idempotency-replayed" not in answer.headers
    [ticket_type] = await shared.sql(
        "select id from ticket_types where event_id = $1", venue.event_id
    )
    assert made["seats"] == [
        {"id": venue.seats[1], "section": "A", "row": "1", "number": "2",
         "ticket_type_id": ticket_type["id"], "price": 1500},
    ]  # fmt: skip
    assert (made["event_id"], made["adjacent"], made["expires_in"]) == (venue.event_id, True, 600)
    expires_at = datetime.fromisoformat(made["expires_at"])
    assert expires_at.utcoffset() == timedelta()
    assert abs(datetime.now(UTC) + timedelta(minutes=10) - expires_at) < timedelta(minutes=1)
    [row] = await shared.sql("select * from holds where event_id = $1", venue.event_id)
    assert (str(row["id"]), str(row["user_id"])) == (made["id"], ann.id)
    assert (row["expires_at"], row["ended_at"]) == (expires_at, None)
    assert await shared.booked(venue) == []


async def test_hold_seconds_are_the_events(shared: Service, ann: Person) -> None:
    """How long a hold runs is for the organizer to say."""
    venue = await shared.add_event(hold_seconds=5)
    assert (await hold(ann, venue.seats[0])).json()["expires_in"] == 5


async def test_ways_to_choose(shared: Service, ann: Person) -> None:
    """Seats, or a number of places, of a section and a ticket type if the client likes."""
    venue = await shared.add_event(
        SectionDraft("A", [RowDraft("1", ["1", "2", "3"])]),
        SectionDraft("B", [RowDraft("1", ["1", "2", "3"])]),
        ticket_types=[TicketTypeDraft("Full", 2000, "EUR"), TicketTypeDraft("Half", 1000, "EUR")],
    )
    _, half = await shared.sql(
        "select id from ticket_types where event_id = $1 order by id", venue.event_id
    )
    places = {"event_id": venue.event_id, "quantity": 2}
    for more, section, price in (
        ({"section": "B"}, "B", 2000),
        ({"section": "A", "ticket_type_id": half["id"]}, "A", 1000),
    ):
        made = (await ann.call("POST", "/holds", json=places | more)).json()
        assert [(seat["section"], seat["price"]) for seat in made["seats"]] == [
            (section, price)
        ] * 2
        assert made["adjacent"] is True
    one_each = sorted(await shared.free(event_id=venue.event_id))
    made = (await hold(ann, *reversed(one_each))).json()
    assert [seat["id"] for seat in made["seats"]] == one_each
    assert made["adjacent"] is False
    assert await states(shared, venue) == "hhhhhh"


async def test_held_seats_are_gone(shared: Service, ann: Person, ben: Person) -> None:
    """Nobody sees them free, and others' bookings and holds are told which are held."""
    venue = await shared.add_event()
    await held_by(ann, *venue.seats[:2])
    assert await shared.free(event_id=venue.event_id) == {venue.seats[2]}
    assert await states(shared, venue) == "hhf"
    blame = [{"id": seat_id, "reason": "seat_held"} for seat_id in venue.seats[:2]]
    for answer in (await ben.book(*venue.seats), await hold(ben, *venue.seats)):
        assert problem_of(answer, 409, "seat_held")["seats"] == blame
    problem_of(await hold(ann, venue.seats[0]), 409, "seat_held")
    assert await states(shared, venue) == "hhf"
    assert await shared.booked(venue) == []


async def test_one_seat_is_held_once(shared: Service) -> None:
    """Five holds and five bookings of one seat race: one wins."""
    venue = await shared.add_event()
    people = await asyncio.gather(*(shared.newcomer() for _ in range(10)))
    calls = [person.book(venue.seats[0]) for person in people[:5]]
    calls += [hold(person, venue.seats[0]) for person in people[5:]]
    answers = await asyncio.gather(*calls)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"busy", "seat_held", "seat_taken"}
    rows = await shared.sql("select from holds where event_id = $1", venue.event_id)
    assert len(rows) + len(await shared.booked(venue)) == 1


async def test_get_hold(shared: Service, ann: Person) -> None:
    """What the 201 said, but for the seconds that are left."""
    venue = await shared.add_event()
    made = (await hold(ann, *venue.seats)).json()
    await pass_time(shared, made["id"], 100)
    answer = await ann.call("GET", f"/holds/{made['id']}")
    assert answer.status_code == 200
    got = answer.json()
    assert 450 < got.pop("expires_in") <= made.pop("expires_in") - 100
    moved = timedelta(seconds=100)
    assert datetime.fromisoformat(got["expires_at"]) == (
        datetime.fromisoformat(made["expires_at"]) - moved
    )
    assert got | {"expires_at": made["expires_at"]} == made


@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("POST", "/extend"), ("DELETE", "")])
async def test_anothers_hold_is_absent(
    shared: Service, ann: Person, ben: Person, method: str, end: str
) -> None:
    """The same 404 as for a hold that never was; nothing happens to it."""
    hold_id = await held_by(ann, *(await shared.add_event()).seats)
    before = await shared.sql("select * from holds where id = $1", UUID(hold_id))
    theirs = problem_of(await ben.call(method, f"/holds/{hold_id}{end}"), 404, "not_found")
    absent = problem_of(await ben.call(method, f"/holds/{uuid4()}{end}"), 404, "not_found")
    assert theirs.pop("request_id") != absent.pop("request_id")
    assert theirs == absent
    assert await shared.sql("select * from holds where id = $1", UUID(hold_id)) == before


async def test_extend_up_to_three_times(shared: Service, ann: Person, ben: Person) -> None:
    """Each time its full time from now on, until three times of it have passed in all."""
    venue = await shared.add_event(hold_seconds=600)
    path = f"/holds/{await held_by(ann, *venue.seats)}"
    for expected in (600, 600, 1800 - 3 * 590):
        await pass_time(shared, path.removeprefix("/holds/"), 590)
        answer = await ann.call("POST", f"{path}/extend")
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == HOLD_FIELDS
        assert expected - 10 < answer.json()["expires_in"] <= expected
    before = (await ann.call("GET", path)).json()
    problem_of(await ann.call("POST", f"{path}/extend"), 409, "hold_limit")
    assert (await ann.call("GET", path)).json()["expires_at"] == before["expires_at"]
    rows = await shared.sql("select held_until from seats where event_id = $1", venue.event_id)
    assert {row["held_until"] for row in rows} == {datetime.fromisoformat(before["expires_at"])}
    problem_of(await ben.book(venue.seats[0]), 409, "seat_held")


async def test_release(shared: Service, ann: Person, ben: Person) -> None:
    """204, and the seats are free; again 404."""
    venue = await shared.add_event()
    path = f"/holds/{await held_by(ann, *venue.seats)}"
    answer = await ann.call("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await shared.free(event_id=venue.event_id) == set(venue.seats)
    assert await states(shared, venue) == "fff"
    for method in ("DELETE", "GET"):
        problem_of(await ann.call(method, path), 404, "not_found")
    assert (await ben.book(*venue.seats)).status_code == 201


async def test_book_what_is_held(shared: Service, ann: Person) -> None:
    """201 at the prices of the hold, whatever became of them; the hold is gone."""
    venue = await add_limited_event(shared, 3)
    made = (await hold(ann, *venue.seats[:2])).json()
    await shared.sql("update ticket_types set price = 1 where event_id = $1", venue.event_id)
    answer = await book_hold(ann, made["id"])
    assert answer.status_code == 201
    booking = answer.json()
    assert booking["seats"] == made["seats"]
    assert (booking["quantity"], booking["total"], booking["currency"]) == (2, 3000, "EUR")
    problem_of(await ann.call("GET", f"/holds/{made['id']}"), 404, "not_found")
    assert await shared.booked(venue) == venue.seats[:2]
    assert await states(shared, venue) == "bbf"
    assert await taken(shared, venue) == 2
    rows = await shared.sql("select hold_id from seats where event_id = $1", venue.event_id)
    assert [row["hold_id"] for row in rows] == [None] * 3


async def test_book_a_hold_five_times_at_once(shared: Service, ann: Person) -> None:
    """Five bookings of one hold race: one succeeds."""
    venue = await shared.add_event()
    hold_id = await held_by(ann, *venue.seats)
    answers = await asyncio.gather(*(book_hold(ann, hold_id) for _ in range(5)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 4}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes == {"hold_expired"}
    assert await shared.booked(venue) == venue.seats


async def test_expiry(shared: Service, ann: Person, ben: Person) -> None:
    """From that moment others may book; soon all see it, and the ticket type counts down."""
    venue = await add_limited_event(shared, 3)
    hold_id = await held_by(ann, *venue.seats[:2])
    await pass_time(shared, hold_id, 600)
    assert (await ben.book(venue.seats[0])).status_code == 201
    await shown(shared, venue, "bff")
    assert await shared.free(event_id=venue.event_id) == set(venue.seats[1:])
    await ended(shared, hold_id)
    assert await taken(shared, venue) == 1
    problem_of(await ann.call("DELETE", f"/holds/{hold_id}"), 404, "not_found")


async def test_a_rival_takes_a_seat_before_the_expiry_is_noticed(
    shared: Service, ann: Person, ben: Person
) -> None:
    """The ended hold leaves the rivals' seats alone and gives its own count back once."""
    venue = await add_limited_event(shared, 5)
    first = await held_by(ann, *venue.seats[:2])
    # The seats know already, the hold does not: nobody ends it yet.
    await shared.sql(
        "update seats set held_until = now() - interval '1 s', changed = pg_current_xact_id()"
        " where event_id = $1 and hold_id is not null",
        venue.event_id,
    )
    assert (await ben.book(venue.seats[0])).status_code == 201
    second = await held_by(ben, venue.seats[1])
    assert await taken(shared, venue) == 4
    problem_of(await ann.call("POST", f"/holds/{first}/extend"), 409, "hold_expired")
    problem_of(await book_hold(ann, first), 409, "hold_expired")
    await pass_time(shared, first, 600)
    await ended(shared, first)
    assert await taken(shared, venue) == 2
    assert await states(shared, venue) == "bhf"
    assert (await book_hold(ben, second)).status_code == 201
    assert await taken(shared, venue) == 2
