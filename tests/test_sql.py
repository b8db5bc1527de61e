"""Every named query fits the migrated schema, and the records that it fills."""

import re
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path

import asyncpg
import pytest

import seatsvc
from seatsvc import db, local
from seatsvc.accounts import User
from seatsvc.mail import Letter
from seatsvc.outbox import Claim, QueuedMail
from tests.conftest import make_settings

NOUNS = sorted(file.stem for file in db.SQL.glob("*.sql"))
QUERIES = [(noun, name) for noun in NOUNS for name in db.queries(noun)]
CODE = "".join(file.read_text() for file in Path(seatsvc.__path__[0]).rglob("*.py"))
BOOKING_COLUMNS = {
    "id", "event_id", "user_id", "status", "quantity", "total", "currency", "created_at",
    "updated_at", "cancelled_at", "seats",
}  # fmt: skip


@pytest.fixture(scope="module")
async def migrated(servers: local.Servers, template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of the present schema, that changes nothing there."""
    url = make_settings(servers, template).database_url.get_secret_value()
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def columns(connection: asyncpg.Connection, noun: str, name: str) -> set[str]:
    """What the query returns."""
    statement = await connection.prepare(db.queries(noun)[name])
    return {column.name for column in statement.get_attributes()}


@pytest.mark.parametrize(("noun", "name"), QUERIES)
async def test_query_can_be_prepared(migrated: asyncpg.Connection, noun: str, name: str) -> None:
    """Each table, column, function and type that it names is there."""
    statement = await migrated.prepare(db.queries(noun)[name])
    assert len(statement.get_parameters()) == len(set(re.findall(r"\$\d+", statement.get_query())))


@pytest.mark.parametrize(("noun", "name"), QUERIES)
def test_query_is_explained_and_used(noun: str, name: str) -> None:
    """A comment beneath the name says why it exists; its parameters are typed; code asks for it."""
    text = db.queries(noun)[name]
    assert re.match(r"-- \S.*\n", text)
    assert not re.findall(r"\$\d+(?!\d|::)", re.sub("--.*", "", text))
    assert f'"{name}"' in CODE


def test_names_are_unique() -> None:
    """In its file, a name stands for one query."""
    for noun in NOUNS:
        names = re.findall(r"^-- name: (\w+)$", (db.SQL / f"{noun}.sql").read_text(), re.MULTILINE)
        assert len(names) == len(set(names)) == len(db.queries(noun))


@pytest.mark.parametrize("name", ["create_user", "get_user"])
async def test_user_columns(migrated: asyncpg.Connection, name: str) -> None:
    """Exactly the fields of the record."""
    assert await columns(migrated, "accounts", name) == {field.name for field in fields(User)}


@pytest.mark.parametrize("name", ["book", "get_booking", "get_committed", "list_bookings"])
async def test_booking_columns(migrated: asyncpg.Connection, name: str) -> None:
    """Whichever way a booking is read, its record finds its columns."""
    assert await columns(migrated, "bookings", name) >= BOOKING_COLUMNS


@pytest.mark.parametrize(
    ("name", "record", "more"),
    [
        ("claim_mails", Claim, set()),
        ("get_mail", Letter, {"token"}),
        ("list_mails", QueuedMail, set()),
        ("retry_mail", QueuedMail, set()),
    ],
)
async def test_mail_columns(
    migrated: asyncpg.Connection, name: str, record: type, more: set[str]
) -> None:
    """Exactly the fields of the record, but for what is made when a mail is sent."""
    wanted = {field.name for field in fields(record)}
    assert await columns(migrated, "outbox", name) == wanted - more


def test_migrations_are_numbered() -> None:
    """From 0001 on without a gap, in dbmate's format."""
    files = sorted((db.SQL / "migrations").glob("*.sql"))
    assert [file.name[:5] for file in files] == [f"{n + 1:04}_" for n in range(len(files))]
    for file in files:
        assert re.match(r"-- migrate:up\n[\s\S]+;", file.read_text())
