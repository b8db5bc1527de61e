"""Real servers for the whole run; a fresh database, a wiped Redis and a service for each test."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Any, cast
from uuid import uuid4

import asyncpg
import httpx
import pytest
import redis.asyncio
import uvicorn

from seatsvc import app as wiring
from seatsvc import local, patience, settings, telemetry
from seatsvc.accounts import fold
from seatsvc.api import crowd
from seatsvc.api.deps import State
from seatsvc.cli import SERVER_OPTIONS
from seatsvc.events import EventDraft, RowDraft, SectionDraft
from seatsvc.settings import Settings
from seatsvc.tokens import Token

SECRET = "a-test-key-of-more-than-thirty-two-bytes"
PASSWORD = "correct horse battery"
TEMPLATE = "seatsvc_template"
# Transactions that the service has open.
OPEN = """
select count(*) from pg_stat_activity
 where application_name = 'seatsvc' and datname = current_database() and state <> 'idle'"""
Client = httpx.AsyncClient


def pytest_configure() -> None:
    """Most clients share the service's event loop here: that they keep it busy is not its fault."""
    patience.TURN_S = patience.ANSWER_S = crowd.LATE_S = 30.0


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What is written to the log meanwhile."""
    written = StringIO()
    before = telemetry.lines.setStream(cast(Any, written))
    yield written
    if before is not None:
        telemetry.lines.setStream(before)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Servers]:
    """A PostgreSQL and a Redis of this run's own."""
    with local.servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


def make_settings(servers: local.Servers, database: str, **overrides: Any) -> Settings:
    """Settings for a database of these servers."""
    base = servers.database_url.rpartition("/")[0]
    values: dict[str, Any] = {
        "database_url": f"{base}/{database}",
        "redis_url": servers.redis_url,
        "jwt_secret": SECRET,
        "env": "dev",
        "bcrypt_cost": 4,
        "rate_limits": "off",
        "drain_ms": 0,
        "_env_file": None,
    }
    return settings.load(**values | overrides)


@pytest.fixture(scope="session")
async def superuser(servers: local.Servers) -> AsyncIterator[asyncpg.Connection]:
    """Makes and drops databases."""
    connection = await asyncpg.connect(servers.database_url)
    # The tests stop servers, but not the machine: what PostgreSQL wrote is safe without a sync.
    await connection.execute("alter system set fsync = off")
    await connection.execute("select pg_reload_conf()")
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def template(servers: local.Servers, superuser: asyncpg.Connection) -> str:
    """A migrated database with the demo event, which each test's own is copied from."""
    await superuser.execute(f"create database {TEMPLATE}")
    async with wiring.wired(make_settings(servers, TEMPLATE, demo=True)) as state:
        await wiring.prepare(state)
    return TEMPLATE


async def _wipe_redis(servers: local.Servers) -> None:
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await client.flushall()


@pytest.fixture
async def empty_database(superuser: asyncpg.Connection) -> AsyncIterator[str]:
    """A database with nothing in it."""
    await superuser.execute("create database test")
    yield "test"
    await superuser.execute("drop database test with (force)")


@pytest.fixture
async def test_settings(
    servers: local.Servers, superuser: asyncpg.Connection, template: str
) -> AsyncIterator[Settings]:
    """Settings that name a fresh database with the demo event, and a wiped Redis."""
    await superuser.execute(f"create database test template {template}")
    await _wipe_redis(servers)
    yield make_settings(servers, "test")
    await superuser.execute("drop database test with (force)")


@dataclass(frozen=True)
class Venue:
    """An event and its seats."""

    event_id: int
    seats: list[int]


@dataclass
class Service:
    """A running service, seen from outside and from inside."""

    url: str
    state: State
    settings: Settings
    client: Client
    pool: asyncpg.Pool

    async def sign_up(self, username: str, role: str = "attendee") -> "Person":
        """A new user, logged in."""
        accounts = self.state["accounts"]
        user = await accounts.register(username, PASSWORD, role=role)
        pair = await accounts.login(fold(username), PASSWORD)
        headers = {"Authorization": f"Bearer {pair.access_token}"}
        return Person(self.client, headers, str(user.id), username)

    async def sign_up_many(self, count: int) -> list["Person"]:
        """Many new users."""
        few = asyncio.Semaphore(8)

        async def one(number: int) -> Person:
            async with few:
                return await self.sign_up(f"user{number}")

        return await asyncio.gather(*map(one, range(count)))

    async def newcomer(self) -> "Person":
        """A new user, with a name of their own."""
        return await self.sign_up(f"user-{uuid4().hex}")

    async def add_event(self, *sections: SectionDraft, seats: int = 3, **more: Any) -> Venue:
        """A new event; its hall is one row of seats, if no sections are given."""
        row = RowDraft("1", [str(n + 1) for n in range(seats)])
        draft = EventDraft("Event", [*sections] or [SectionDraft("A", [row])], **more)
        event_id = await self.state["events"].create(draft)
        rows = await self.sql("select id from seats where event_id = $1 order by id", event_id)
        return Venue(event_id, [row["id"] for row in rows])

    async def booked(self, venue: Venue) -> list[int]:
        """The seats of the event's active bookings, as the database has them."""
        rows = await self.sql(
            "select seat_id from booking_seats join bookings b on b.id = booking_id"
            " where event_id = $1 and status = 'active' order by seat_id",
            venue.event_id,
        )
        return [row["seat_id"] for row in rows]

    async def sql(self, query: str, *args: object) -> list[asyncpg.Record]:
        """What the database says."""
        return list(await self.pool.fetch(query, *args))

    async def free(self, **params: Any) -> set[int]:
        """The ids that `GET /seats` shows."""
        answer = await self.client.get("/seats", params=params)
        assert answer.status_code == 200, answer.text
        return {seat["id"] for seat in answer.json()["items"]}


@dataclass(frozen=True)
class Person:
    """A logged-in user's calls."""

    client: Client
    headers: dict[str, str]
    id: str
    username: str

    async def call(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Any call, as this user."""
        headers = self.headers | kwargs.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **kwargs)

    async def book(self, *seat_ids: int, key: str | None = None, **more: Any) -> httpx.Response:
        """Book these seats."""
        headers = {"Idempotency-Key": key} if key else {}
        body = {"seat_ids": list(seat_ids), **more}
        return await self.call("POST", "/bookings", json=body, headers=headers)


def buyer(service: Service, person: Person) -> Token:
    """What the person's token says."""
    token = person.headers["Authorization"].removeprefix("Bearer ")
    return service.state["sessions"].claimed(token)


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a refusal, checked for what every one holds."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = cast(dict[str, Any], answer.json())
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["type"] == f"urn:seatsvc:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


async def until(holds: Callable[[], Awaitable[bool]], limit_s: float = 5) -> None:
    """Ask again and again, until it holds."""
    async with asyncio.timeout(limit_s):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


class _Server(uvicorn.Server):
    """Sees soon that it should end."""

    async def main_loop(self) -> None:
        await until(partial(self.on_tick, 0), limit_s=3600)


@asynccontextmanager
async def serve(current: Settings, port: int = 0) -> AsyncIterator[Service]:
    """Serve on a free port, or on this one, over real sockets."""
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    # As uvloop does by itself; else a client that keeps its connection waits 40 ms for each body.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = _Server(uvicorn.Config(wiring.create_app(current), **SERVER_OPTIONS))
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:
        assert not task.done(), "the service did not start"
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    # Without TLS there is no need to load certificates, which takes long.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    database = asyncpg.create_pool(current.database_url.get_secret_value(), min_size=0)
    try:
        async with (
            Client(base_url=url, timeout=30, limits=limits, verify=tls) as client,
            database as pool,
        ):
            yield Service(url, cast(State, server.lifespan.state), current, client, pool)
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def service(test_settings: Settings) -> AsyncIterator[Service]:
    """The service on a fresh database with the demo event: seats 1 to 80."""
    async with serve(test_settings) as running:
        yield running


@pytest.fixture(scope="module")
async def shared(
    servers: local.Servers, superuser: asyncpg.Connection, template: str
) -> AsyncIterator[Service]:
    """One service for a whole file, whose tests keep to users and events of their own."""
    await superuser.execute(f"create database shared template {template}")
    await _wipe_redis(servers)
    # Its own Redis database, since its events have the same ids as those of `service`.
    redis_url = servers.redis_url.rpartition("/")[0] + "/1"
    async with serve(make_settings(servers, "shared", redis_url=redis_url)) as running:
        yield running
    await superuser.execute("drop database shared with (force)")


@pytest.fixture
async def ann(shared: Service) -> Person:
    """A logged-in attendee of the shared service."""
    return await shared.newcomer()


@pytest.fixture
async def ben(shared: Service) -> Person:
    """Another."""
    return await shared.newcomer()


@pytest.fixture
def client(service: Service) -> Client:
    """Nobody in particular."""
    return service.client


@pytest.fixture
async def alice(service: Service) -> Person:
    """A logged-in attendee."""
    return await service.sign_up("alice")


@pytest.fixture
async def bob(service: Service) -> Person:
    """Another."""
    return await service.sign_up("bob")
