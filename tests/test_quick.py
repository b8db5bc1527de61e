"""The quick way and the long way: which calls take which, and that they answer alike."""

import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from seatsvc.api import quick
from seatsvc.errors import SeatHeld, SeatTaken
from seatsvc.orders import Order
from tests.conftest import Person, Service, problem_of

LONG = {"Content-Type": "application/json; charset=utf-8"}
CHANGING = {"id", "seats", "created_at", "updated_at", "expires_at", "user_id"}


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the calls that the quick way has served."""
    served: list[str] = []
    serve = quick._served

    async def watched(way: quick.Way, scope: Any, first: Any) -> Any:
        try:
            answer = await serve(way, scope, first)
        except (SeatTaken, SeatHeld):
            served.append(scope["path"])
            raise
        if answer is not None:
            served.append(scope["path"])
        return answer

    monkeypatch.setattr(quick, "_served", watched)
    return served


def kind_of(answer: httpx.Response) -> tuple[Any, ...]:
    """What two answers to like questions have in common."""
    body = {name: value for name, value in answer.json().items() if name not in CHANGING}
    body.pop("request_id", None)
    return answer.status_code, sorted(set(answer.headers) - {"date"}), body


@pytest.mark.parametrize("path", ["/bookings", "/holds"])
async def test_sales(shared: Service, ann: Person, path: str, quickly: list[str]) -> None:
    """Made, replayed, and refused; with a charset named, which only the long way knows."""
    venue = await shared.add_event(seats=4)
    kinds = []
    for headers, seat, key in ((None, venue.seats[0], "quick"), (LONG, venue.seats[1], "long")):
        common = {**(headers or {}), "Idempotency-Key": key}
        call = {"json": {"seat_id": seat}, "headers": common}
        other = {"json": {"seat_id": seat}, "headers": headers or {}}
        answers = [await ann.call("POST", path, **each) for each in (call, call, other)]
        assert [answer.status_code for answer in answers] == [201, 201, 409]
        kinds.append([kind_of(answer) for answer in answers])
    assert kinds[0] == kinds[1]
    assert quickly == [path] * 3


@pytest.mark.parametrize("path", ["/seats?event_id={}", "/events/{}/availability?"])
async def test_reads(shared: Service, path: str, quickly: list[str]) -> None:
    """The same bytes; with one more parameter the long way gives them."""
    venue = await shared.add_event(seats=4)
    url = path.format(venue.event_id)
    answers = [await shared.client.get(url), await shared.client.get(f"{url}&x=1")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert set(answers[0].headers) == set(answers[1].headers)
    assert len(quickly) == 1


@pytest.mark.parametrize("path", ["/bookings", "/holds"])
async def test_ended_session(shared: Service, ann: Person, path: str) -> None:
    """Whatever the answer would have been, it is 401; and nothing has happened."""
    venue = await shared.add_event(seats=3)
    person = await shared.newcomer()
    free, taken, known = ({"seat_id": seat_id} for seat_id in venue.seats)
    assert (await ann.call("POST", path, json=taken)).status_code == 201
    key = {"Idempotency-Key": "known"}
    assert (await person.call("POST", path, json=known, headers=key)).status_code == 201
    await shared.sql("update sessions set ended_at = now() where user_id::text = $1", person.id)
    unknown, too_many = {"seat_id": 2**40}, {"event_id": venue.event_id, "quantity": 2}
    for body, headers in ((free, {}), (known, key), (taken, {}), (unknown, {}), (too_many, {})):
        answer = await person.call("POST", path, json=body, headers=headers)
        problem_of(answer, 401, "invalid_token")
    assert (await ann.call("POST", path, json=free)).status_code == 201


async def test_ended_session_of_each_kind_of_refusal(shared: Service, ann: Person) -> None:
    """Each is the first that this worker hears of its session."""
    venue = await shared.add_event(seats=2)
    assert (await ann.book(venue.seats[0])).status_code == 201
    for body in (
        {"seat_id": venue.seats[1]},
        {"seat_id": venue.seats[0]},
        {"seat_id": 2**40},
        {"seat_ids": [1, venue.seats[0]]},
        {"event_id": venue.event_id, "quantity": 2},
        {"event_id": 2**40, "quantity": 2},
        {"hold_id": "0b8f2c1e-3c69-4f9e-9d53-0d4c9c1f4d11"},
    ):
        person = await shared.newcomer()
        await shared.sql("delete from sessions where user_id::text = $1", person.id)
        answer = await person.call("POST", "/bookings", json=body)
        problem_of(answer, 401, "invalid_token")


async def test_order_of_the_version_before(shared: Service, ann: Person) -> None:
    """It names no session, since that version has asked for it: during an upgrade both run."""
    venue = await shared.add_event(seats=1)
    order = Order(uuid4(), UUID(ann.id), uuid4(), venue.event_id, tuple(venue.seats)).as_json()
    refused, done = ({**order, "id": str(uuid4())} for _ in range(2))
    del done["session_id"]
    for number, each, refusal in ((1, refused, "invalid_token"), (2, done, None)):
        query = "select refusal from book($1::bigint, $2::json)"
        [row] = await shared.sql(query, number, json.dumps([each]))
        assert row["refusal"] == refusal


async def test_what_lets_go(shared: Service, ann: Person, quickly: list[str]) -> None:
    """Whatever is not plainly right takes the long way, which says what is wrong."""
    good = {"seat_id": 1}
    for body, headers in (
        ({"seat_id": "1"}, {}),
        ({"seat_id": 1, "role": "admin"}, {}),
        ({}, {}),
        (good, {"Idempotency-Key": ""}),
        (good, {"Idempotency-Key": "x" * 65}),
        (good, {"Authorization": "Basic x"}),
        (good, {"Authorization": ""}),
    ):
        answer = await ann.call("POST", "/bookings", json=body, headers=headers)
        assert answer.status_code in (401, 422), (body, headers)
    assert quickly == []
