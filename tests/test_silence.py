"""PostgreSQL takes what it is told and says nothing: everybody is answered in time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from seatsvc import checkout, db, patience
from seatsvc.errors import Unavailable
from seatsvc.settings import Settings
from tests.conftest import problem_of, serve
from tests.faults.proxy import Link, Proxy, Rule, Verdict, let_pass, proxied

LONG_S = 60.0
ORDER = b'"request_hash"'  # only an order's parameters hold it
ASKED = b"pg_advisory_xact_lock"
LOST = "select 'lost'"
BOUND_S = 20.0  # far more than needed, and less than any of the waits that must not be


def silent_from(what: bytes) -> Rule:
    """From this request on: what is asked for happens, and nobody hears of it."""
    asked = asyncio.Event()

    def rule(_link: Link, chunk: bytes, is_reply: bool) -> Verdict:
        if not is_reply and what in chunk:
            asked.set()
        return Verdict.SWALLOW if is_reply and asked.is_set() else Verdict.PASS

    return rule


@asynccontextmanager
async def muffled(settings: Settings) -> AsyncIterator[tuple[Proxy, Settings]]:
    """A way to PostgreSQL, and the settings that take it."""
    async with proxied(settings.database_url.get_secret_value()) as way:
        yield way, Settings.model_validate(dict(settings) | {"database_url": way.url})


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a wait for what is never said would be noticed."""
    for name in ("ACQUIRE_TIMEOUT_S", "COMMAND_TIMEOUT_S", "CONNECT_TIMEOUT_S", "BRIEF_S"):
        monkeypatch.setattr(db, name, LONG_S)


async def late_call(database: db.Database) -> None:
    """A query takes too long."""
    async with database.connection() as connection:
        await connection.fetchval(LOST, timeout=0.05)


async def late_transaction(database: db.Database) -> None:
    """A query in a transaction does."""
    async with database.transaction() as connection:
        await connection.fetchval(LOST, timeout=0.05)


async def cancelled_transaction(database: db.Database) -> None:
    """All of it does."""
    async with asyncio.timeout(0.2), database.transaction() as connection:
        await connection.fetchval(LOST)


@pytest.mark.parametrize("late", [late_call, late_transaction, cancelled_transaction])
async def test_late_connection_is_broken_off(
    test_settings: Settings, late: Callable[[db.Database], Awaitable[None]]
) -> None:
    """Nobody waits for the cancellation of its query."""
    async with muffled(test_settings) as (way, settings), db.connect(settings) as database:
        way.rule = silent_from(LOST.encode())
        async with asyncio.timeout(BOUND_S):
            with pytest.raises(Unavailable), db.unavailable_when_down():
                await late(database)
        assert database.usage()["open"] == 0
        way.rule = let_pass
        assert await database.only(db.queries("db")["ping"]) == 1


def silent_when_asked(link: Link, _chunk: bytes, is_reply: bool) -> Verdict:
    """A rule: an order's connection breaks, and nobody hears what became of the order."""
    if is_reply and ORDER in link.request:
        return Verdict.RESET
    return Verdict.SWALLOW if is_reply and ASKED in link.request else Verdict.PASS


@pytest.mark.parametrize("rule", [silent_from(ORDER), silent_when_asked], ids=["all", "asked"])
async def test_order_has_a_last_word(
    test_settings: Settings, monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    """The commit's reply is lost, and nobody can be asked: 503 in time, and the key settles it."""
    monkeypatch.setattr(checkout, "DECIDE_S", 0.5)
    async with muffled(test_settings) as (way, settings), serve(settings) as service:
        alice = await service.sign_up("alice")
        way.rule = rule
        async with asyncio.timeout(BOUND_S):
            answer = await alice.book(1, key="one")
        problem_of(answer, 503, "unavailable")
        way.rule = let_pass
        again = await alice.book(1, key="one")
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")


async def test_who_is_refused_while_nobody_can_say_who_it_is(
    test_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seat is busy, and whether the session lives is unknown: 503 in time, counted from here.

    No time is added for the order that came first.
    """
    monkeypatch.setattr(checkout, "DECIDE_S", 0.5)
    monkeypatch.setattr(patience, "ANSWER_S", 1.0)
    async with muffled(test_settings) as (way, settings), serve(settings) as service:
        alice, bob = await service.sign_up("alice"), await service.sign_up("bob")
        way.rule = silent_from(ORDER)
        async with asyncio.timeout(BOUND_S):
            answers = await asyncio.gather(alice.book(1), bob.book(1))
        for answer in answers:
            problem_of(answer, 503, "unavailable")
