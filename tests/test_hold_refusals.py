"""Holds that are refused or of no use any more, their limits, and their Idempotency-Keys."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import Person, Service, problem_of
from tests.test_holds import book_hold, held_by, hold, pass_time


@pytest.mark.parametrize("end", ["booked", "released", "expired"])
async def test_an_ended_hold_is_of_no_use(shared: Service, ann: Person, end: str) -> None:
    """409 hold_expired for its booking and its extension, and not a row."""
    venue = await shared.add_event()
    hold_id = await held_by(ann, *venue.seats)
    if end == "booked":
        booking = (await book_hold(ann, hold_id)).json()
        assert (await ann.call("DELETE", f"/bookings/{booking['id']}")).status_code == 200
    elif end == "released":
        assert (await ann.call("DELETE", f"/holds/{hold_id}")).status_code == 204
    else:
        await pass_time(shared, hold_id, 600)
    problem_of(await book_hold(ann, hold_id), 409, "hold_expired")
    problem_of(await ann.call("POST", f"/holds/{hold_id}/extend"), 409, "hold_expired")
    problem_of(await ann.call("GET", f"/holds/{hold_id}"), 404, "not_found")
    assert await shared.booked(venue) == []
    assert await shared.free(event_id=venue.event_id) == set(venue.seats)


async def test_book_anothers_hold(shared: Service, ann: Person, ben: Person) -> None:
    """The same 404 as for a hold that never was."""
    venue = await shared.add_event()
    hold_id = await held_by(ann, *venue.seats)
    theirs = problem_of(await book_hold(ben, hold_id), 404, "not_found")
    absent = problem_of(await book_hold(ben, str(uuid4())), 404, "not_found")
    assert theirs["detail"] == absent["detail"]
    assert (await book_hold(ann, hold_id)).status_code == 201


async def test_holds_count_as_seats(shared: Service, ann: Person, ben: Person) -> None:
    """max_seats_per_user counts held and booked seats alike, and those booked from a hold once."""
    venue = await shared.add_event(seats=9, max_seats_per_user=3)
    hold_id = await held_by(ann, *venue.seats[:2])
    for answer in (await hold(ann, *venue.seats[2:4]), await ann.book(*venue.seats[2:4])):
        problem = problem_of(answer, 409, "user_limit_reached")
        assert problem["allowance"] == {"remaining_seats": 1, "remaining_today": None}
    assert (await book_hold(ann, hold_id)).status_code == 201
    assert (await hold(ann, venue.seats[2])).status_code == 201
    problem = problem_of(await ann.book(venue.seats[3]), 409, "user_limit_reached")
    assert problem["allowance"] == {"remaining_seats": 0, "remaining_today": None}
    assert (await hold(ben, *venue.seats[3:6])).status_code == 201
    assert await shared.booked(venue) == venue.seats[:2]


async def test_a_full_hold_can_be_booked(shared: Service, ann: Person) -> None:
    """A hold of all that the user may have does not stand in its own way."""
    venue = await shared.add_event(max_seats_per_user=3)
    assert (await book_hold(ann, await held_by(ann, *venue.seats))).status_code == 201
    assert await shared.booked(venue) == venue.seats


@pytest.mark.parametrize("end", ["released", "expired"])
async def test_ended_holds_count_no_more(shared: Service, ann: Person, end: str) -> None:
    """What was released or has expired may be held again at once."""
    venue = await shared.add_event(max_seats_per_user=2)
    hold_id = await held_by(ann, *venue.seats[:2])
    problem_of(await hold(ann, venue.seats[2]), 409, "user_limit_reached")
    if end == "released":
        await ann.call("DELETE", f"/holds/{hold_id}")
    else:
        await pass_time(shared, hold_id, 600)
    assert (await hold(ann, *venue.seats[1:])).status_code == 201


async def test_seat_limit_race(shared: Service, ann: Person) -> None:
    """One user holds and books eight seats in eight calls at once, against a limit of two."""
    venue = await shared.add_event(seats=8, max_seats_per_user=2)
    calls = [hold(ann, seat_id) for seat_id in venue.seats[:4]]
    calls += [ann.book(seat_id) for seat_id in venue.seats[4:]]
    answers = await asyncio.gather(*calls)
    assert Counter(answer.status_code for answer in answers) == {201: 2, 409: 6}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes == {"user_limit_reached"}
    free = await shared.free(event_id=venue.event_id)
    assert len(free) == 6


async def test_daily_limit(shared: Service, ann: Person) -> None:
    """Who may book no more today may not hold either, and the hold is booked within the limit."""
    venue = await shared.add_event(max_bookings_per_user_per_day=1)
    hold_id = await held_by(ann, venue.seats[0])
    booking = (await ann.book(venue.seats[1])).json()
    for answer in (await hold(ann, venue.seats[2]), await book_hold(ann, hold_id)):
        problem = problem_of(answer, 409, "daily_limit_reached")
        assert problem["allowance"] == {"remaining_seats": None, "remaining_today": 0}
    await ann.call("DELETE", f"/bookings/{booking['id']}")
    assert (await book_hold(ann, hold_id)).status_code == 201


async def test_key_replays_the_hold(shared: Service, ann: Person) -> None:
    """Byte for byte, after it was extended, released, and its seats were sold to another."""
    venue = await shared.add_event()
    key = uuid4().hex
    first = await hold(ann, *venue.seats, key=key)
    assert first.status_code == 201
    path = f"/holds/{first.json()['id']}"

    async def check_replay() -> None:
        again = await hold(ann, *venue.seats, key=key)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == path

    await check_replay()
    await asyncio.sleep(0.01)
    extended = await ann.call("POST", f"{path}/extend")
    assert extended.json()["expires_at"] > first.json()["expires_at"]
    await check_replay()
    assert (await ann.call("DELETE", path)).status_code == 204
    await check_replay()
    assert await shared.free(event_id=venue.event_id) == set(venue.seats)
    assert (await (await shared.newcomer()).book(*venue.seats)).status_code == 201
    await check_replay()
    rows = await shared.sql("select id from holds where event_id = $1", venue.event_id)
    assert [str(row["id"]) for row in rows] == [first.json()["id"]]


async def test_key_ten_times_at_once(shared: Service, ann: Person) -> None:
    """Ten holds with one key race: one hold, and every 201 is the same."""
    venue = await shared.add_event()
    key = uuid4().hex
    answers = await asyncio.gather(*(hold(ann, *venue.seats, key=key) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] in ("idempotency_in_flight", "busy")
            assert answer.headers["retry-after"] == "1"
    assert len(await shared.sql("select from holds where event_id = $1", venue.event_id)) == 1


async def test_key_of_a_hold_for_something_else(shared: Service, ann: Person, ben: Person) -> None:
    """422 for other seats and for a booking of the same ones; another user's key is another's."""
    venue = await shared.add_event()
    key = uuid4().hex
    made = (await hold(ann, venue.seats[0], key=key)).json()
    others = {"Idempotency-Key": key}
    by_hold = {"json": {"hold_id": made["id"]}, "headers": others}
    for answer in (
        await hold(ann, venue.seats[1], key=key),
        await ann.book(venue.seats[0], key=key),
        await ann.book(venue.seats[1], key=key),
        await ann.call("POST", "/bookings", **by_hold),
    ):
        problem_of(answer, 422, "idempotency_key_reused")
    assert (await hold(ben, venue.seats[1], key=key)).status_code == 201
    assert await shared.booked(venue) == []


async def test_key_of_a_refused_hold(shared: Service, ann: Person, ben: Person) -> None:
    """Failures are not stored: the same key succeeds later."""
    venue = await shared.add_event()
    key = uuid4().hex
    theirs = await held_by(ben, *venue.seats)
    problem_of(await hold(ann, *venue.seats, key=key), 409, "seat_held")
    await ben.call("DELETE", f"/holds/{theirs}")
    answer = await hold(ann, *venue.seats, key=key)
    assert answer.status_code == 201
    assert "idempotency-replayed" not in answer.headers


HOLD_ID = "0b8f2c1e-3c69-4f9e-9d53-0d4c9c1f4d11"
BAD = [
    {}, {"seat_id": 1, "seat_ids": [2]}, {"seat_ids": []}, {"seat_ids": [1, 1]},
    {"seat_ids": list(range(1, 52))}, {"seat_id": 1, "event_id": 1},
    {"seat_id": 1, "event_id": 1, "quantity": 1}, {"seat_ids": [1], "quantity": 1},
    {"event_id": 1}, {"quantity": 1}, {"event_id": 1, "quantity": 0},
    {"event_id": 1, "quantity": 51}, {"event_id": 1, "quantity": "1"},
    {"event_id": "1", "quantity": 1}, {"seat_id": 1, "section": "A"}, {"section": "A"},
    {"seat_ids": [1], "section": "A"}, {"event_id": 1, "section": "A"},
    {"event_id": 1, "quantity": 1, "section": 1}, {"ticket_type_id": 1},
    {"event_id": 1, "quantity": 1, "section": "x" * 201}, {"seat_id": 1, "expires_in": 9},
    {"event_id": 1, "quantity": 1, "section": "\x00"},
]  # fmt: skip
BAD_FOR_BOOKINGS = [
    {"hold_id": HOLD_ID, "ticket_type_id": 1}, {"hold_id": HOLD_ID, "seat_id": 1},
    {"hold_id": HOLD_ID, "seat_ids": [1]}, {"hold_id": HOLD_ID, "event_id": 1, "quantity": 1},
    {"hold_id": HOLD_ID, "section": "A"}, {"hold_id": HOLD_ID, "event_id": 1}, {"hold_id": "x"},
    {"hold_id": 1}, {"hold_id": None},
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "bodies"),
    [("/holds", [*BAD, {"hold_id": HOLD_ID}]), ("/bookings", [*BAD, *BAD_FOR_BOOKINGS])],
    ids=["hold", "booking"],
)
async def test_bad_body(
    shared: Service, ann: Person, path: str, bodies: list[dict[str, Any]]
) -> None:
    """422 for what is no choice, and for more than one; nothing is held or booked."""
    for body in bodies:
        problem = problem_of(await ann.call("POST", path, json=body), 422, "invalid_request")
        assert all(error["at"].startswith("body") for error in problem["errors"]), body
    assert await shared.sql("select from holds where user_id = $1", UUID(ann.id)) == []
    assert await shared.sql("select from bookings where user_id = $1", UUID(ann.id)) == []


async def test_unknown_places(shared: Service, ann: Person) -> None:
    """404 for seats and events that do not exist, 422 for seats of two events."""
    one, two = await shared.add_event(), await shared.add_event()
    problem = problem_of(await hold(ann, one.seats[0], 999_999), 404, "not_found")
    assert problem["seats"] == [{"id": 999_999, "reason": "not_found"}]
    body = {"event_id": 999_999, "quantity": 1}
    problem_of(await ann.call("POST", "/holds", json=body), 404, "not_found")
    problem_of(await hold(ann, one.seats[0], two.seats[0]), 422, "mixed_events")
    assert await shared.free(event_id=one.event_id) == set(one.seats)


async def test_no_sales_no_holds(shared: Service, ann: Person) -> None:
    """A cancelled event, and one that is not on sale, have nothing to hold, or to book from it."""
    for status, sales_end, code in (
        ("cancelled", None, "event_cancelled"),
        ("on_sale", datetime.now(UTC), "sales_closed"),
    ):
        venue = await shared.add_event()
        hold_id = await held_by(ann, venue.seats[0])
        await shared.sql(
            "update events set status = $2, sales_end = $3 where id = $1",
            venue.event_id, status, sales_end,
        )  # fmt: skip
        problem_of(await hold(ann, venue.seats[1]), 409, code)
        problem_of(await book_hold(ann, hold_id), 409, code)
        assert await shared.booked(venue) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/holds"), ("GET", f"/holds/{HOLD_ID}"), ("DELETE", f"/holds/{HOLD_ID}"),
     ("POST", f"/holds/{HOLD_ID}/extend")],
)  # fmt: skip
async def test_holds_need_a_login(shared: Service, method: str, path: str) -> None:
    """401 before anything else is looked at."""
    problem_of(await shared.client.request(method, path), 401, "not_authenticated")
