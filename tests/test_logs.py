"""What the service's logs must never hold, looked for after all that could put it there."""

import json
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
import pytest
from fastapi.exceptions import ResponseValidationError
from pydantic import TypeAdapter, ValidationError

from seatsvc.settings import Settings
from seatsvc.telemetry import JsonLines, PlainLines
from tests.connection import connected
from tests.gate import Gate, gate
from tests.test_races_workers import client_of

STOP_S = 20
WORD = "hidden-word"
JSON = {"Content-Type": "application/json"}


@dataclass
class Journey:
    """A user whose every secret can be recognised, and what they do."""

    url: str
    client: httpx.AsyncClient
    username: str = field(default_factory=lambda: f"name-{secrets.token_hex(8)}")
    email: str = field(default_factory=lambda: f"mail-{secrets.token_hex(8)}@example.org")
    name: str = field(default_factory=lambda: f"Full Name {secrets.token_hex(8)}")
    password: str = field(default_factory=lambda: f"word-{secrets.token_hex(8)}")
    key: str = field(default_factory=lambda: f"key-{secrets.token_hex(8)}")
    tokens: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def secrets(self) -> list[str]:
        """What no log may hold."""
        written = (self.username, self.email, self.name, self.password, self.key, *self.tokens)
        return [*written, quote(self.email), self.password.upper()]

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any call, with the newest token."""
        headers = {"Authorization": f"Bearer {self.tokens[-2]}"} if self.tokens else {}
        headers |= more.pop("headers", {})
        answer = await self.client.request(method, path, headers=headers, **more)
        self.statuses.append(answer.status_code)
        return answer

    async def sign_up(self) -> None:
        """Register and log in, in each way."""
        account = {"username": self.username, "email": self.email, "name": self.name}
        login = {"username": self.username, "password": self.password}
        await self.call("POST", "/auth/register", json=account | login)
        await self.call("POST", "/auth/login", json=login | {"username": self.email})
        await self.call("POST", "/auth/token", data=login)
        answer = await self.call("POST", "/auth/login", json=login)
        self.tokens += [answer.json()["access_token"], answer.json()["refresh_token"]]

    async def book(self) -> None:
        """Look around, hold, book."""
        for path in ("/me", "/seats", "/bookings", "/events"):
            assert (await self.call("GET", path)).status_code == 200
        headers = {"Idempotency-Key": self.key}
        for body in ({"seat_id": 1}, {"seat_id": 1}, {"seat_id": 2}):
            await self.call("POST", "/bookings", json=body, headers=headers)
        await self.call("POST", "/holds", json={"seat_id": 3}, headers=headers)

    async def err(self) -> None:
        """Put secrets where they do not belong."""
        login = {"username": self.username, "password": self.password}
        await self.call("POST", "/auth/login", json=login | {"password": self.password.upper()})
        await self.call("POST", "/auth/login", json=login | {"username": self.password + "\n"})
        await self.call("POST", "/auth/register", json=login | {"email": self.password})
        await self.call("POST", "/auth/register", json=login | {self.password: self.email})
        await self.call("POST", "/auth/register", json=[self.password])
        await self.call("POST", "/auth/login", content=json.dumps(login)[:-1], headers=JSON)
        await self.call("POST", "/auth/login", content=self.password, headers=JSON)
        await self.call("POST", "/auth/login", content=self.password * 5000, headers=JSON)
        await self.call("POST", "/auth/token", data={"username": self.email, "pass": self.password})
        await self.call("POST", "/auth/refresh", json={"refresh_token": self.tokens[0]})
        await self.call("POST", "/auth/password-reset-request", json={"email": self.email})
        await self.call("POST", "/auth/verify-email-request")
        await self.call("GET", f"/events/{self.password}", params={"token": self.tokens[0]})
        await self.call("GET", f"/{self.tokens[1]}", params={"password": self.password})
        await self.call("GET", "/seats", params={"cursor": self.password})
        await self.call("PUT", f"/auth/login?{self.password}")
        await self.call("GET", "/me", headers={"Authorization": f"Bearer {self.password}"})
        await self.call("POST", "/bookings", json={}, headers={"Idempotency-Key": self.key * 9})

    async def speak_no_http(self) -> None:
        """The same on the wire."""
        head = f"GET /{self.password} HTTP/1.1\r\nAuthorization: {self.tokens[0]}\r\n"
        for request in (head + "\x00\r\n", head + f"X-A: {self.password}\r\n" * 101 + "\r\n"):
            async with connected(self.url) as wire:
                await wire.send(request.encode())
                self.statuses.append((await wire.answer()).status)

    async def everything(self) -> None:
        """While something is out of order."""
        login = {"username": self.username, "password": self.password}
        number = len(self.statuses)
        other = {"username": f"{self.username}{number}", "email": f"{number}{self.email}"}
        await self.call("POST", "/auth/login", json=login)
        await self.call("POST", "/auth/register", json=login | other | {"name": self.name})
        for path in ("/me", "/seats", "/bookings"):
            await self.call("GET", path)
        headers = {"Idempotency-Key": f"{self.key}{number}"}
        await self.call("POST", "/bookings", json={"seat_id": number % 80 + 1}, headers=headers)


# Each makes PostgreSQL refuse, and quote the row that it refuses.
OUT_OF_ORDER = [
    f"alter table {table} add constraint out_of_order check (false) not valid"
    for table in ("users", "sessions", "refresh_tokens", "idempotency_keys", "bookings")
]
IN_ORDER = "alter table {} drop constraint out_of_order"


@contextmanager
def process(folder: Path, **environment: str) -> Iterator[tuple[str, Path]]:
    """A process that serves: its URL, and the file of all that it says."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-X", "dev", "-m", "seatsvc", "serve", "--port", str(port)]
    file = folder / "log"
    with file.open("wb") as log:
        child = subprocess.Popen(
            command, env=os.environ | environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{port}", file
        child.terminate()
        assert child.wait(STOP_S) in (0, -15)
    finally:
        child.kill()
        child.wait()


async def go_wrong(journey: Journey, pool: asyncpg.Pool, postgres: Gate, redis: Gate) -> None:
    """Everything that can."""
    await pool.execute("update events set max_bookings_per_user_per_day = null")
    await pool.execute("create unique index unforeseen on users (name)")
    for statement in OUT_OF_ORDER:
        await pool.execute(statement)
        await journey.everything()
        await pool.execute(IN_ORDER.format(statement.split()[2]))
    await redis.cut()
    await journey.everything()
    await postgres.cut()
    await journey.everything()


@pytest.mark.slow
async def test_logs_hold_no_secrets(test_settings: Settings, tmp_path: Path) -> None:
    """Neither after a journey nor after all errors; but they say what went wrong."""
    jwt, old = secrets.token_hex(32), secrets.token_hex(32)
    url = test_settings.database_url.get_secret_value()
    word = urlsplit(url).password
    assert word
    async with (
        gate(url) as postgres,
        gate(test_settings.redis_url.get_secret_value()) as redis,
        asyncpg.create_pool(url, min_size=0, max_size=1) as pool,
    ):
        environment = {
            "DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "JWT_SECRET": jwt,
            "JWT_PREVIOUS_SECRETS": old, "SEATSVC_ENV": "dev", "SEATSVC_BCRYPT_COST": "4",
            "SEATSVC_RATE_LIMITS": "off",
        }  # fmt: skip
        with process(tmp_path, **environment) as (address, file):
            async with client_of(address) as client:
                journey = Journey(address, client)
                await journey.sign_up()
                await journey.book()
                await journey.err()
                await journey.speak_no_http()
                hashes = await pool.fetch("select password_hash from users")
                await go_wrong(journey, pool, postgres, redis)
        text = file.read_text()
    found = [*journey.secrets(), jwt, old, word, *(row["password_hash"] for row in hashes)]
    assert [secret for secret in found if secret in text] == []
    assert_it_says_what_went_wrong(text, journey)


def assert_it_says_what_went_wrong(text: str, journey: Journey) -> None:
    """A search through an empty file would find nothing either."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    logged = [line["status"] for line in lines if "status" in line]
    assert {200, 201, 400, 401, 405, 413, 422, 431, 500, 503} <= set(journey.statuses)
    assert {status: logged.count(status) for status in {400, 413, 431, 500}} == {
        status: journey.statuses.count(status) for status in {400, 413, 431, 500}
    }
    exceptions = [line["exception"] for line in lines if line["message"] == "unexpected error"]
    assert len(exceptions) == journey.statuses.count(500)
    assert all("Traceback" in each and "line " in each for each in exceptions)
    assert any("out_of_order" in each for each in exceptions)
    assert any("UniqueViolationError" in each and "unforeseen" in each for each in exceptions)


async def sql_error(pool: asyncpg.Pool, statement: str, *args: object) -> BaseException:
    """What PostgreSQL says to this."""
    with pytest.raises(asyncpg.PostgresError) as raised:
        await pool.execute(statement, *args)
    return raised.value


def validation_error() -> BaseException:
    """What pydantic says to a secret."""
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(int).validate_python(WORD)
    return raised.value


def response_error() -> BaseException:
    """What FastAPI says to a secret in an answer of ours."""
    details = {"type": "int_parsing", "loc": ("response", "id"), "input": WORD}
    return ResponseValidationError(errors=[details], body={"id": WORD})


@pytest.fixture
async def errors(test_settings: Settings) -> list[BaseException]:
    """One of each kind, each of which quotes the hidden word."""
    url = test_settings.database_url.get_secret_value()
    async with asyncpg.create_pool(url, min_size=0, max_size=1) as pool:
        data = await sql_error(pool, "select $1::int", WORD)
        row = await sql_error(pool, "insert into users (username) values ($1)", WORD)
    return [data, row, validation_error(), response_error()]


def formatted(formatter: logging.Formatter, error: BaseException) -> str:
    """A line of the log that is about this error."""
    try:
        raise error
    except Exception:
        exc_info = sys.exc_info()
    return formatter.format(
        logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), exc_info)
    )


@pytest.mark.parametrize("formatter", [JsonLines(), PlainLines()])
def test_messages_that_quote(errors: list[BaseException], formatter: logging.Formatter) -> None:
    """Their values are left out, wherever in a chain or a group they are."""
    for error in errors:
        assert WORD in str(error)
        outer = RuntimeError("outer")
        outer.__cause__ = error
        context = RuntimeError("outer")
        context.__context__ = error
        group = BaseExceptionGroup("outer", [error])
        for each in (error, outer, context, group):
            line = formatted(formatter, each)
            assert WORD not in line
            assert type(error).__name__ in line
            assert "test_logs.py" in line
            assert each is error or "outer" in line


def test_chain_without_an_end() -> None:
    """Is told once."""
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    line = formatted(PlainLines(), first)
    assert (line.count("RuntimeError: first"), line.count("RuntimeError: second")) == (1, 1)


def test_context_that_was_suppressed() -> None:
    """`from None` is honoured."""
    error = RuntimeError("second")
    error.__context__, error.__suppress_context__ = RuntimeError("first"), True
    assert "first" not in formatted(PlainLines(), error)
