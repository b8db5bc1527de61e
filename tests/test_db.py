"""Migrations, named queries, and what a call on the database may cost."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from seatsvc import app, db, local, migrations
from seatsvc.errors import Unavailable
from seatsvc.settings import Settings
from tests.conftest import OPEN, PASSWORD, make_settings, until

VERSIONS = [migration.version for migration in migrations.migrations()]
TABLES = "select tablename from pg_tables where schemaname = 'public' order by tablename"


@pytest.fixture
def sql_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `sql/` that a test may change."""
    copy = tmp_path / "sql"
    shutil.copytree(db.SQL, copy)
    monkeypatch.setattr(db, "SQL", copy)
    migrations.migrations.cache_clear()
    yield copy
    migrations.migrations.cache_clear()


@pytest.fixture
async def database(test_settings: Settings) -> AsyncIterator[db.Database]:
    """A migrated database."""
    async with db.connect(test_settings) as connected:
        yield connected


@pytest.fixture
async def raw(servers: local.Servers, empty_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the empty database."""
    url = make_settings(servers, empty_database).database_url.get_secret_value()
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def prepare(servers: local.Servers, **overrides: Any) -> app.Prepared:
    """What each start does, on the test's database."""
    async with app.wired(make_settings(servers, "test", **overrides)) as state:
        return await app.prepare(state)


async def test_ten_starts_at_once(servers: local.Servers, raw: asyncpg.Connection) -> None:
    """Ten starts race on an empty database: one sets it up, the others find it done."""
    asked = {"demo": True, "admin_username": "root", "admin_password": PASSWORD}
    prepared = await asyncio.gather(*(prepare(servers, **asked) for _ in range(10)))
    assert sorted(each.migrations for each in prepared) == [[]] * 9 + [VERSIONS]
    assert [each.admin_created for each in prepared].count(True) == 1
    rows = await raw.fetch("select version from schema_migrations order by version")
    assert [row["version"] for row in rows] == VERSIONS
    assert await raw.fetchval("select count(*) from events") == 1
    assert await raw.fetchval("select count(*) from seats") == 80
    assert [row["role"] for row in await raw.fetch("select role from users")] == ["admin"]
    assert await prepare(servers, **asked) == app.Prepared([])


async def test_nothing_unasked_is_made(servers: local.Servers, raw: asyncpg.Connection) -> None:
    """Without SEATSVC_DEMO and an admin's name there is neither."""
    await prepare(servers)
    assert await raw.fetchval("select count(*) from events") == 0
    assert await raw.fetchval("select count(*) from users") == 0


async def test_changed_migration_is_refused(
    servers: local.Servers, database: db.Database, sql_copy: Path
) -> None:
    """A migration that was edited after it ran stops the start."""
    [old, *_] = sorted((sql_copy / "migrations").iterdir())
    old.write_text(old.read_text() + "\n-- an afterthought\n")
    with pytest.raises(migrations.MigrationError, match=f"{VERSIONS[0]} was changed"):
        await migrations.pending(database)
    with pytest.raises(migrations.MigrationError):
        await prepare(servers)


async def test_new_migration_is_applied_once(
    servers: local.Servers, database: db.Database, sql_copy: Path
) -> None:
    """Only what is missing runs, and is remembered."""
    new = sql_copy / "migrations" / "9999_new.sql"
    new.write_text("-- migrate:up\ncreate table new (id int);\n-- migrate:down\ndrop table new;\n")
    assert [migration.version for migration in await migrations.pending(database)] == ["9999"]
    assert (await prepare(servers)).migrations == ["9999"]
    assert await migrations.pending(database) == []
    assert (await prepare(servers)).migrations == []


async def test_failed_migration_leaves_nothing(
    servers: local.Servers, database: db.Database, sql_copy: Path
) -> None:
    """All of a migration or none of it; those before it stay."""
    for version, last in (("9998", ""), ("9999", "select 1 / 0;")):
        file = sql_copy / "migrations" / f"{version}_new.sql"
        file.write_text(f"-- migrate:up\ncreate table new_{version} ();\n{last}\n")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await prepare(servers)
    assert [migration.version for migration in await migrations.pending(database)] == ["9999"]
    async with database.connection() as connection:
        tables = [row[0] for row in await connection.fetch(TABLES)]
    assert "new_9998" in tables
    assert "new_9999" not in tables


def test_unknown_queries() -> None:
    """A name that is not in the file is an error at once."""
    with pytest.raises(KeyError):
        db.queries("bookings")["no_such_query"]
    with pytest.raises(FileNotFoundError):
        db.queries("no_such_noun")


async def test_setup_lock_is_one_process_at_a_time(test_settings: Settings) -> None:
    """Whoever comes second waits until the first has done."""
    order: list[str] = []
    entered = asyncio.Event()

    async def first() -> None:
        async with db.connect(test_settings) as database, migrations.setup_lock(database):
            entered.set()
            while not await waits_for_setup(database):
                pass
            order.append("first")

    async def second() -> None:
        await entered.wait()
        async with db.connect(test_settings) as database, migrations.setup_lock(database):
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def waits_for_setup(database: db.Database) -> bool:
    """Does anybody stand before the setup lock?"""
    async with database.connection() as connection:
        return bool(
            await connection.fetchval(
                "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
            )
        )


async def test_setup_lock_ends_with_its_block(test_settings: Settings) -> None:
    """Even when the block fails; and the connection has its timeouts again."""
    current = test_settings.model_copy(update={"pool_size": 2})
    async with db.connect(current) as database:
        async with database.connection() as connection:
            before = await timeouts(connection)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="mine"):
                async with migrations.setup_lock(database):
                    raise RuntimeError("mine")
        async with database.connection() as one, database.connection() as two:
            assert await timeouts(one) == await timeouts(two) == before
            held = await one.fetchval("select count(*) from pg_locks where locktype = 'advisory'")
    assert held == 0


async def timeouts(connection: db.Connection) -> list[str]:
    """Of this session."""
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    return [str(await connection.fetchval(f"show {name}")) for name in names]


async def test_sessions_give_up_in_time(database: db.Database) -> None:
    """No statement, lock or forgotten transaction lasts; times are UTC."""
    async with database.connection() as connection:
        assert await timeouts(connection) == ["500ms", "1500ms", "1500ms"]
        assert await connection.fetchval("show timezone") == "UTC"


async def test_full_pool(test_settings: Settings) -> None:
    """When every connection is out, the next call is Unavailable, not a hang; then all is well."""
    current = test_settings.model_copy(update={"pool_size": 2})
    ping = db.queries("db")["ping"]
    async with db.connect(current) as database:
        async with database.connection(), database.connection():
            with pytest.raises(Unavailable):
                await database.only(ping)
        assert await asyncio.gather(*(database.only(ping) for _ in range(20))) == [1] * 20
        assert database.usage() == {"open": 2, "idle": 2, "max": 2}


async def test_slow_statement_is_unavailable(database: db.Database) -> None:
    """A statement over its time is cut off, and its connection is good again."""

    async def too_slow() -> None:
        async with database.transaction() as connection:
            await connection.execute("set local statement_timeout = '10ms'")
            await connection.execute("select pg_sleep(10)")

    with pytest.raises(Unavailable):
        await too_slow()
    assert await database.only(db.queries("db")["ping"]) == 1


async def test_failed_transaction_is_rolled_back(database: db.Database) -> None:
    """Nothing of it stays."""

    async def fails() -> None:
        async with database.transaction() as connection:
            await connection.execute("delete from schema_migrations")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await fails()
    assert await migrations.pending(database) == []


async def test_connection_is_kept(database: db.Database) -> None:
    """The one used last is used next, and one that has ended is not."""
    own = "select pg_backend_pid()"

    async def one_is_open() -> bool:
        return database.usage()["open"] == 1

    async with database.connection() as one, database.connection() as two:
        first, second = await one.fetchval(own), await two.fetchval(own)
    async with database.connection() as one:
        assert await one.fetchval(own) == first
        await one.execute("select pg_terminate_backend($1)", second)
    await until(one_is_open)
    assert database.usage()["idle"] == 1
    async with database.connection() as one, database.connection() as two:
        assert await one.fetchval(own) == first
        assert await two.fetchval(own) != second


async def test_who_was_lost_meanwhile_is_not_kept(database: db.Database) -> None:
    """When one connection turns out to lead nowhere, neither do those in use, nor those kept."""
    async with database.connection(), database.connection():
        pass
    assert database.usage()["idle"] == 2
    async with database.connection() as in_use:
        with pytest.raises(asyncpg.InterfaceError):
            async with database.connection(), database.connection():
                raise asyncpg.InterfaceError("it has ended")
        assert await in_use.fetchval("select 1") == 1
    assert database.usage()["open"] == 0


async def test_close_does_not_wait_for_each(test_settings: Settings) -> None:
    """When PostgreSQL answers nobody, all connections are given up together."""
    current = test_settings.model_copy(update={"pool_size": 40})
    clock = asyncio.get_running_loop().time
    async with AsyncExitStack() as cleanup:
        async with db.connect(current) as database:
            async with AsyncExitStack() as stack:
                for _ in range(current.pool_size):
                    connection = await stack.enter_async_context(database.connection())
                    backend = await connection.fetchval("select pg_backend_pid()")
                    os.kill(backend, signal.SIGSTOP)
                    cleanup.callback(os.kill, backend, signal.SIGCONT)
            closed_at = clock()
        assert clock() - closed_at < 1


async def test_interrupted_call_leaves_no_transaction_open(
    database: db.Database, test_settings: Settings
) -> None:
    """Not even between its parts: the query is known then, and not run yet."""
    observer = await asyncpg.connect(test_settings.database_url.get_secret_value())

    async def none_is_open() -> bool:
        return not await observer.fetchval(OPEN)

    for number in range(150):
        query = db.Query(f"select $1::int + {number}")  # a new one each time, so that it has parts
        call = asyncio.create_task(database.fetch(query, 1))
        for _ in range(number % 15):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        await until(none_is_open)
    await observer.close()
