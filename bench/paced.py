"""Bookings on a schedule: their latencies, and what others see and do meanwhile."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from bench import checks
from bench.client import Answer, Connection, Pace, build, connected, percentile_ms
from bench.data import Hall, login_requests
from bench.harness import Bench
from bench.load import CONNECTIONS, Wanted

LOOKERS = 4


@dataclass
class Look:
    """Readers who start right after a booking's answer, and must not see a seat free that was
    answered before."""

    hall: Hall
    idle: list[Connection]
    path: str
    answered: list[int] = field(default_factory=list)  # the places, in the hall's order
    reads: int = 0
    stale: int = 0
    broken: int = 0
    _looking: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def booked(self) -> int:
        """How many bookings were answered."""
        return len(self.answered)

    def after(self, seat_id: int) -> None:
        """A booking of this seat was answered just now."""
        self.answered.append(seat_id - self.hall.first_seat_id)
        if self.idle:
            task = asyncio.create_task(self._look(self.idle.pop(), len(self.answered)))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def finish(self) -> None:
        """Let the last looks end."""
        await asyncio.gather(*self._looking)

    async def _look(self, connection: Connection, known: int) -> None:
        answer = await connection.ask(build("GET", self.path))
        self.idle.append(connection)
        self.reads += 1
        if answer.status != 200:
            self.broken += 1
            return
        states = checks.states(answer)
        self.stale += sum(states[place] == "f" for place in self.answered[:known])


async def book_at(bench: Bench, hall: Hall, wanted: Sequence[Wanted], rate: float) -> float:
    """Make these bookings at this rate; their p99 in ms, from when each was due."""
    async with connected(bench.service.url, CONNECTIONS) as connections:
        pace = Pace(_requests(wanted), rate, connections[:])
        with _no_collection():
            await pace.run()
    await _check(bench, hall, wanted, pace)
    return percentile_ms(pace.latencies_s, 99)


@asynccontextmanager
async def invalidating(
    bench: Bench, hall: Hall, wanted: Sequence[Wanted], rate: float
) -> AsyncIterator[Look]:
    """Make these bookings meanwhile, each followed by a reader who checks."""
    path = f"/events/{hall.event_id}/availability"
    async with (
        connected(bench.service.url, CONNECTIONS) as connections,
        connected(bench.service.url, LOOKERS) as lookers,
    ):
        look = Look(hall, lookers[:], path)

        def heard(number: int, answer: Answer) -> None:
            seat_id = wanted[number].seat_id
            if answer.status == 201 and seat_id is not None:
                look.after(seat_id)

        pace = Pace(_requests(wanted), rate, connections[:], heard)
        bookings = asyncio.create_task(pace.run())
        try:
            yield look
            await bookings
            await look.finish()
        finally:
            bookings.cancel()
    await _check(bench, hall, wanted, pace)
    checks.require(look.reads > 0, "nobody looked after a booking")
    checks.require(not look.broken, f"{look.broken} of {look.reads} looks were not answered")
    checks.require(not look.stale, f"{look.stale} seats shown free after their booking's answer")


@asynccontextmanager
async def login_storm(url: str) -> AsyncIterator[list[Answer]]:
    """Clients who log in again and again, all the time; the answers they got."""
    answers: list[Answer] = []

    async def log_in(connection: Connection, request: bytes) -> None:
        while True:
            answers.append(await connection.ask(request))

    requests = login_requests()
    async with connected(url, len(requests)) as connections:
        clients = [
            asyncio.create_task(log_in(connection, request))
            for connection, request in zip(connections, requests, strict=True)
        ]
        try:
            yield answers
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
    statuses = {answer.status for answer in answers}
    checks.require({200} <= statuses <= {200, 503}, f"logins were answered {statuses}")


def _requests(wanted: Sequence[Wanted]) -> list[bytes]:
    return [build("POST", "/bookings", each.token, each.body) for each in wanted]


async def _check(bench: Bench, hall: Hall, wanted: Sequence[Wanted], pace: Pace) -> None:
    ids = [checks.booking_id(answer) for _, answer in pace.answers if answer.status == 201]
    others = len(wanted) - len(ids)
    checks.require(others <= len(wanted) / 100, f"{others} of {len(wanted)} bookings refused")
    await checks.check_bookings(bench.database, [hall.event_id], wanted, ids, others)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Our own garbage collection would look like the service's latency."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
