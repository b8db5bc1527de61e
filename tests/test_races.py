"""Many at once at the same seats: each race asserts the answers and the rows.

A race is a plain function, of one service or of several on the same servers, so that
`test_guards.py` can run it against a build that is broken on purpose.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TypeVar
from uuid import uuid4

import httpx
import pytest

from seatsvc import local
from seatsvc.settings import Settings
from seatsvc.tokens import Tokens
from tests.conftest import Person, Service, Venue, make_settings, serve

CHANCE = secrets.SystemRandom()
T = TypeVar("T")
Call = Callable[[], Awaitable[httpx.Response]]

NOBODY_HERE = "redis://127.0.0.1:1/0"
TRIES_MAX = 100
PAUSE_S, PAUSE_MAX_S = 0.02, 0.5
RETRY = ("busy", "idempotency_in_flight")


async def crowd(*services: Service, count: int) -> list[Person]:
    """New users, logged in, each a client of the next service in turn."""
    ids = [uuid4() for _ in range(count)]
    await services[0].sql(
        "with newcomers as ("
        "  insert into users (id, username, username_folded, password_hash)"
        "  select id, id::text, id::text, '' from unnest($1::uuid[]) id returning id)"
        " insert into sessions (id, user_id, expires_at)"
        " select id, id, now() + interval '1 day' from newcomers",
        ids,
    )
    tokens = Tokens(services[0].settings)
    return [
        Person(
            service.client,
            {"Authorization": f"Bearer {tokens.issue(each, each, 'attendee')}"},
            str(each),
            str(each),
        )
        for each, service in zip(ids, cycle(services), strict=False)
    ]


def everywhere(person: Person, services: Iterable[Service]) -> list[Person]:
    """The same user, as a client of each service."""
    return [replace(person, client=service.client) for service in services]


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """All at once. When all have ended, the first of their errors, if there is one."""
    results: list[T] = []
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


def code_of(answer: httpx.Response) -> str:
    """The code of a refusal, the status of anything else; never a failure of the service."""
    assert answer.status_code < 500, f"the service failed: {answer.text}"
    return str(answer.json()["code"]) if answer.status_code >= 400 else str(answer.status_code)


async def decided(call: Call, *retry: str) -> httpx.Response:
    """The answer of a client who tries again on these codes, and while others are at it."""
    for attempt in range(TRIES_MAX):
        answer = await call()
        if code_of(answer) not in (*RETRY, *retry):
            return answer
        await asyncio.sleep(CHANCE.uniform(0, min(PAUSE_S * 2**attempt, PAUSE_MAX_S)))
    raise AssertionError(f"never decided: {answer.text}")


def counted(answers: Iterable[httpx.Response]) -> dict[str, int]:
    """How many answers of which code."""
    return dict(Counter(map(code_of, answers)))


async def buyers(service: Service, venue: Venue) -> dict[int, str]:
    """Who has which seat, as the rows of the active bookings say."""
    rows = await service.sql(
        "select seat_id, user_id from booking_seats join bookings b on b.id = booking_id"
        " where event_id = $1 and status = 'active' order by seat_id",
        venue.event_id,
    )
    seats = [row["seat_id"] for row in rows]
    assert len(set(seats)) == len(seats), f"sold twice: {seats}"
    return {row["seat_id"]: str(row["user_id"]) for row in rows}


async def one_seat(*services: Service, count: int = 12) -> None:
    """Many want one seat, and persist while it is busy: one gets it, it is taken for the rest."""
    venue = await services[0].add_event(seats=1)
    people = await crowd(*services, count=count)
    calls = (partial(person.book, *venue.seats) for person in people)
    answers = await together(map(decided, calls))
    winners = [answer.json()["user_id"] for answer in answers if answer.status_code == 201]
    assert len(winners) == 1, f"sold twice: {winners}"
    assert counted(answers) == {"201": 1, "seat_taken": count - 1}
    assert await buyers(services[0], venue) == {venue.seats[0]: winners[0]}
    for service in services:
        assert await service.free(event_id=venue.event_id) == set(), "shown free"


async def shared_seat(*services: Service, count: int = 8) -> None:
    """Each wants the first seat and one of their own: one gets both, the others nothing at all."""
    venue = await services[0].add_event(seats=count + 1)
    first, *own = venue.seats
    people = await crowd(*services, count=count)
    calls = (
        partial(person.book, first, seat_id) for person, seat_id in zip(people, own, strict=True)
    )
    answers = await together(map(decided, calls))
    won = [answer.json() for answer in answers if answer.status_code == 201]
    for person, seat_id in zip(people, own, strict=True):
        for booking in won:
            if booking["user_id"] == person.id:
                got = [seat["id"] for seat in booking["seats"]]
                assert got == [first, seat_id], f"not all of it: {got}"
    assert counted(answers) == {"201": 1, "seat_taken": count - 1}
    rows = await buyers(services[0], venue)
    assert list(rows) == [seat["id"] for seat in won[0]["seats"]], "not all of it"


async def one_try(*services: Service, count: int = 8) -> None:
    """Each tries once to get the first seat and one of their own: what nobody got can be had."""
    venue = await services[0].add_event(seats=count + 1)
    first, *own = venue.seats
    people = await crowd(*services, count=count)
    answers = await together(
        person.book(first, seat_id) for person, seat_id in zip(people, own, strict=True)
    )
    assert set(counted(answers)) <= {"201", "seat_taken", "busy"}
    rows = await buyers(services[0], venue)
    assert len(rows) == 2 * counted(answers).get("201", 0)
    for seat_id in set(venue.seats) - set(rows):
        code = code_of(await people[0].book(seat_id))
        assert code == "201", f"left locked: {code}"


class Ledger:
    """Who has which seat for certain: from an answer's end to the next call's start."""

    def __init__(self, seats: Sequence[int]) -> None:
        self.owners: dict[int, str] = {}
        self.sales = 0
        self.seats = seats

    def take(self, seats: Sequence[int], who: str) -> None:
        """Somebody was told that these are theirs."""
        for seat_id in seats:
            assert seat_id not in self.owners, f"sold twice: {seat_id}"
            self.owners[seat_id] = who
        self.sales += 1

    def give_back(self, seats: Sequence[int]) -> None:
        """Their owner is about to cancel."""
        for seat_id in seats:
            del self.owners[seat_id]


async def buy_and_return(person: Person, ledger: Ledger) -> None:
    """Hold or book four seats, book what was held or not, and give them back."""
    seats = CHANCE.sample(ledger.seats, 4)
    what = CHANCE.choice(["holds", "bookings"])
    answer = await person.call("POST", f"/{what}", json={"seat_ids": seats})
    code = code_of(answer)
    if code != "201":
        assert code in ("busy", "seat_taken", "seat_held"), answer.text
        return
    ledger.take(seats, person.id)
    if what == "holds" and CHANCE.getrandbits(1):
        what, body = "bookings", {"hold_id": answer.json()["id"]}
        answer = await person.call("POST", "/bookings", json=body)
        assert code_of(answer) == "201", f"lost a hold: {answer.text}"
    sold = [seat["id"] for seat in answer.json()["seats"]]
    assert sold == sorted(seats), f"not all of it: {sold}"
    ledger.give_back(seats)
    answer = await person.call("DELETE", f"/{what}/{answer.json()['id']}")
    assert code_of(answer) in ("200", "204"), f"lost a sale: {answer.text}"


async def overlapping_fours(*services: Service, clients: int = 64, rounds: int = 8) -> None:
    """Many clients take 4 random of 12 seats and give them back: no deadlock, nothing lost."""
    venue = await services[0].add_event(seats=12)
    people = await crowd(*services, count=clients)
    ledger = Ledger(venue.seats)

    async def play(person: Person) -> None:
        for _ in range(rounds):
            await buy_and_return(person, ledger)

    await together(map(play, people))
    assert ledger.sales, "nobody got anything"
    await nothing_is_left(services[0], venue)
    assert await services[-1].free(event_id=venue.event_id) == set(venue.seats)
    assert code_of(await people[0].book(*venue.seats)) == "201"


async def nothing_is_left(service: Service, venue: Venue) -> None:
    """No row says that anybody has anything of this event."""
    assert await buyers(service, venue) == {}
    [left] = await service.sql(
        "select (select count(*) from seats where event_id = $1"
        "           and (booking_id is not null or hold_id is not null)) as seats,"
        "       (select count(*) from holds where event_id = $1 and ended_at is null) as holds,"
        "       (select count(*) from booking_seats join seats s on s.id = seat_id"
        "         where active and s.event_id = $1) as sales",
        venue.event_id,
    )
    assert dict(left) == {"seats": 0, "holds": 0, "sales": 0}


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """Another service on the same servers."""
    async with serve(shared.settings) as running:
        yield running


async def test_500_users_want_one_seat(shared: Service) -> None:
    """500 different users book one seat at the same moment: one gets it."""
    venue = await shared.add_event(seats=1)
    people = await crowd(shared, count=500)
    answers = await asyncio.gather(*(person.book(*venue.seats) for person in people))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 499}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"busy", "seat_taken"}
    winner = next(answer for answer in answers if answer.status_code == 201)
    assert await buyers(shared, venue) == {venue.seats[0]: winner.json()["user_id"]}
    assert await shared.free(event_id=venue.event_id) == set()


async def test_two_services_sell_one_seat(shared: Service, other: Service) -> None:
    """Buyers of one seat race at two services that share their servers."""
    await one_seat(shared, other, count=40)


async def test_two_services_sell_a_seat_that_all_want_with_another(
    shared: Service, other: Service
) -> None:
    """Pairs that overlap in one seat race: nothing is sold by halves, nothing stays locked."""
    await shared_seat(shared, other)
    await one_try(shared, other, count=16)


@pytest.mark.parametrize("without", [1, 2])
async def test_two_services_without_redis(
    servers: local.Servers, test_settings: Settings, without: int
) -> None:
    """Buyers of one seat race at two services of which one, or neither, reaches Redis."""
    urls = [servers.redis_url] * (2 - without) + [NOBODY_HERE] * without
    one, two = (make_settings(servers, "test", redis_url=url, cache_ttl_ms=50) for url in urls)
    async with serve(one) as first, serve(two) as second:
        await together(
            [
                one_seat(first, second),
                shared_seat(first, second),
                overlapping_fours(first, second, clients=8, rounds=2),
            ]
        )
