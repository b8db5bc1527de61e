"""The load tester can fail: each invariant is broken once under its eyes, and it says so."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any
from uuid import uuid4

import pytest

from seatsvc import cli
from seatsvc.load import PASSWORD_VARIABLE
from seatsvc.load.invariants import CHECKS
from tests.conftest import PASSWORD, Service
from tests.tampering import Call, Hangup, Tamper, proxied

Load = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]
Answer = tuple[int, Any]


@pytest.fixture
async def load(
    shared: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Load:
    """Run the command against the service behind such a proxy: its exit status and its JSON."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    monkeypatch.setattr("seatsvc.load.rehearsal.FREED_S", 0.3)
    monkeypatch.setattr("seatsvc.load.scenarios.PAUSE_S", 0.0)
    organizer = await shared.sign_up(f"organizer-{uuid4().hex}", role="organizer")

    def command(*arguments: str) -> int:
        try:
            cli.main(["load", *arguments, "--json", "--organizer", organizer.username])
        except SystemExit as end:
            return int(str(end.code))
        return 0

    async def run(tamper: Tamper, scenario: str, *more: str) -> tuple[int, dict[str, Any]]:
        few = ("--users", "2", "--connections", "4", "--seats", "2", "--seconds", "5")
        async with proxied(shared.url, tamper) as url:
            status = await asyncio.to_thread(command, scenario, "--url", url, *few, *more)
        return status, json.loads(capsys.readouterr().out)

    return run


def broken(said: dict[str, Any]) -> set[str]:
    """The names of the broken invariants."""
    return {each["name"] for each in said["invariants"] if each["broken"]}


async def honest(call: Call) -> Answer:
    """Changes nothing."""
    return await call.forward()


def sells_twice() -> Tamper:
    """Who comes too late gets a booking of the same seat nevertheless."""

    async def tamper(call: Call) -> Answer:
        status, document = await call.forward()
        if call.books and status == 409:
            seats = [{"id": call.body["seat_id"]}]
            made = {"id": str(uuid4()), "user_id": "x", "status": "active", "seats": seats}
            return 201, {**made, "quantity": 1, "total": 0, "created_at": "2026-01-01T00:00:00Z"}
        return status, document

    return tamper


def changes(start: str, change: Callable[[Any], None], method: str = "GET") -> Tamper:
    """Changes what is answered to such calls."""

    async def tamper(call: Call) -> Answer:
        status, document = await call.forward()
        if call.method == method and start in call.path and status < 300:
            change(document)
        return status, document

    return tamper


def lose_one(document: Any) -> None:
    """The newest booking of a list."""
    del document["items"][:1]


def invent_one(document: Any) -> None:
    """A booking that is like another."""
    document["items"] += [{**deepcopy(each), "id": str(uuid4())} for each in document["items"][:1]]


def swap_owner(document: Any) -> None:
    """Another's booking in one's own list."""
    for each in document["items"]:
        each["user_id"] = str(uuid4())


def show_free(document: Any) -> None:
    """All seats, whatever they are."""
    for section in document["sections"]:
        section["states"] = "f" * len(section["states"])


def show_held(document: Any) -> None:
    """What is free as held, which nobody does."""
    document["counts"]["free"] = 0
    for section in document["sections"]:
        section["states"] = section["states"].replace("f", "h")


def drop_seat(document: Any) -> None:
    """One of the group's."""
    del document["seats"][0]


def count_one_more(document: Any) -> None:
    """A booked seat that is not there."""
    document["booked"] += 1


def new_id(document: Any) -> None:
    """Each answer of its own."""
    document["id"] = str(uuid4())


def refuses(status: int, code: str, first: int = 1000, retry_after: str = "") -> Tamper:
    """Answers orders so, without asking the service; but only the first ones."""
    count = 0

    async def tamper(call: Call) -> Answer:
        nonlocal count
        count += call.books
        if not call.books or count > first:
            return await call.forward()
        call.answer_headers = {"Retry-After": retry_after} if retry_after else {}
        seats = [{"id": call.body.get("seat_id"), "reason": code}]
        return status, {"status": status, "code": code, "seats": seats}

    return tamper


def forgets_limit() -> Tamper:
    """Makes an event without the limit that it was to have."""

    async def tamper(call: Call) -> Answer:
        if (call.method, call.path) == ("POST", "/events"):
            del call.body["max_seats_per_user"]
        return await call.forward()

    return tamper


def forgets_cancel() -> Tamper:
    """Says that a booking is cancelled, and does not cancel it."""

    async def tamper(call: Call) -> Answer:
        if call.method == "DELETE":
            return 200, {}
        return await call.forward()

    return tamper


FAULTS: dict[str, tuple[Tamper, str, tuple[str, ...]]] = {
    "no seat is sold twice": (sells_twice(), "last-seat", ()),
    "every 201 is found again": (changes("/bookings?event_id", lose_one), "last-seat", ()),
    "no booking that nobody made": (changes("/bookings?limit", invent_one), "last-seat", ()),
    "one key, one booking": (changes("/bookings", new_id, "POST"), "last-seat", ()),
    "no read shows a sold seat free": (changes("/availability", show_free), "last-seat", ()),
    "freed seats return": (changes("/availability", show_held), "flash-sale", ()),
    "limits hold": (forgets_limit(), "flash-sale", ("--seats", "6", "--limit", "1")),
    "all or nothing": (changes("/bookings", drop_seat, "POST"), "groups", ("--seats", "10")),
    "refusals are honest": (refuses(409, "seat_taken"), "last-seat", ()),
    "no 5xx but an honest 503": (refuses(500, "internal_error", 1), "last-seat", ()),
    "free seats can be booked": (
        refuses(409, "busy", retry_after="1"), "last-seat", (),
    ),
    "nobody sees another's booking": (changes("/bookings?event_id", swap_owner), "last-seat", ()),
    "the report adds up": (changes("/report", count_one_more), "last-seat", ()),
}  # fmt: skip


def test_each_invariant_has_its_fault() -> None:
    assert FAULTS.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", FAULTS)
async def test_broken_invariant_is_reported(load: Load, name: str) -> None:
    tamper, scenario, more = FAULTS[name]
    status, said = await load(tamper, scenario, *more)
    assert (status, said["sound"]) == (1, False)
    assert name in broken(said)
    assert all(each["examples"] for each in said["invariants"] if each["broken"])


async def test_cancel_that_is_forgotten(load: Load) -> None:
    status, said = await load(forgets_cancel(), "browse", "--seconds", "1", "--seats", "20")
    assert status == 1
    assert "every 201 is found again" in broken(said)


async def test_503_without_retry_after_is_not_honest(load: Load) -> None:
    status, said = await load(refuses(503, "unavailable", 1), "last-seat")
    assert (status, broken(said)) == (1, {"no 5xx but an honest 503"})


@pytest.mark.parametrize("lost", ["503", "hang up"])
async def test_unknown_outcome_is_settled_by_the_key(load: Load, lost: str) -> None:
    """The orders are made, and their first answers never arrive."""
    count = 0

    async def tamper(call: Call) -> Answer:
        nonlocal count
        answer = await call.forward()
        count += call.books
        if not call.books or count > 4:
            return answer
        if lost == "hang up":
            raise Hangup
        call.answer_headers = {"Retry-After": "0"}
        return 503, {"status": 503, "code": "unavailable"}

    status, said = await load(tamper, "last-seat")
    assert (status, broken(said)) == (0, set())
    kind = "503 unavailable" if lost == "503" else "connection_lost"
    assert said["outcomes"]["book"][kind] == 4
    assert said["bookings"] == 2


async def test_honest_proxy_breaks_nothing(load: Load) -> None:
    status, said = await load(honest, "last-seat")
    assert (status, broken(said)) == (0, set())


async def test_rate_limits_are_warned_of_and_waited_for(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seatsvc.load.people.WAIT_S", 0.0)
    refused = 0

    async def tamper(call: Call) -> Answer:
        nonlocal refused
        limit = {"RateLimit-Policy": '"register";q=1;w=600', "Retry-After": "0"}
        if call.path == "/auth/register" and refused < 2:
            refused += 1
            call.answer_headers = limit
            return 429, {"status": 429, "code": "rate_limited"}
        return await call.forward()

    status, said = await load(tamper, "flash-sale")
    assert (status, refused) == (0, 2)
    assert said["rate_limits"] == ["register: 1 in 600 s"]
