"""Real servers for the whole run; a fresh database, a wiped Redis and a service for each test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import asyncpg
import httpx
import pytest
import redis.asyncio
import uvicorn

from seatsvc import app as wiring
from seatsvc import local, settings
from seatsvc.accounts import fold
from seatsvc.api.deps import State
from seatsvc.cli import SERVER_OPTIONS
from seatsvc.settings import Settings

SECRET = "a-test-key-of-more-than-thirty-two-bytes"
PASSWORD = "correct horse battery"
TEMPLATE = "seatsvc_template"
Client = httpx.AsyncClient


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
        "_env_file": None,
    }
    return settings.load(**values | overrides)


@pytest.fixture(scope="session")
async def template(servers: local.Servers) -> str:
    """A migrated database with the demo event, which each test's own is copied from."""
    await _sql(servers, f"create database {TEMPLATE}")
    async with wiring.wired(make_settings(servers, TEMPLATE, demo=True)) as state:
        await wiring.prepare(state)
    return TEMPLATE


async def _sql(servers: local.Servers, statement: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def empty_database(servers: local.Servers) -> AsyncIterator[str]:
    """A database with nothing in it."""
    await _sql(servers, "create database test")
    yield "test"
    await _sql(servers, "drop database test with (force)")


@pytest.fixture
async def test_settings(servers: local.Servers, template: str) -> AsyncIterator[Settings]:
    """Settings that name a fresh database with the demo event, and a wiped Redis."""
    await _sql(servers, f"create database test template {template}")
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await client.flushall()
    yield make_settings(servers, "test")
    await _sql(servers, "drop database test with (force)")


@dataclass
class Service:
    """A running service, seen from outside and from inside."""

    url: str
    state: State
    settings: Settings
    client: Client

    async def sign_up(self, username: str, role: str = "attendee") -> "Person":
        """A new user, logged in."""
        accounts = self.state["accounts"]
        user = await accounts.register(username, PASSWORD, role=role)
        pair = await accounts.login(fold(username), PASSWORD)
        headers = {"Authorization": f"Bearer {pair.access_token}"}
        return Person(self.client, headers, str(user.id), username)

    async def sign_up_many(self, count: int) -> list["Person"]:
        """Many new users."""
        return await asyncio.gather(*(self.sign_up(f"user{n}") for n in range(count)))

    async def sql(self, query: str, *args: object) -> list[asyncpg.Record]:
        """What the database says."""
        connection = await asyncpg.connect(self.settings.database_url.get_secret_value())
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args)
        finally:
            await connection.close()
        return rows

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


@asynccontextmanager
async def serve(current: Settings) -> AsyncIterator[Service]:
    """Serve on a free port, over real sockets."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(uvicorn.Config(wiring.create_app(current), **SERVER_OPTIONS))
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:
        assert not task.done(), "the service did not start"
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with Client(base_url=url, timeout=30, limits=limits) as client:
        yield Service(url, cast(State, server.lifespan.state), current, client)
    server.should_exit = True
    await task


@pytest.fixture
async def service(test_settings: Settings) -> AsyncIterator[Service]:
    """The service on a fresh database with the demo event: seats 1 to 80."""
    async with serve(test_settings) as running:
        yield running


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
