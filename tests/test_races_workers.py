"""The races again, between processes: `seatsvc serve` twice on the same servers."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from seatsvc.settings import Settings
from tests.conftest import Service
from tests.test_races import one_seat, overlapping_fours, shared_seat
from tests.test_races_best import FIELD, STALLS, last_places
from tests.test_races_holds import expiry_against_booking, hand_over
from tests.test_races_limits import last_ticket, one_key, one_user, types_share_the_places
from tests.test_races_readers import reader_fleet

Pair = tuple[Service, Service]
POLLS_MAX = 300
POLL_S = 0.1
STOP_S = 20


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process is given them."""
    return {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "JWT_SECRET": settings.jwt_secret.get_secret_value(),
        "SEATSVC_CACHE_TTL_MS": str(settings.cache_ttl_ms),
        "SEATSVC_DRAIN_MS": str(settings.drain_ms),
    }


@contextmanager
def worker(settings: Settings, folder: Path, *options: str) -> Iterator[str]:
    """A process that serves; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "seatsvc", "serve", "--port", str(port), *options],
            env=os.environ | environment(settings),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(STOP_S) in (0, -15)
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the process there, once it answers."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        for _ in range(POLLS_MAX):
            try:
                if (await client.get("/readyz")).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(POLL_S)
        yield client


@pytest.fixture(scope="module")
async def pair(shared: Service, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Two processes on the servers of the shared service, which only looks into the database."""
    folder = tmp_path_factory.mktemp("workers")
    with worker(shared.settings, folder) as first, worker(shared.settings, folder) as second:
        async with client_of(first) as one, client_of(second) as two:
            yield replace(shared, url=first, client=one), replace(shared, url=second, client=two)


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.slow)])
async def test_64_clients_take_4_of_12_seats(pair: Pair, rounds: int) -> None:
    """Overlapping holds and bookings race with their cancellations, for many rounds."""
    await overlapping_fours(*pair, clients=64, rounds=rounds)


@pytest.mark.parametrize("writes", [200, pytest.param(1000, marks=pytest.mark.slow)])
async def test_readers_during_writes(pair: Pair, writes: int) -> None:
    """Readers of one process race with the writers of the other."""
    writer, reader = pair
    await reader_fleet(writer, reader, writes=writes)


async def test_one_seat(pair: Pair) -> None:
    """Buyers of one seat race, and persist until they know."""
    await one_seat(*pair, count=60)


async def test_seat_that_all_want(pair: Pair) -> None:
    """Pairs that overlap in one seat race."""
    await shared_seat(*pair, count=32)


async def test_seats_that_change_hands(pair: Pair) -> None:
    """Cancellations, releases and expiries race with bookings, and holds with rivals."""
    await expiry_against_booking(*pair, count=32)
    await hand_over(*pair, count=24)


async def test_limits(pair: Pair) -> None:
    """Ticket types, one user's limits and one key are raced for."""
    await last_ticket(*pair, count=32)
    await types_share_the_places(*pair)
    for what in (["bookings"], ["holds", "bookings"]):
        assert (await one_user(*pair, what=what, max_seats=2))["201"] == 2
    assert (await one_user(*pair, max_today=1))["201"] == 1
    await one_key(*pair)


async def test_last_places(pair: Pair) -> None:
    """Buyers of the best places race for a hall of seats and a field."""
    await last_places(*pair, sections=[STALLS, FIELD], quantities=[2, 1, 3], count=30)
