"""A thousand clients at once on a small pool: nobody waits long, and nothing is left behind."""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import PASSWORD, Person, Service
from tests.connection import Answer, Wire
from tests.test_races_workers import client_of, worker

CLIENTS, BUYERS, SEATS, POOL = 1000, 500, 5000, 20
BURST_S, HANG_S, REST_S = 8.0, 20.0, 2.0
FINE = {200, 201, 401, 409}  # 401 is what strangers are told
HASHING = ("login", "stranger", "register")
# How many of twenty clients do what.
MIX = {
    "book": 5, "hold": 2, "look": 3, "seats": 1, "bookings": 2, "events": 2, "me": 1,
    "login": 2, "stranger": 1, "register": 1,
}  # fmt: skip


@dataclass
class Crowd:
    """What all were answered, and how long each waited."""

    event_id: int
    seats: list[int]
    buyers: list[Person]
    waited_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    refused: list[Answer] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def request(self, kind: str, buyer: Person) -> tuple[str, str, object]:
        """Method, path, body."""
        seat, number = {"seat_id": random.choice(self.seats)}, next(self.numbers)
        login = {"username": buyer.username, "password": PASSWORD}
        return {
            "book": ("POST", "/bookings", seat),
            "hold": ("POST", "/holds", seat),
            "look": ("GET", f"/events/{self.event_id}/availability", None),
            "seats": ("GET", f"/seats?event_id={self.event_id}&section=A", None),
            "bookings": ("GET", "/bookings", None),
            "events": ("GET", "/events?q=event", None),
            "me": ("GET", "/me", None),
            "login": ("POST", "/auth/login", login),
            "stranger": ("POST", "/auth/login", login | {"username": f"no-{number}"}),
            "register": ("POST", "/auth/register", login | {"username": f"new-{number}"}),
        }[kind]

    async def ask(self, wire: Wire, kind: str, buyer: Person) -> None:
        """One call."""
        method, path, body = self.request(kind, buyer)
        content = json.dumps(body).encode() if body else b""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: {buyer.headers['Authorization']}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        asked_at = time.monotonic()
        await wire.send(head.encode() + content)
        answer = await wire.answer(HANG_S)
        self.waited_s[kind].append(time.monotonic() - asked_at)
        self.statuses[kind][answer.status] += 1
        if answer.status not in FINE:
            self.refused.append(answer)

    async def client(self, url: str, kind: str, buyer: Person, until: float) -> None:
        """One who asks again and again, whatever the answer says."""
        parts = urlsplit(url)
        wire = Wire(*await asyncio.open_connection(parts.hostname, parts.port))
        try:
            while time.monotonic() < until:
                await self.ask(wire, kind, buyer)
        finally:
            wire.writer.close()

    def told(self) -> str:
        """A line for each kind of call."""
        return "\n".join(
            f"{kind:>9}: {len(waited):5} answers, median {sorted(waited)[len(waited) // 2]:.2f} s, "
            f"longest {max(waited):.2f} s, {dict(self.statuses[kind])}"
            for kind, waited in self.waited_s.items()
        )


async def burst(
    crowd: Crowd, url: str, clients: int, seconds: float, without: tuple[str, ...] = ()
) -> None:
    """All at once."""
    kinds = [kind for kind, share in MIX.items() for _ in range(share) if kind not in without]
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            buyer = crowd.buyers[number % len(crowd.buyers)]
            group.create_task(crowd.client(url, kinds[number % len(kinds)], buyer, until))


async def median_s(client: httpx.AsyncClient, path: str) -> float:
    """Of a lone look."""
    taken = []
    for _ in range(30):
        asked_at = time.monotonic()
        assert (await client.get(path)).status_code == 200
        taken.append(time.monotonic() - asked_at)
    return sorted(taken)[15]


@pytest.mark.slow
async def test_a_thousand_clients_on_a_small_pool(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buyers, readers, lists, logins and registrations race for 20 connections and two threads."""
    monkeypatch.setenv("SEATSVC_POOL_SIZE", str(POOL))
    monkeypatch.setenv("SEATSVC_RATE_LIMITS", "off")
    venue = await service.add_event(seats=SEATS)
    crowd = Crowd(venue.event_id, venue.seats, await service.sign_up_many(BUYERS))
    with worker(service.settings, tmp_path) as url:
        async with client_of(url) as client:
            before_s = await median_s(client, "/events")
            await burst(crowd, url, CLIENTS, BURST_S)
            await asyncio.sleep(REST_S)
            health = (await client.get("/health")).json()
            after_s = await median_s(client, "/events")
            print(f"\n{crowd.told()}\na lone list: before {before_s:.4f} s, after {after_s:.4f} s")
            late = Crowd(venue.event_id, venue.seats, crowd.buyers)
            await burst(late, url, 20, 1, without=HASHING)
            body = {"username": crowd.buyers[0].username, "password": PASSWORD}
            assert (await client.post("/auth/login", json=body)).status_code == 200
    for answer in crowd.refused:
        assert answer.problem()["code"] == "unavailable", answer
        assert int(answer.headers["retry-after"]) >= 1
    assert health["status"] == "pass"
    pool = health["checks"]["postgresql"][0]["pool"]
    assert pool["idle"] >= pool["open"] - 1
    assert {status for kind in late.statuses.values() for status in kind} <= FINE
