"""PostgreSQL: the pool, and the named queries in `sql/`."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NewType

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from seatsvc import patience
from seatsvc.errors import Unavailable
from seatsvc.hosts import LOST, PASSING, REFUSED, Hosts
from seatsvc.settings import Settings, SettingsError

ACQUIRE_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 2.0
RELEASE_TIMEOUT_S = 0.05
COMMAND_TIMEOUT_S = 1.6
BRIEF_S = 1.8  # with the wait for a connection
STATEMENT_TIMEOUT_MS = 1500
LOCK_TIMEOUT_MS = 500
START_PATIENCE_S = 30.0
LONG_S = 60.0
LONG_SHARE = 3
LONG_WAIT_S = 15

# The wheel carries sql/ inside the package; a checkout has it beside the package.
_PACKAGE = Path(__file__).parent
SQL = next(folder for folder in (_PACKAGE / "sql", _PACKAGE.parent / "sql") if folder.is_dir())

Query = NewType("Query", str)
Connection = PoolConnectionProxy | asyncpg.Connection

log = logging.getLogger(__name__)


@cache
def queries(noun: str) -> dict[str, Query]:
    """The named queries of `sql/<noun>.sql`. The only source of a Query."""
    parts = re.split(r"^-- name: (\w+)\n", (SQL / f"{noun}.sql").read_text(), flags=re.MULTILINE)
    return {name: Query(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@contextmanager
def unavailable_when_down() -> Iterator[None]:
    """Turn what a sick or restarting PostgreSQL raises into Unavailable."""
    try:
        yield
    except PASSING as error:
        raise Unavailable("The database is not available. Try again in a moment.") from error


class Database:
    """A pool of connections. Every call takes one for as short as it can, and gives up in time.

    Each raises Unavailable when PostgreSQL is away or no connection is free for a second.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        # Taken from it, and idle: to be given back and taken anew costs a query's worth.
        self._kept: list[PoolConnectionProxy] = []
        # The pool itself does not serve its waiters in turn.
        self._turns = asyncio.Semaphore(pool.get_max_size())
        self._long = asyncio.Semaphore(max(1, pool.get_max_size() // LONG_SHARE))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for raw use: asyncpg's own errors pass through.

        Raises Unavailable when none can be had.
        """
        with unavailable_when_down():
            async with asyncio.timeout_at(patience.turn_by(ACQUIRE_TIMEOUT_S)):
                await self._turns.acquire()
        try:
            with unavailable_when_down():
                connection = await self._take()
            kept = self._kept  # another list when those in it are lost meanwhile
            try:
                yield connection
            except (*LOST, asyncpg.ReadOnlySQLTransactionError):
                await self._lose(connection)
                raise
            except BaseException:
                await self._give_back(connection)
                raise
            if kept is self._kept:
                kept.append(connection)
            else:
                await self._give_back(connection)
        finally:
            self._turns.release()

    async def _take(self) -> PoolConnectionProxy:
        while self._kept:
            connection = self._kept.pop()
            if _is_open(connection):
                return connection
            await self._give_back(connection)
        async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
            return await self._pool.acquire()

    async def _give_back(self, connection: PoolConnectionProxy) -> None:
        with suppress(TimeoutError):  # then it was broken off
            await self._pool.release(connection, timeout=RELEASE_TIMEOUT_S)

    async def _lose(self, *connections: PoolConnectionProxy) -> None:
        await self._pool.expire_connections()
        lost, self._kept = [*self._kept, *connections], []
        for connection in lost:
            with suppress(asyncpg.InterfaceError):  # it is closed already
                connection.terminate()  # rather than wait for who may never answer
            await self._give_back(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction at READ COMMITTED."""
        with unavailable_when_down():
            async with self.connection() as connection, connection.transaction():
                yield connection

    @asynccontextmanager
    async def long_transaction(self) -> AsyncIterator[Connection]:
        """One for work on a whole event, in a third of the pool. Calls take `timeout=LONG_S`."""
        with unavailable_when_down():
            async with asyncio.timeout(LONG_WAIT_S):
                await self._long.acquire()
        patience.lift()
        try:
            async with self.transaction() as connection:
                await connection.execute(queries("db")["allow_long"])
                yield connection
        finally:
            self._long.release()

    async def fetch(self, query: Query, *args: object) -> list[asyncpg.Record]:
        """All rows."""
        async with self._briefly() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: Query, *args: object) -> asyncpg.Record | None:
        """The first row, if any."""
        async with self._briefly() as connection:
            return await connection.fetchrow(query, *args)

    async def one(self, query: Query, *args: object) -> asyncpg.Record:
        """The only row."""
        [row] = await self.fetch(query, *args)
        return row

    async def only(self, query: Query, *args: object) -> Any:
        """The only value of the only row."""
        return (await self.one(query, *args))[0]

    async def execute(self, query: Query, *args: object) -> None:
        """No rows."""
        async with self._briefly() as connection:
            await connection.execute(query, *args)

    @asynccontextmanager
    async def _briefly(self) -> AsyncIterator[Connection]:
        with unavailable_when_down():
            async with asyncio.timeout(BRIEF_S), self.connection() as connection:
                yield connection

    def usage(self) -> dict[str, int]:
        """Connections open, idle, and allowed."""
        size, idle = self._pool.get_size(), self._pool.get_idle_size()
        idle += sum(map(_is_open, self._kept))
        return {"open": size, "idle": idle, "max": self._pool.get_max_size()}

    async def close(self) -> None:
        """Close all connections, however long those take that are still in use: 1.6 s at most."""
        with suppress(*PASSING):
            await asyncio.gather(*map(self._give_back, self._kept))
            await asyncio.wait_for(self._pool.close(), COMMAND_TIMEOUT_S)
        self._pool.terminate()


def _is_open(connection: PoolConnectionProxy) -> bool:
    with suppress(asyncpg.InterfaceError):  # it has left the pool
        return not connection.is_closed()
    return False


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Database]:
    """Open the pool, and wait for a PostgreSQL that is still starting.

    Raises Unavailable after 30 s, SettingsError when it refuses the user or the database.
    """
    pool = await _open_pool(settings)
    database = Database(pool)
    try:
        await _await_answer(pool)
        yield database
    finally:
        await database.close()


async def _open_pool(settings: Settings) -> asyncpg.Pool:
    return await asyncpg.create_pool(
        settings.database_url.get_secret_value(),
        connect=Hosts(settings.database_url.get_secret_value()).connect,
        min_size=0,
        max_size=settings.pool_size,
        statement_cache_size=settings.statement_cache,
        max_inactive_connection_lifetime=0,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings=_session(settings),
    )


async def _await_answer(pool: asyncpg.Pool) -> None:
    deadline = asyncio.get_running_loop().time() + START_PATIENCE_S
    while True:
        try:
            async with pool.acquire(timeout=CONNECT_TIMEOUT_S):
                return
        except REFUSED as error:
            raise SettingsError(f"DATABASE_URL is refused: {error}") from error
        except PASSING as error:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"No PostgreSQL at DATABASE_URL: {error}") from error
            log.warning("waiting for PostgreSQL: %s", type(error).__name__)
            await asyncio.sleep(0.5)


def _session(settings: Settings) -> dict[str, str]:
    common = {"application_name": "seatsvc", "timezone": "UTC"}
    if settings.statement_cache == 0:
        return common  # PgBouncer lets no others through: there they are set for the role
    return common | {
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
        "statement_timeout": str(STATEMENT_TIMEOUT_MS),
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
    }
