"""Many who watch one event while it sells: how soon they see it, and what that costs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

from bench import checks
from bench.client import Answer, Pace, build, connected, percentile_ms
from bench.data import Hall, numbered
from bench.harness import Bench, Metrics
from bench.load import CONNECTIONS
from bench.processes import rss_mib

WATCHERS = 2000
READERS = 100  # of them, who really read: the others only count
RATE = 50  # bookings a second
SECONDS = 6
BEGIN_S = 15


@dataclass
class Watcher(asyncio.Protocol):
    """One open stream."""

    request: bytes
    reads: bool
    seen_at: dict[int, float] = field(default_factory=dict)  # a seat, and when it was told of
    events: int = 0
    lost: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Some events: a change and its seats come in one piece, or nearly always do."""
        self.events += data.count(b"event: ")
        if self.reads and b"event: change" in data:
            now = perf_counter()
            for part in data.split(b'{"id":')[1:]:
                self.seen_at.setdefault(int(part[: part.index(b",")]), now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Should not happen."""
        self.lost = True


async def streams(bench: Bench) -> Metrics:
    """2,000 streams of one event with 50 bookings a second, and as many bookings without."""
    quiet, loud = [await bench.make_hall(numbered(1000)) for _ in range(2)]
    alone = await _book(bench, quiet)
    before_mib = rss_mib(bench.service.pid)
    async with _watchers(bench, loud) as watchers:
        after_mib = rss_mib(bench.service.pid)
        crowd = await _book(bench, loud)
        await asyncio.sleep(1)
        checks.require(not any(each.lost for each in watchers), "a stream broke")
        readers = [each for each in watchers if each.reads]
        late_s = [
            max(0.0, each.seen_at[seat_id] - answered_at)
            for seat_id, answered_at in crowd.answered_at.items()
            for each in readers
            if seat_id in each.seen_at
        ]
    checks.require(
        len(late_s) == len(readers) * len(crowd.answered_at), "a watcher was not told of a booking"
    )
    return {
        "streams.told_p99_ms": percentile_ms(late_s, 99),
        "streams.told_p50_ms": percentile_ms(late_s, 50),
        "streams.kib": 1024 * (after_mib - before_mib) / WATCHERS,
        "streams.booking_ms": 1000 * median(crowd.latencies_s),
        "streams.alone_ms": 1000 * median(alone.latencies_s),
    }


@dataclass
class Booked:
    """What became of the bookings."""

    latencies_s: list[float]
    answered_at: dict[int, float]


async def _book(bench: Bench, hall: Hall) -> Booked:
    wanted = bench.people.by_seat(hall.seat_ids[: RATE * SECONDS])
    requests = [build("POST", "/bookings", each.token, each.body) for each in wanted]
    answered_at: dict[int, float] = {}

    def heard(number: int, answer: Answer) -> None:
        seat_id = wanted[number].seat_id
        if answer.status == 201 and seat_id is not None:
            answered_at[seat_id] = perf_counter()

    async with connected(bench.service.url, CONNECTIONS) as connections:
        pace = Pace(requests, RATE, connections[:], heard)
        await pace.run()
    checks.require(len(answered_at) == len(wanted), "not every booking was answered with 201")
    return Booked(pace.latencies_s, answered_at)


@asynccontextmanager
async def _watchers(bench: Bench, hall: Hall) -> AsyncIterator[list[Watcher]]:
    loop, address = asyncio.get_running_loop(), urlsplit(bench.service.url)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    request = build("GET", f"/events/{hall.event_id}/stream")
    watchers = [Watcher(request, number < READERS) for number in range(WATCHERS)]
    try:
        for each in watchers:
            await loop.create_connection(partial(_itself, each), host, port)
        for _ in range(BEGIN_S):
            await asyncio.sleep(1)
            if all(each.events for each in watchers):
                break
        checks.require(all(each.events for each in watchers), "a stream did not begin")
        yield watchers
    finally:
        for each in watchers:
            if transport := getattr(each, "transport", None):
                transport.close()


def _itself(watcher: Watcher) -> Watcher:
    return watcher
