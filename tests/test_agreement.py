"""The availability, the free seats and the rows say the same: on any worker, with any Redis."""

import asyncio
from collections import Counter
from typing import Any
from zlib import crc32

import redis.asyncio

from seatsvc import local
from seatsvc.events import RowDraft, SectionDraft
from seatsvc.settings import Settings
from tests.conftest import Person, Service, Venue, make_settings, serve
from tests.test_availability import availability, get, hold, shown

NOBODY_HERE = "redis://127.0.0.1:1/0"
STATES_SQL = """
select section, string_agg(case when booking_id is not null then 'b' when blocked then 'x'
                                when held_until > now() then 'h' else 'f' end, '' order by id)
       as states
  from seats where event_id = $1 group by section order by min(id)
"""


async def test_versions_are_the_states(
    servers: local.Servers, service: Service, alice: Person
) -> None:
    """Two workers give equal states one version, before and after, and the layout one ETag."""
    venue = await service.add_event(seats=4)
    async with serve(make_settings(servers, "test")) as other:
        versions = []
        for n in range(3):
            answers = [await get(each, venue, "availability") for each in (service, other)]
            assert answers[0].content == answers[1].content
            assert answers[0].headers["etag"] == answers[1].headers["etag"]
            versions.append(answers[0].headers["etag"])
            if n == 0:
                path = await hold(alice, *venue.seats[:2])
            else:
                await alice.call("DELETE", path)
        assert versions[0] == versions[2] != versions[1]
        plans = [await get(each, venue, "layout") for each in (service, other)]
        assert plans[0].headers["etag"] == plans[1].headers["etag"]


class Writers:
    """Three buyers and an admin who write this and that, as the numbers say."""

    def __init__(self, venue: Venue, people: list[Person], admin: Person) -> None:
        self.venue = venue
        self.people = people
        self.admin = admin
        self.sales: list[tuple[Person, str]] = []
        self.statuses: Counter[int] = Counter()

    async def write(self, number: int) -> None:
        """One write, which may be refused."""
        chance = crc32(b"%d" % number)
        person, path = self.people[chance % 3], ("/bookings", "/holds")[chance % 2]
        seats = [self.venue.seats[chance // n % len(self.venue.seats)] for n in (3, 97, 1009)]
        body: dict[str, Any] = {"seat_ids": list({*seats[: chance % 5 % 3 + 1]})}
        method, kind = "POST", chance // 7 % 10
        if kind < 2:
            body = {"event_id": self.venue.event_id, "quantity": kind + 1}
        elif kind < 5 and self.sales:
            person, path = self.sales.pop(chance % len(self.sales))
            method, body = "DELETE", {}
            if path.startswith("/holds/") and kind == 2:
                method, body = "POST", {"hold_id": path.removeprefix("/holds/")}
                path = "/bookings"
            elif path.startswith("/holds/") and kind == 3:
                method, path = "POST", f"{path}/extend"
        elif kind < 7:
            person, path = self.admin, f"/events/{self.venue.event_id}/blocks"
            method = "POST" if kind == 5 else "DELETE"
        answer = await person.call(method, path, json=body or None)
        self.statuses[answer.status_code] += 1
        if answer.status_code == 201:
            self.sales.append((person, answer.headers["location"]))


async def check_agreement(venue: Venue, *workers: Service) -> str:
    """The rows, the availability and the free seats say the same on each worker; the version."""
    rows = await workers[0].sql(STATES_SQL, venue.event_id)
    hall = "".join(row["states"] for row in rows)
    versions = set()
    for worker in workers:
        body = await availability(worker, venue)
        assert [section["states"] for section in body["sections"]] == [
            row["states"] for row in rows
        ]
        free = {seat_id for seat_id, state in zip(venue.seats, hall, strict=True) if state == "f"}
        assert await worker.free(event_id=venue.event_id) == free
        versions.add(body["version"])
    [version] = versions
    return str(version)


async def test_all_agree_after_any_writes(servers: local.Servers, service: Service) -> None:
    """A hundred writes, five at a time, on two workers: after each five both know it all."""
    rows = [RowDraft(str(n), list("123456")) for n in range(3)]
    venue = await service.add_event(SectionDraft("A", rows), SectionDraft("B", places=12))
    async with serve(make_settings(servers, "test")) as other:
        people = await service.sign_up_many(3)
        for n in (0, 1):
            people[n] = Person(other.client, people[n].headers, people[n].id, people[n].username)
        writers = Writers(venue, people, await service.sign_up("admin", role="admin"))
        versions = set()
        for n in range(0, 100, 5):
            await asyncio.gather(*map(writers.write, range(n, n + 5)))
            versions.add(await check_agreement(venue, service, other))
    assert set(writers.statuses) <= {200, 201, 204, 409}
    assert min(writers.statuses[status] for status in (201, 204, 409)) >= 5
    assert len(versions) > 15


async def test_without_redis(servers: local.Servers, test_settings: Settings) -> None:
    """Slower, and as right."""
    nobody_there = {"redis_url": NOBODY_HERE, "cache_ttl_ms": 50}
    async with serve(make_settings(servers, "test", **nobody_there)) as service:
        venue = await service.add_event(seats=4)
        person = await service.newcomer()
        versions = [await check_agreement(venue, service)]
        assert (await person.book(*venue.seats[:2])).status_code == 201
        path = await hold(person, venue.seats[3])
        versions.append(await check_agreement(venue, service))
        assert await shown(service, venue) == "bbfh"
        assert (await person.call("DELETE", path)).status_code == 204
        versions.append(await check_agreement(venue, service))
        assert len(set(versions)) == 3


async def test_redis_is_wiped(servers: local.Servers, service: Service, alice: Person) -> None:
    """Nothing is forgotten, before a write or after it."""
    venue = await service.add_event(seats=4)
    async with redis.asyncio.Redis.from_url(servers.redis_url) as raw:
        for n, seat_id in enumerate(venue.seats):
            await check_agreement(venue, service)
            await raw.flushall()
            assert await shown(service, venue) == ("b" * n).ljust(4, "f")
            assert (await alice.book(seat_id)).status_code == 201
            await raw.flushall()
            await check_agreement(venue, service)
            assert await shown(service, venue) == ("b" * (n + 1)).ljust(4, "f")
