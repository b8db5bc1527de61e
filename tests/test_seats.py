"""What is free: the pages, and that no answer is older than its question."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from seatsvc import local
from seatsvc.events import RowDraft, SectionDraft
from tests.conftest import Service, Venue, make_settings, problem_of, serve

FIELDS = {"id", "event_id", "section", "row", "number", "ticket_type_id", "accessible"}


async def seats(service: Service, **params: Any) -> dict[str, Any]:
    """One page."""
    answer = await service.client.get("/seats", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def cursor(value: object) -> str:
    """One that nobody gave."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_default_event(shared: Service) -> None:
    """80 seats, in order, with exactly the contract's fields."""
    page = await seats(shared)
    assert set(page) == {"items", "next_cursor"}
    assert page["next_cursor"] is None
    assert [seat["id"] for seat in page["items"]] == list(range(1, 81))
    assert all(set(seat) == FIELDS for seat in page["items"])
    assert "".join(seat["section"] for seat in page["items"]) == "".join(n * 20 for n in "ABCD")
    places = {(seat["section"], seat["row"], seat["number"]) for seat in page["items"]}
    assert len(places) == 80
    first = page["items"][0]
    assert (first["event_id"], first["row"], first["number"]) == (1, "1", "1")
    assert isinstance(first["ticket_type_id"], int)
    assert first["accessible"] is False


async def test_event_of_its_own(shared: Service) -> None:
    """With an event's id: that event's seats and no others."""
    venue = await shared.add_event(seats=5)
    assert [seat["id"] for seat in (await seats(shared, event_id=venue.event_id))["items"]] == (
        venue.seats
    )
    assert (await seats(shared, event_id=1)) == (await seats(shared))


async def test_numbers_and_places_without(shared: Service) -> None:
    """Numbered rows and general admission stand in one hall, in its order."""
    venue = await shared.add_event(
        SectionDraft("Floor", places=2),
        SectionDraft("Box", [RowDraft("b", ["7", "7½"], accessible=["7½"])]),
    )
    page = await seats(shared, event_id=venue.event_id)
    assert page["items"] == [
        {
            "id": seat_id, "event_id": venue.event_id, "section": section, "row": row,
            "number": number, "ticket_type_id": None, "accessible": accessible,
        }
        for seat_id, (section, row, number, accessible) in zip(venue.seats, [
            ("Floor", None, None, False), ("Floor", None, None, False),
            ("Box", "b", "7", False), ("Box", "b", "7½", True),
        ], strict=True)
    ]  # fmt: skip


async def test_section(shared: Service) -> None:
    """One section only; an unknown one has no seats."""
    page = await seats(shared, section="B")
    assert [seat["id"] for seat in page["items"]] == list(range(21, 41))
    assert (await seats(shared, section="Z"))["items"] == []
    answer = await shared.client.get("/seats", params={"section": "\x00"})
    problem_of(answer, 422, "invalid_request")


@pytest.mark.parametrize(("limit", "pages"), [(7, 12), (40, 2), (79, 2), (80, 1), (1000, 1)])
async def test_pages_by_cursor(shared: Service, limit: int, pages: int) -> None:
    """Following next_cursor shows every seat once."""
    found, params, count = [], {"limit": str(limit)}, 0
    while True:
        page = await seats(shared, **params)
        found += [seat["id"] for seat in page["items"]]
        count += 1
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        params["cursor"] = page["next_cursor"]
    assert found == list(range(1, 81))
    assert count == pages


async def test_pages_by_link(shared: Service) -> None:
    """Following Link keeps the filters."""
    found: list[int] = []
    answer = await shared.client.get("/seats", params={"section": "C", "limit": 6, "event_id": 1})
    while True:
        found += [seat["id"] for seat in answer.json()["items"]]
        if "next" not in answer.links:
            break
        answer = await shared.client.get(answer.links["next"]["url"])
    assert answer.json()["next_cursor"] is None
    assert found == list(range(41, 61))


async def test_pages_while_seats_go(shared: Service) -> None:
    """What is sold behind the cursor shifts nothing before it."""
    venue = await shared.add_event(seats=10)
    ann = await shared.newcomer()
    first = await seats(shared, event_id=venue.event_id, limit=5)
    assert (await ann.book(*venue.seats[1:4], venue.seats[6])).status_code == 201
    rest = await seats(shared, event_id=venue.event_id, cursor=first["next_cursor"])
    assert [seat["id"] for seat in rest["items"]] == [venue.seats[n] for n in (5, 7, 8, 9)]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"}, {"limit": "-1"}, {"limit": "1001"}, {"limit": "x"}, {"limit": "1.5"},
        {"limit": ""}, {"limit": "9" * 5000}, {"event_id": "0"}, {"event_id": "-1"},
        {"event_id": "x"}, {"event_id": "1.5"}, {"event_id": str(2**63)}, {"event_id": "\x00"},
        {"section": "x" * 201},
        {"cursor": "x"}, {"cursor": "!"}, {"cursor": "\x00"}, {"cursor": "é"},
        {"cursor": "x" * 201}, {"cursor": cursor([])}, {"cursor": cursor(["1"])},
        {"cursor": cursor([1, 2])}, {"cursor": cursor({"a": 1})}, {"cursor": cursor([1.5])},
        {"cursor": cursor([None])}, {"cursor": cursor(None)}, {"cursor": cursor([[1]])},
    ],
)  # fmt: skip
async def test_bad_parameters(shared: Service, params: dict[str, str]) -> None:
    """422 that names the parameter."""
    answer = await shared.client.get("/seats", params=params)
    problem = problem_of(answer, 422, "invalid_request")
    assert next(iter(params)) in problem["detail"]


@pytest.mark.parametrize("number", [2**63 - 1, 10**30, -1])
async def test_cursor_out_of_range(shared: Service, number: int) -> None:
    """A forged cursor does no harm."""
    answer = await shared.client.get("/seats", params={"cursor": cursor([number])})
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("event_id", [999_999, 2**63 - 1])
async def test_unknown_event(shared: Service, event_id: int) -> None:
    """404, and it is no secret which one."""
    answer = await shared.client.get("/seats", params={"event_id": event_id})
    assert str(event_id) in problem_of(answer, 404, "not_found")["detail"]


async def test_blocked_and_booked_are_not_free(shared: Service) -> None:
    """Only free seats are listed."""
    venue = await shared.add_event(seats=4)
    ann = await shared.newcomer()
    await shared.sql(
        "update seats set blocked = true, changed = pg_current_xact_id() where id = $1",
        venue.seats[0],
    )
    assert (await ann.book(venue.seats[2])).status_code == 201
    assert await shared.free(event_id=venue.event_id) == {venue.seats[1], venue.seats[3]}


async def test_gone_after_201_and_back_after_cancel(shared: Service) -> None:
    """Each answer is followed by a read that knows of it, many times over."""
    venue = await shared.add_event(seats=2)
    ann = await shared.newcomer()
    for _ in range(5):
        booking = (await ann.book(venue.seats[0])).json()
        assert await shared.free(event_id=venue.event_id) == {venue.seats[1]}
        await ann.call("DELETE", f"/bookings/{booking['id']}")
        assert await shared.free(event_id=venue.event_id) == set(venue.seats)


class Fleet:
    """Clients that read and book at once, and remember what they were told."""

    def __init__(self, venue: Venue, workers: list[Service]) -> None:
        self.venue = venue
        self.workers = workers
        self.sold: set[int] = set()
        self.reads = 0

    async def run(self) -> None:
        """Book every seat of the hall while others read."""
        people = await asyncio.gather(*(self.workers[0].newcomer() for _ in range(8)))
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(self.read(each)) for each in [*self.workers] * 2]
            async with asyncio.TaskGroup() as bookers:
                for n, person in enumerate(people):
                    bookers.create_task(self.book(person.headers, self.venue.seats[n::8]))
            for reader in readers:
                reader.cancel()

    async def book(self, headers: dict[str, str], seat_ids: list[int]) -> None:
        """Book these, one after the other, on changing workers."""
        for seat_id in seat_ids:
            client = self.workers[seat_id % len(self.workers)].client
            answer = await client.post("/bookings", json={"seat_id": seat_id}, headers=headers)
            assert answer.status_code == 201, answer.text
            self.sold.add(seat_id)

    async def read(self, worker: Service) -> None:
        """Read, and compare with what was sold before."""
        while True:
            sold_before = set(self.sold)
            free = await worker.free(event_id=self.venue.event_id)
            assert not free & sold_before
            self.reads += 1


async def test_reads_never_show_what_was_sold_before(
    servers: local.Servers, service: Service
) -> None:
    """Readers race bookers, on two workers and across them: no read is older than a 201."""
    venue = await service.add_event(seats=80)
    async with serve(make_settings(servers, "test")) as other:
        fleet = Fleet(venue, [service, other])
        await fleet.run()
    assert fleet.reads >= 10
    assert await service.booked(venue) == venue.seats
    assert await service.free(event_id=venue.event_id) == set()


async def test_many_readers_at_once_get_one_answer(shared: Service) -> None:
    """Fifty who ask together get the same bytes."""
    venue = await shared.add_event(seats=10)
    params = {"event_id": venue.event_id}
    calls = (shared.client.get("/seats", params=params) for _ in range(50))
    answers: list[httpx.Response] = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
