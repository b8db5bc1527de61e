"""The migrations in `sql/migrations/`: what a database has of them, and still needs."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from seatsvc import db


class MigrationError(Exception):
    """The database and this version's migrations do not fit together."""


@dataclass(frozen=True)
class Migration:
    """A file of `sql/migrations/`, in dbmate's format."""

    version: str
    up: str
    checksum: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations, oldest first."""
    return tuple(_read_migration(file) for file in sorted((db.SQL / "migrations").glob("*.sql")))


def _read_migration(file: Path) -> Migration:
    text = file.read_text()
    up = text.partition("-- migrate:up")[2].partition("-- migrate:down")[0]
    return Migration(file.name.partition("_")[0], up, hashlib.sha256(text.encode()).hexdigest())


async def pending(database: db.Database) -> list[Migration]:
    """The migrations that this database still needs.

    Newer ones may be there: while a new version rolls out, the old one still runs. Raises
    MigrationError when one that ran was changed since.
    """
    sql = db.queries("db")
    rows = (
        await database.fetch(sql["get_migrations"])
        if await database.only(sql["has_migrations"])
        else []
    )
    applied = {row["version"]: row["checksum"] for row in rows}
    for migration in migrations():
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"Migration {migration.version} was changed after it ran on this database. "
                "Restore the file and put the change into a new migration."
            )
    return [migration for migration in migrations() if migration.version not in applied]


@asynccontextmanager
async def setup_lock(database: db.Database) -> AsyncIterator[None]:
    """Only one process at a time sets up a database."""
    sql = db.queries("db")
    async with database.connection() as connection:
        await connection.execute("set lock_timeout = 0; set statement_timeout = 0")
        await connection.fetchval(sql["lock_setup"], timeout=db.START_PATIENCE_S)
        try:
            yield
        finally:
            await connection.fetchval(sql["unlock_setup"])
            await connection.execute("reset lock_timeout; reset statement_timeout")


async def migrate(database: db.Database) -> list[str]:
    """Apply what is pending, each migration in its own transaction; their versions.

    The caller holds the setup lock.
    """
    sql = db.queries("db")
    await database.execute(sql["create_migrations"])
    todo = await pending(database)
    for migration in todo:
        async with database.transaction() as connection:
            await connection.execute("set local statement_timeout = 0")
            await connection.execute(migration.up, timeout=None)
            await connection.execute(sql["add_migration"], migration.version, migration.checksum)
    return [migration.version for migration in todo]
