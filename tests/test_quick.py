"""The quick way and the long way: which calls take which, and that they answer alike."""

from typing import Any

import httpx
import pytest

from seatsvc.api import quick
from seatsvc.errors import SeatHeld, SeatTaken
from tests.conftest import Person, Service

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
