"""Availability behind its cache: used when it is right, and never wrong, whatever Redis does."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import pytest
import redis.asyncio
import uvloop

from seatsvc import local
from seatsvc.locks import Claim, SeatLocks
from seatsvc.scripts import Redis
from seatsvc.settings import Settings
from tests.conftest import Service, Venue, make_settings, problem_of, serve, until

NOBODY_HERE = "redis://127.0.0.1:1/0"
LATE_S = 0.08  # each turn of the event loop

pytestmark = pytest.mark.usefixtures("test_settings")


@asynccontextmanager
async def worker(servers: local.Servers, **overrides: Any) -> AsyncIterator[Service]:
    """One worker on the test's database; without Redis its answers come after 0.4 s."""
    async with serve(make_settings(servers, "test", **{"cache_ttl_ms": 50} | overrides)) as running:
        yield running


@contextmanager
def frozen_redis(servers: local.Servers) -> Iterator[None]:
    """Redis takes connections and commands, and answers nothing."""
    os.kill(servers.redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(servers.redis.pid, signal.SIGCONT)


@asynccontextmanager
async def locked_seats(service: Service) -> AsyncIterator[None]:
    """Whoever reads the table `seats` waits, and gives up."""
    url = service.settings.database_url.get_secret_value()
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("lock table seats in access exclusive mode")
            yield
    finally:
        await connection.close()


async def wipe(servers: local.Servers) -> None:
    """Redis forgets everything."""
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await client.flushall()


async def check_round(venue: Venue, writer: Service, *readers: Service) -> None:
    """Book the first seat and cancel it again: after each answer every reader knows."""
    person = await writer.newcomer()
    first, *others = venue.seats
    for reader in readers:
        assert await reader.free(event_id=venue.event_id) == set(venue.seats)
    answer = await person.book(first)
    assert answer.status_code == 201, answer.text
    for reader in readers:
        assert await reader.free(event_id=venue.event_id) == set(others)
    assert await writer.booked(venue) == [first]
    path = f"/bookings/{answer.json()['id']}"
    assert (await person.call("DELETE", path)).status_code == 200
    for reader in readers:
        assert await reader.free(event_id=venue.event_id) == set(venue.seats)
    assert await writer.booked(venue) == []


async def test_without_redis(servers: local.Servers) -> None:
    """No Redis at all: slower, and as right."""
    async with worker(servers, redis_url=NOBODY_HERE) as service:
        venue = await service.add_event()
        await check_round(venue, service, service)
        people = [await service.newcomer() for _ in range(10)]
        answers = await asyncio.gather(*(person.book(*venue.seats) for person in people))
        codes = Counter(answer.json().get("code") for answer in answers)
        assert codes.pop(None) == 1
        assert set(codes) <= {"seat_taken", "busy"}
        assert await service.booked(venue) == venue.seats


async def test_redis_freezes(servers: local.Servers) -> None:
    """Redis stops answering with an entry in it, and comes back with the entry still there."""
    async with worker(servers) as service:
        venue = await service.add_event()
        await check_round(venue, service, service)
        with frozen_redis(servers):
            person = await service.newcomer()
            assert await service.free(event_id=venue.event_id) == set(venue.seats)
            assert (await person.book(venue.seats[1])).status_code == 201
            assert await service.free(event_id=venue.event_id) == {venue.seats[0], venue.seats[2]}
        assert await service.free(event_id=venue.event_id) == {venue.seats[0], venue.seats[2]}


def test_our_own_event_loop_is_late(servers: local.Servers) -> None:
    """What takes long here is not Redis' fault: it is not taken for down."""
    assert uvloop.run(told_late(make_settings(servers, "none"))) == [[True]] * 3


async def told_late(settings: Settings) -> list[list[bool]]:
    """What came of some calls while each turn of the event loop took long."""
    redis, loop, late = Redis(settings), asyncio.get_running_loop(), True
    locks = SeatLocks(redis, settings)

    def take_long() -> None:
        time.sleep(LATE_S)
        if late:
            loop.call_soon(take_long)

    try:
        assert await locks.tell([Claim(1)]) == [True]
        loop.call_soon(take_long)
        return [await locks.tell([Claim(1, (seat_id,))]) for seat_id in range(3)]
    finally:
        late = False
        await redis.close()


async def test_redis_is_wiped(servers: local.Servers, service: Service) -> None:
    """Locks, generation and entry vanish between any two steps."""
    venue = await service.add_event()
    first, *others = venue.seats
    for _ in range(3):
        person = await service.newcomer()
        await wipe(servers)
        booking = (await person.book(first)).json()
        await wipe(servers)
        assert await service.free(event_id=venue.event_id) == set(others)
        await wipe(servers)
        assert await service.free(event_id=venue.event_id) == set(others)
        await person.call("DELETE", f"/bookings/{booking['id']}")
        await wipe(servers)
        assert await service.free(event_id=venue.event_id) == set(venue.seats)


async def test_redis_is_wiped_under_load(servers: local.Servers, service: Service) -> None:
    """Wipes race bookings: every seat is sold once, and shown to nobody afterwards."""
    venue = await service.add_event(seats=20)
    people = await service.sign_up_many(20)

    async def book(number: int) -> int:
        answer = await people[number].book(venue.seats[number])
        free = await service.free(event_id=venue.event_id)
        assert venue.seats[number] not in free
        return answer.status_code

    wipes = (wipe(servers) for _ in range(10))
    statuses, _ = await asyncio.gather(
        asyncio.gather(*map(book, range(20))), asyncio.gather(*wipes)
    )
    assert set(statuses) == {201}
    assert await service.booked(venue) == venue.seats


async def test_one_worker_is_cut_off(servers: local.Servers) -> None:
    """A worker without Redis tells nobody, so its answer waits until nobody can be wrong."""
    one = worker(servers, cache_ttl_ms=300)
    other = worker(servers, cache_ttl_ms=300, redis_url=NOBODY_HERE)
    async with one as whole, other as cut_off:
        venue = await whole.add_event()
        await check_round(venue, cut_off, whole, cut_off)
        await check_round(venue, whole, cut_off, whole)


async def test_second_read_does_not_touch_postgresql(servers: local.Servers) -> None:
    """The entry answers while the table is locked; without it the same read fails."""
    async with worker(servers, cache_ttl_ms=5000) as service:
        await service.free()
        async with locked_seats(service):
            assert await service.free() == set(range(1, 81))
            await wipe(servers)
            answer = await service.client.get("/seats")
    problem_of(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_workers_share_the_entry(servers: local.Servers) -> None:
    """What one worker filled, another reads from Redis, without PostgreSQL."""
    async with worker(servers, cache_ttl_ms=5000) as one, worker(servers) as two:
        await two.free()
        person = await one.newcomer()
        assert (await person.book(1)).status_code == 201
        assert 1 not in await one.free()
        async with locked_seats(one):
            assert await two.free() == set(range(2, 81))


async def test_expired_hold_is_free_again(servers: local.Servers) -> None:
    """An entry lives no longer than the next hold in it, however long its own TTL."""
    async with worker(servers, cache_ttl_ms=5000) as service:
        person = await service.newcomer()
        await hold(service, person.id, seat_id=1)
        assert 1 not in await service.free()

        async def is_free() -> bool:
            return 1 in await service.free()

        await until(is_free, limit_s=3)


async def hold(service: Service, user_id: str, seat_id: int) -> None:
    """Hold a seat for a short while."""
    await service.sql(
        "with hold as ("
        "  insert into holds select * from json_populate_record(null::holds, json_build_object("
        "    'id', gen_random_uuid(), 'event_id', 1, 'user_id', $1::text, 'quantity', 1,"
        "    'seat_ids', array[$2::bigint], 'seats', '[]'::json, 'created_at', now(),"
        "    'first_expires_at', now(), 'expires_at', now() + interval '400 ms')) returning *)"
        " update seats set hold_id = hold.id, held_until = hold.expires_at,"
        " changed = pg_current_xact_id() from hold where seats.id = $2",
        user_id, seat_id,
    )  # fmt: skip


async def test_default_event_is_a_setting(servers: local.Servers, test_settings: Settings) -> None:
    """`GET /seats` shows the event that SEATSVC_DEFAULT_EVENT names."""
    async with serve(test_settings) as service:
        venue = await service.add_event(seats=2)
        assert await service.free() == set(range(1, 81))
    async with worker(servers, default_event=venue.event_id) as service:
        assert await service.free() == set(venue.seats)
