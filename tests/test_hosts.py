"""Several hosts in DATABASE_URL, and connections that lead nowhere any more."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from seatsvc import db, local
from seatsvc.errors import Unavailable
from seatsvc.hosts import Hosts
from tests.conftest import make_settings
from tests.connection import errors_in

PID = "select pg_backend_pid()"
PATIENCE_S = 10


def behind(servers: local.Servers, *first: int) -> str:
    """The server's URL, with hosts at these ports before it."""
    login, _, place = servers.database_url.partition("@")
    hosts = "".join(f"127.0.0.1:{port}," for port in first)
    return f"{login}@{hosts}{place}"


@pytest.fixture
def dead() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_finds_the_one_that_answers(servers: local.Servers, dead: int) -> None:
    """Past one that refuses and one that says nothing; the next time it is asked first."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = Hosts(behind(servers, dead, silent.getsockname()[1]))
        silent.settimeout(PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            connection = await hosts.connect()
            await connection.close()
            (await asyncio.to_thread(silent.accept))[0].close()
            again = await hosts.connect()
            await again.close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()


async def test_nobody_answers(dead: int) -> None:
    """The last one's error is told."""
    with pytest.raises(OSError, match=str(dead)):
        await Hosts(f"postgresql://u:p@127.0.0.1:{dead},127.0.0.1:{dead}/x").connect()


async def test_passes_by_who_only_reads(servers: local.Servers, empty_database: str) -> None:
    """One that takes no writes is not the one."""
    url = behind(servers).rpartition("/")[0] + f"/{empty_database}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"alter database {empty_database} set default_transaction_read_only = on")
    both = url.replace("@", "@127.0.0.1:1,")
    with pytest.raises((asyncpg.TargetServerAttributeNotMatched, OSError)):
        await Hosts(both).connect()
    await admin.close()


async def test_gives_up(servers: local.Servers, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever stops waiting for a connection leaves none behind, and no complaint in the log."""
    places = ("127.0.0.1", 0)
    with socket.create_server(places) as one, socket.create_server(places) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
        hosts = Hosts("postgresql://u:p@127.0.0.1:{},127.0.0.1:{}/x".format(*ports))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await hosts.connect()
        links = [listener.accept()[0] for listener in (one, two)]
        for link in links:
            link.settimeout(PATIENCE_S)
            while await asyncio.to_thread(link.recv, 1000):
                pass
            link.close()
    gc.collect()
    assert errors_in(caplog) == []


@asynccontextmanager
async def pool(servers: local.Servers, database: str) -> AsyncIterator[db.Database]:
    """Two open connections."""
    async with db.connect(make_settings(servers, database)) as database_pool:
        async with database_pool.connection(), database_pool.connection():
            pass
        yield database_pool


async def pids(database: db.Database) -> set[int]:
    """Of two connections."""
    async with database.connection() as one, database.connection() as two:
        return {await each.fetchval(PID) for each in (one, two)}


@pytest.mark.parametrize(
    "statement",
    [
        "set transaction read only; create table x ()",
        "select pg_terminate_backend(pg_backend_pid())",
        "select pg_sleep(60)",
    ],
)
async def test_all_connections_go(
    servers: local.Servers, empty_database: str, statement: str
) -> None:
    """One finds that its server is not the primary, or gone: its neighbours are not asked again."""
    async with pool(servers, empty_database) as database:
        before = await pids(database)
        with pytest.raises(Unavailable):
            async with database.transaction() as connection:
                await connection.execute(statement, timeout=0.2)
        assert before.isdisjoint(await pids(database))


async def test_connections_stay(servers: local.Servers, empty_database: str) -> None:
    """A statement that fails, or takes too long for the server, says nothing about the others."""
    async with pool(servers, empty_database) as database:
        before = await pids(database)
        for statement in ("select 1 / 0", "set local statement_timeout = 10; select pg_sleep(1)"):
            with pytest.raises((asyncpg.PostgresError, Unavailable)):
                async with database.transaction() as connection:
                    await connection.execute(statement)
        assert before == await pids(database)
