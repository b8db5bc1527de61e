"""Everything that runs while measuring."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from bench import checks
from bench.client import ask_all, build
from bench.data import Hall, People, general, make_hall, make_people, numbered
from bench.processes import Server, service, serving, yardstick
from seatsvc import local, settings

TOKEN_S = 3600
WARM_SEATS = 1000
YARDSTICKS_SQL = Path(__file__).parent / "sql" / "yardsticks.sql"
Metrics = dict[str, float]
Halls = Mapping[str, Hall]


@dataclass(frozen=True)
class Bench:
    """The servers, all at once; only one of them is loaded at a time."""

    seconds: int  # a measurement
    folder: Path
    servers: local.Servers
    service: Server
    pair: Server  # with two workers
    fastapi: Server
    starlette: Server
    env: Mapping[str, str]
    people: People
    database: asyncpg.Connection
    yardsticks: asyncpg.Connection
    yardsticks_url: str
    latest: Metrics = field(default_factory=dict)

    async def make_hall(self, draft: dict[str, Any]) -> Hall:
        """A new event."""
        token = self.people.organizer_token
        return await make_hall(self.database, self.service.url, token, draft)

    async def settle(self) -> None:
        """Have PostgreSQL do now what it would else do during some measurement."""
        await self.database.execute("vacuum (analyze) seats")
        await self.database.execute("vacuum (analyze) booking_seats")
        await self.database.execute("checkpoint")


@dataclass(frozen=True)
class Scenario:
    """One measurement, and the fresh halls that it needs in each round."""

    run: Callable[[Bench, Halls], Awaitable[Metrics]]
    halls: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    async def make_halls(self, bench: Bench) -> Halls:
        """Fresh ones."""
        return {name: await bench.make_hall(draft) for name, draft in self.halls.items()}


@asynccontextmanager
async def started(servers: local.Servers, folder: Path, seconds: int) -> AsyncIterator[Bench]:
    """Start what is measured, make users, and warm everything up.

    Raises BenchError, CheckFailed.
    """
    env = {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "JWT_SECRET": secrets.token_urlsafe(48),
        "SEATSVC_RATE_LIMITS": "off",
        "SEATSVC_ACCESS_TOKEN_S": str(TOKEN_S),
    }
    async with AsyncExitStack() as stack:
        database = await _connect(stack, servers.database_url)
        await checks.check_settings(database)
        await database.execute("create database yardsticks")
        yardsticks_url = f"{servers.database_url.rpartition('/')[0]}/yardsticks"
        yardsticks = await _connect(stack, yardsticks_url)
        await yardsticks.execute(YARDSTICKS_SQL.read_text())

        async def start(name: str, *command: str | Path, **more: str) -> Server:
            running = serving(name, *command, folder=folder, env={**env, **more})
            return await stack.enter_async_context(running)

        # The first brings the schema up to date, the others find it so.
        service_ = await start("service", *service())
        pair = await start("pair", *service("--workers", "2"))
        fastapi = await start("fastapi", *yardstick("fastapi"), DATABASE_URL=yardsticks_url)
        starlette = await start("starlette", *yardstick("starlette"))
        people = await make_people(database, _settings(env))
        bench = Bench(
            seconds, folder, servers, service_, pair, fastapi, starlette, env, people,
            database, yardsticks, yardsticks_url,
        )  # fmt: skip
        await _warm_up(bench)
        yield bench


async def _connect(stack: AsyncExitStack, url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url)
    stack.push_async_callback(connection.close)
    return connection


def _settings(env: Mapping[str, str]) -> settings.Settings:
    return settings.load(
        database_url=env["DATABASE_URL"],
        redis_url=env["REDIS_URL"],
        jwt_secret=env["JWT_SECRET"],
        access_token_s=TOKEN_S,
        _env_file=None,
    )


async def _warm_up(bench: Bench) -> None:
    """Each server answers what it will be asked, so that nothing is done for the first time.

    Everyone looks around before they book: each worker has seen their tokens, or half of them.
    """
    looks = [build("GET", "/me", token) for token in bench.people.tokens]
    for server in (bench.service, bench.pair):
        await ask_all(server.url, looks, at_once=32)
    hall = await bench.make_hall(numbered(WARM_SEATS))
    field = await bench.make_hall(general(WARM_SEATS))
    half = WARM_SEATS // 2
    for server, seats in (
        (bench.service, hall.seat_ids[:half]),
        (bench.pair, hall.seat_ids[half:]),
    ):
        wanted = bench.people.by_seat(seats) + bench.people.by_event(field.event_id, half)
        requests = [build("POST", "/bookings", each.token, each.body) for each in wanted]
        reads = [f"/events/{hall.event_id}/availability", f"/seats?event_id={hall.event_id}"]
        requests += [build("GET", path) for path in reads]
        await ask_all(server.url, requests, at_once=32)
