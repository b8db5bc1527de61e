"""Readers against writers: after a 201 nobody is shown the seat free, on any service."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from seatsvc import local, seats
from seatsvc.scripts import Redis, Script
from seatsvc.settings import Settings
from tests.conftest import Person, Service, Venue, make_settings, serve
from tests.test_races import NOBODY_HERE, buyers, code_of, crowd, together

PATIENCE_S = 10
POLLS_MAX = 100
LATE_S = 0.1


class Sold:
    """Which seats are sold for certain: from a 201's end to the start of the cancellation."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.sales: dict[int, object] = {}
        self.writers = 0
        self.looked_at = asyncio.Event()

    async def write(self, person: Person, seat_ids: Sequence[int], writes: int) -> None:
        """Book or hold these seats in turn; give each back when the next but one is sold.

        Nobody ends before a reader has looked while something was sold, however slow readers are.
        """
        self.writers += 1
        try:
            mine: deque[tuple[int, str]] = deque()
            for n in range(writes // 2):
                seat_id = seat_ids[n % len(seat_ids)]
                mine.append((seat_id, await self._sell(person, seat_id, n)))
                if len(mine) == len(seat_ids):
                    await self._give_back(person, *mine.popleft())
            await asyncio.wait_for(self.looked_at.wait(), PATIENCE_S)
            for each in mine:
                await self._give_back(person, *each)
        finally:
            self.writers -= 1

    async def _sell(self, person: Person, seat_id: int, n: int) -> str:
        what = "bookings" if n % 4 else "holds"
        answer = await person.call("POST", f"/{what}", json={"seat_id": seat_id})
        assert code_of(answer) == "201", answer.text
        self.sales[seat_id] = answer
        return f"/{what}/{answer.json()['id']}"

    async def _give_back(self, person: Person, seat_id: int, path: str) -> None:
        del self.sales[seat_id]
        answer = await person.call("DELETE", path)
        assert code_of(answer) in ("200", "204"), answer.text

    async def watch(self, service: Service, number: int) -> None:
        """Read as long as anybody writes; what was sold all the while must not be free."""
        while self.writers:
            before = dict(self.sales)
            free = await shown(service, self.venue, number)
            still = {seat_id for seat_id, sale in before.items() if self.sales.get(seat_id) is sale}
            assert not free & still, f"shown free: {free & still}"
            if still:
                self.looked_at.set()


async def shown(service: Service, venue: Venue, number: int = 0) -> set[int]:
    """The free seats, from one or the other of the calls that show them."""
    if number % 2 == 0:
        return await service.free(event_id=venue.event_id)
    answer = await service.client.get(f"/events/{venue.event_id}/availability")
    assert answer.status_code == 200, answer.text
    states = "".join(section["states"] for section in answer.json()["sections"])
    return {seat_id for seat_id, state in zip(venue.seats, states, strict=True) if state == "f"}


async def reader_fleet(
    writer: Service, *readers: Service, writes: int = 100, writers: int = 8, fleet: int = 3
) -> None:
    """Readers watch a hall at one service while it is booked and cancelled at another."""
    venue = await writer.add_event(seats=3 * writers)
    sold = Sold(venue)
    people = await crowd(writer, count=writers)
    writing = [
        asyncio.create_task(sold.write(person, venue.seats[n::writers], writes // writers))
        for n, person in enumerate(people)
    ]
    await asyncio.sleep(0)
    watching = (sold.watch(readers[n % len(readers)], n // len(readers)) for n in range(fleet))
    await together([*watching, *writing])
    assert await buyers(writer, venue) == {}
    for reader in (writer, *readers):
        assert await shown(reader, venue) == set(venue.seats)


async def read_after_write(writer: Service, reader: Service) -> None:
    """What a service answered, another shows at once, though it has just looked."""
    venue = await writer.add_event()
    [person] = await crowd(writer, count=1)
    for what in ("bookings", "holds"):
        assert await shown(reader, venue) == set(venue.seats)
        answer = await person.call("POST", f"/{what}", json={"seat_id": venue.seats[0]})
        assert code_of(answer) == "201"
        for number in range(4):
            assert venue.seats[0] not in await shown(reader, venue, number), "shown free"
        answer = await person.call("DELETE", f"/{what}/{answer.json()['id']}")
        assert code_of(answer) in ("200", "204")
        await free_again(reader, venue)


async def free_again(reader: Service, venue: Venue) -> None:
    """Return when all seats are shown free."""
    for _ in range(POLLS_MAX):
        if await shown(reader, venue) == set(venue.seats):
            return
        await asyncio.sleep(LATE_S)
    raise AssertionError("never came free")


@contextmanager
def held_up(redis: Redis) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Who stores a fill first, sets the first event, and waits for the second."""
    reached, go, run = asyncio.Event(), asyncio.Event(), redis.run

    async def run_late(script: Script, keys: Sequence[str], *args: str | bytes | int) -> Any:
        if script is seats.STORE and not reached.is_set():
            reached.set()
            await go.wait()
        return await run(script, keys, *args)

    with patch.object(redis, "run", run_late):
        try:
            yield reached, go
        finally:
            go.set()


async def overtaken_fill(writer: Service, reader: Service, *, meanwhile: bool = True) -> None:
    """A reader has looked, a write overtakes it, then it stores what it saw: neither who reads
    meanwhile nor who reads afterwards is shown that."""
    venue = await writer.add_event()
    [person] = await crowd(writer, count=1)
    with held_up(reader.state["redis"]) as (reached, go):
        early = asyncio.create_task(shown(reader, venue))
        async with asyncio.timeout(PATIENCE_S):
            await reached.wait()
        answer = await person.book(venue.seats[0])
        late = asyncio.create_task(shown(reader, venue) if meanwhile else asyncio.sleep(0, set()))
        await asyncio.wait({late}, timeout=LATE_S)
        go.set()
        await together([early, late])
    assert code_of(answer) == "201"
    assert venue.seats[0] not in await shown(reader, venue), "shown free"
    assert venue.seats[0] not in late.result(), "shown free"


@asynccontextmanager
async def one_cut_off(servers: local.Servers) -> AsyncIterator[tuple[Service, Service]]:
    """Two services on the test's database, of which the second reaches no Redis."""
    whole = make_settings(servers, "test", cache_ttl_ms=150)
    alone = make_settings(servers, "test", cache_ttl_ms=150, redis_url=NOBODY_HERE)
    async with serve(whole) as first, serve(alone) as second:
        yield first, second


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """Another service on the same servers."""
    async with serve(shared.settings) as running:
        yield running


async def test_readers_against_writers(shared: Service, other: Service) -> None:
    """Readers of two services race with the writers of one."""
    await reader_fleet(shared, other, shared)


async def test_read_after_write(shared: Service, other: Service) -> None:
    """A read at another service follows upon the answer."""
    await read_after_write(shared, other)
    await read_after_write(other, other)


async def test_fill_is_overtaken(shared: Service, other: Service) -> None:
    """A write comes between a reader's look into PostgreSQL and its storing what it saw."""
    for meanwhile in (True, False):
        await overtaken_fill(shared, other, meanwhile=meanwhile)
        await overtaken_fill(other, other, meanwhile=meanwhile)


async def test_writer_without_redis(servers: local.Servers, test_settings: Settings) -> None:
    """The same races where the writer, or the reader, reaches no Redis."""
    async with one_cut_off(servers) as (whole, cut_off):
        await overtaken_fill(cut_off, whole, meanwhile=False)
        await together(
            [
                read_after_write(cut_off, whole),
                read_after_write(whole, cut_off),
                reader_fleet(cut_off, whole, writes=16, writers=4),
                reader_fleet(whole, cut_off, writes=64),
            ]
        )
