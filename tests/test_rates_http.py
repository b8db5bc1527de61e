"""Rate limits over HTTP: whom they take for whom, and what they tell clients."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, Request

from seatsvc import app as wiring
from seatsvc import local
from seatsvc.api.rates import address, spend
from seatsvc.rates import Rate
from seatsvc.settings import Settings
from tests.conftest import PASSWORD, Person, Service, make_settings, problem_of, serve

PROBLEM = (429, "rate_limited")


@pytest.mark.parametrize(
    ("client", "seen"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("2001:DB8:1:2::1", 5), "2001:db8:1:2::/64"),
        (("2001:db8:1:3::1", 5), "2001:db8:1:3::/64"),
        (("::ffff:192.0.2.1", 5), "192.0.2.1"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("garbage", 5), "unknown"),
        (("", 0), "unknown"),
        (None, "unknown"),
    ],
)
def test_address(client: tuple[str, int] | None, seen: str) -> None:
    """IPv4 as it is, IPv6 by the network that one site has, and no name that one can make up."""
    assert address(Request({"type": "http", "client": client})) == seen


KNOCKS = Rate("knocks", 2, 60)
BELLS = Rate("bells", 5, 600)


async def knock(request: Request) -> str:
    """A call that anyone may make twice a minute."""
    await spend(request, BELLS, "everyone")
    await spend(request, KNOCKS, address(request))
    return address(request)


@pytest.fixture
def knocking(monkeypatch: pytest.MonkeyPatch, test_settings: Settings) -> None:
    """Each service has the call POST /knock."""
    create_app = wiring.create_app

    def with_knock(current: Settings) -> FastAPI:
        app = create_app(current)
        app.add_api_route("/knock", knock, methods=["POST"])
        return app

    monkeypatch.setattr(wiring, "create_app", with_knock)


@asynccontextmanager
async def limited(servers: local.Servers, **overrides: Any) -> AsyncIterator[Service]:
    """A service with limits, on the test's database."""
    current = make_settings(servers, "test", **{"rate_limits": "on"} | overrides)
    async with serve(current) as running:
        yield running


def forwarded(*lines: str) -> list[tuple[str, str]]:
    """So many headers."""
    return [("X-Forwarded-For", line) for line in lines]


def limits_of(answer: httpx.Response) -> tuple[str, str]:
    """The policies, and what is left."""
    return answer.headers["ratelimit-policy"], answer.headers["ratelimit"]


@pytest.mark.usefixtures("knocking")
async def test_headers(servers: local.Servers) -> None:
    """All limits that a request was taken off, with a success and with a refusal."""
    async with limited(servers) as service:
        policy = '"bells";q=5;w=600, "knocks";q=2;w=60'
        answer = await service.client.post("/knock")
        assert answer.json() == "127.0.0.1"
        assert limits_of(answer) == (policy, '"bells";r=4;t=120, "knocks";r=1;t=30')
        await service.client.post("/knock")
        answer = await service.client.post("/knock")
        problem_of(answer, *PROBLEM)
        assert answer.headers["ratelimit-policy"] == policy
        pattern = r'"bells";r=2;t=1[12]\d, "knocks";r=0;t=([123]\d)'
        found = re.fullmatch(pattern, answer.headers["ratelimit"])
        assert found
        assert answer.headers["retry-after"] == found[1]


@pytest.mark.usefixtures("knocking")
async def test_nothing_spent_nothing_said(servers: local.Servers) -> None:
    """Whatever has no limit has no such headers, nor what is refused before it is counted."""
    async with limited(servers) as service:
        answers = [
            await service.client.get("/seats"),
            await service.client.get("/livez"),
            await service.client.get("/knock"),
            await service.client.post("/bookings", json={"seat_id": 1}),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 405, 401]
        assert not [answer for answer in answers if "ratelimit" in answer.headers]


@pytest.mark.usefixtures("knocking")
async def test_forwarded_for_is_not_believed(servers: local.Servers) -> None:
    """Without trusted proxies anyone may claim any address, and gets no quota for it."""
    async with limited(servers) as service:
        knocks = [
            await service.client.post("/knock", headers=forwarded(f"192.0.2.{n}")) for n in range(3)
        ]
        assert [answer.status_code for answer in knocks] == [200, 200, 429]
        assert knocks[0].json() == "127.0.0.1"


@pytest.mark.usefixtures("knocking")
async def test_trusted_proxy_is_believed(servers: local.Servers) -> None:
    """Each client of the proxy has its own quota, whatever it claims to forward itself."""
    async with limited(servers, trusted_proxies="127.0.0.0/8 ::1") as service:
        headers = [forwarded(f"192.0.2.{n}", "203.0.113.7") for n in range(3)]
        knocks = [await service.client.post("/knock", headers=each) for each in headers]
        assert [answer.status_code for answer in knocks] == [200, 200, 429]
        other = await service.client.post("/knock", headers=forwarded("203.0.113.8"))
        assert other.json() == "203.0.113.8"


async def seen_from(servers: local.Servers, trusted: str, peer: str, *lines: str) -> str:
    """Where a request with these headers comes from, in the service's eyes."""
    app = wiring.create_app(make_settings(servers, "test", trusted_proxies=trusted))

    async def where(request: Request) -> str:
        return address(request)

    app.add_api_route("/where", where)
    transport = httpx.ASGITransport(app, client=(peer, 1))
    headers = [(b"X-Forwarded-For", line.encode("latin-1")) for line in lines]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/where", headers=headers)
        assert answer.status_code == 200
        return str(answer.json())


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ([], "127.0.0.1"),
        ([""], "127.0.0.1"),
        (["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7, 127.0.0.2"], "203.0.113.7"),
        (["6.6.6.6", "203.0.113.7", "127.0.0.2"], "203.0.113.7"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (["[2001:db8:1:2:3::4]:4711, ::1"], "2001:db8:1:2::/64"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["127.0.0.3, 127.0.0.2"], "127.0.0.3"),
        (["203.0.113.7, garbage"], "unknown"),
        (["203.0.113.7, ' or 1=1; []]:x, %00\xff"], "unknown"),
        (["9" * 5000], "unknown"),
    ],
)
async def test_forwarded_for(servers: local.Servers, lines: list[str], seen: str) -> None:
    """The last address that is no proxy of ours; what is none is nobody's own."""
    assert await seen_from(servers, "127.0.0.0/8 ::1", "127.0.0.1", *lines) == seen


@pytest.mark.parametrize(
    ("peer", "seen"),
    [
        ("10.1.2.3", "203.0.113.7"),
        ("::ffff:10.1.2.3", "203.0.113.7"),
        ("11.1.2.3", "11.1.2.3"),
        ("::ffff:11.1.2.3", "11.1.2.3"),
    ],
)
async def test_proxy_seen_from_an_ipv6_socket(servers: local.Servers, peer: str, seen: str) -> None:
    """A socket that takes both shows an IPv4 proxy as a mapped address: it is the same proxy."""
    assert await seen_from(servers, "10.0.0.0/8", peer, "203.0.113.7") == seen


@pytest.fixture
async def house(
    servers: local.Servers, test_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """A service in which everyone may write six times a minute to bookings and holds."""
    monkeypatch.setattr("seatsvc.api.rates.BOOKING", Rate("booking", 6, 60))
    async with limited(servers) as running:
        yield running


async def use_up(person: Person) -> None:
    """Spend the whole quota."""
    for _ in range(6):
        assert (await person.call("DELETE", f"/holds/{uuid4()}")).status_code == 404


async def test_every_booking_write_is_counted(house: Service) -> None:
    """Of all five kinds, and whether they succeed or not; reads are not."""
    person = await house.newcomer()
    hold = await person.call("POST", "/holds", json={"seat_id": 1})
    path = hold.headers["location"]
    extended = await person.call("POST", f"{path}/extend")
    released = await person.call("DELETE", path)
    booking = await person.book(2)
    cancelled = await person.call("DELETE", booking.headers["location"])
    invalid = await person.call("POST", "/bookings", json={"seat_id": "no"})
    answers = [hold, extended, released, booking, cancelled, invalid]
    assert [answer.status_code for answer in answers] == [201, 200, 204, 201, 200, 422]
    for n, answer in enumerate(answers):
        policy, left = limits_of(answer)
        assert policy == '"booking";q=6;w=60'
        assert left.startswith(f'"booking";r={5 - n};t=')
    refused = await person.book(3)
    problem_of(refused, *PROBLEM)
    assert limits_of(refused)[1] == f'"booking";r=0;t={refused.headers["retry-after"]}'
    assert "ratelimit" not in (await person.call("GET", "/bookings")).headers


async def test_each_user_has_a_quota(house: Service) -> None:
    """One who is refused stands in nobody else's way, though they share an address."""
    ann, ben = await house.newcomer(), await house.newcomer()
    await use_up(ann)
    problem_of(await ann.book(1), *PROBLEM)
    assert (await ben.book(1)).status_code == 201


async def test_new_session_same_quota(house: Service) -> None:
    """Logging in again gives no new quota."""
    person = await house.newcomer()
    await use_up(person)
    login = {"username": person.username, "password": PASSWORD}
    pair = (await house.client.post("/auth/login", json=login)).json()
    again = Person(house.client, {"Authorization": f"Bearer {pair['access_token']}"}, "", "")
    problem_of(await again.book(1), *PROBLEM)


async def test_ended_session_is_told_so(house: Service) -> None:
    """A token that is worth nothing any more answers 401, even where the quota is used up."""
    person = await house.newcomer()
    await use_up(person)
    await house.sql("delete from sessions where user_id = $1", person.id)
    problem_of(await person.book(1), 401, "invalid_token")


async def test_stolen_token_costs_one(house: Service) -> None:
    """A token whose session has ended takes one off its owner's quota, not one each time."""
    person = await house.newcomer()
    login = {"username": person.username, "password": PASSWORD}
    pair = (await house.client.post("/auth/login", json=login)).json()
    await person.call("POST", "/auth/logout")
    for _ in range(20):
        problem_of(await person.book(1), 401, "invalid_token")
    owner = Person(house.client, {"Authorization": f"Bearer {pair['access_token']}"}, "", "")
    answer = await owner.book(2**40)
    assert answer.headers["RateLimit"].startswith('"booking";r=4;')  # of 6


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "not_authenticated"),
        ({"Authorization": "Basic x"}, "invalid_token"),
        ({"Authorization": "Bearer x"}, "invalid_token"),
    ],
)
async def test_nobody_is_told_to_log_in(house: Service, headers: dict[str, str], code: str) -> None:
    """As by every other call."""
    answer = await house.client.post("/bookings", json={"seat_id": 1}, headers=headers)
    problem_of(answer, 401, code)


async def test_headers_of_an_unexpected_error(
    house: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was counted, so the answer says so."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the cause")

    person = await house.newcomer()
    monkeypatch.setattr(house.state["bookings"], "book", fail)
    answer = await person.book(1)
    assert answer.status_code == 500
    assert limits_of(answer)[1] == '"booking";r=5;t=10'


async def test_off_means_off(
    service: Service, alice: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    """No limit, no headers; the log says so, once."""
    async with serve(service.settings):
        pass
    assert capsys.readouterr().out.count("rate limits are off") == 1
    answers = [await alice.call("DELETE", f"/holds/{uuid4()}") for _ in range(110)]
    assert {answer.status_code for answer in answers} == {404}
    assert not [answer for answer in answers if "ratelimit" in answer.headers]


@pytest.mark.usefixtures("test_settings")
async def test_nobody_is_locked_out_by_a_stranger(servers: local.Servers) -> None:
    """Who guesses passwords is stopped, and the owner of the account still logs in."""
    async with limited(servers, trusted_proxies="127.0.0.1") as service:
        owner = await service.newcomer()
        guess = {"username": owner.username, "password": "not the right one"}
        right = guess | {"password": PASSWORD}

        async def login(body: dict[str, str], source: str) -> int:
            answer = await service.client.post("/auth/login", json=body, headers=forwarded(source))
            return answer.status_code

        guesses = [await login(guess, "192.0.2.66") for _ in range(11)]
        assert guesses == [401] * 10 + [429]
        assert await login(right, "192.0.2.66") == 429
        assert await login(right, "192.0.2.1") == 200
