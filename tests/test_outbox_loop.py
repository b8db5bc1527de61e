"""A service goes on whatever becomes of its mail server or its database, and stops in time."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import SecretStr

from seatsvc import outbox as module
from seatsvc.app import every
from seatsvc.outbox import STOP_S, Outbox
from seatsvc.settings import Settings
from tests.conftest import Person, Service, serve, until
from tests.gate import gate
from tests.mailing import Desk, MailServer, desk, hanging_server, mail_server, with_mails

DEAD = "insert into outbox (kind, dead_at) values ('verify_email', now() - $1::text::interval)"
WAITS_SINCE_LONG_AGO = """
    insert into outbox (kind, created_at) values ('verify_email', now() - interval '31 days')"""
TOKEN = """
    insert into mail_tokens
    values ($1, $2, 'verify', 'ann@example.org', now() + $3::text::interval)"""


@pytest.fixture
async def hanging() -> AsyncIterator[str]:
    """The URL of a mail server that never says a word."""
    async with hanging_server() as port:
        yield f"smtp://127.0.0.1:{port}"


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    """One that takes everything."""
    async with mail_server() as running:
        yield running


@pytest.fixture
async def office(test_settings: Settings, server: MailServer) -> AsyncIterator[Desk]:
    """An outbox that sends to it."""
    async with desk(test_settings, f"smtp://127.0.0.1:{server.port}") as open_desk:
        yield open_desk


async def reader(service: Service, number: int) -> Person:
    """Someone with an address."""
    person = await service.sign_up(f"reader{number}")
    address = f"reader{number}@example.org"
    await service.sql("update users set email = $2 where id = $1", person.id, address)
    return person


async def test_hanging_server_delays_no_booking(test_settings: Settings, hanging: str) -> None:
    """Not even with the smallest pool, while the dispatcher waits; nor does it delay the end."""
    few = test_settings.model_copy(update={"pool_size": 2})
    async with serve(with_mails(few, hanging)) as service:
        people = [await reader(service, number) for number in range(10)]
        await people[0].book(1)

        async def leased() -> bool:
            return bool(await service.sql("select from outbox where attempts = 1"))

        await until(leased)
        started_at = time.monotonic()
        calls = (person.book(seat) for seat, person in enumerate(people[1:], start=2))
        answers = await asyncio.gather(*calls)
        assert time.monotonic() - started_at < 5  # half of what the mail server is given
        assert {answer.status_code for answer in answers} == {201}
        assert await leased()

        async def all_idle() -> bool:
            usage = service.state["database"].usage()
            return usage["open"] == usage["idle"]

        await until(all_idle)
        assert len(await service.sql("select from outbox")) == 10
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < 5


async def test_end_waits_for_the_mail_under_way(
    office: Desk, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent and settled; the others are given back, and were not tried."""
    await office.add_mails(3)
    taking, may_end = asyncio.Event(), asyncio.Event()
    take = server.handle_DATA

    async def slowly(smtp: SMTP, session: Session, envelope: Envelope) -> str:
        taking.set()
        await may_end.wait()
        return await take(smtp, session, envelope)

    monkeypatch.setattr(server, "handle_DATA", slowly)
    dispatching = asyncio.create_task(office.outbox.dispatch())
    await taking.wait()
    dispatching.cancel()
    ending = asyncio.create_task(office.outbox.finish_running())
    await asyncio.sleep(0.05)
    may_end.set()
    await ending
    assert len(server.mails) == 1
    assert [row["attempts"] for row in await office.rows()] == [0, 0]


async def test_end_does_not_wait_for_long(test_settings: Settings, hanging: str) -> None:
    """The mail stays leased, for another worker to send it later."""
    async with desk(test_settings, hanging) as office:
        await office.add_mails(2)
        dispatching = asyncio.create_task(office.outbox.dispatch())
        await asyncio.sleep(0.2)
        dispatching.cancel()
        stopping_at = time.monotonic()
        await office.outbox.finish_running()
        assert time.monotonic() - stopping_at == pytest.approx(STOP_S, abs=0.4)
        assert STOP_S < 2
        assert [row["attempts"] for row in await office.rows()] == [1, 1]


async def test_database_that_goes_and_comes(
    test_settings: Settings, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The mails go on with it, and nothing is said: others say it already."""
    async with gate(test_settings.database_url.get_secret_value()) as way:
        away = test_settings.model_copy(update={"database_url": SecretStr(way.url)})
        url = f"smtp://127.0.0.1:{server.port}"
        async with desk(test_settings, url) as office, desk(away, url) as there:
            running = asyncio.create_task(every(0.1, there.outbox.dispatch_all))
            await way.cut()
            await office.add_mails(1)
            await asyncio.sleep(0.7)
            assert not server.mails
            await way.open()

            async def sent() -> bool:
                return len(server.mails) == 1

            await until(sent)
            assert not running.done()
            running.cancel()
    said = [record for record in caplog.records if record.name in ("seatsvc.outbox", "seatsvc.app")]
    assert not said


async def test_work_goes_on_without_a_pause(
    office: Desk, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round after round, while there is something to send."""
    monkeypatch.setattr(module, "ROUND_MAX", 5)
    await office.add_mails(12)
    await office.outbox.dispatch_all()
    assert not await office.rows()
    assert len(server.mails) == 12
    assert len(server.sessions) == 3


async def test_without_a_way_out(office: Desk, server: MailServer) -> None:
    """Mails are dropped, but for the dead ones."""
    await office.add_mails(3)
    await office.pool.execute(DEAD, "0 days")
    dropping = Outbox(office.state["database"], office.settings, None)
    await dropping.dispatch_all()
    assert await dropping.dispatch() == 0
    assert [row["kind"] for row in await office.rows()] == ["verify_email"]
    assert not server.mails


async def test_forgetting(office: Desk) -> None:
    """Dead mails after 30 days, and tokens that have expired; no others."""
    user_id = await office.add_user("ann@example.org")
    for age in ("31 days", "29 days"):
        await office.pool.execute(DEAD, age)
    await office.pool.execute(WAITS_SINCE_LONG_AGO)
    await office.pool.execute(TOKEN, b"expired", user_id, "-1 s")
    await office.pool.execute(TOKEN, b"counts", user_id, "1 h")
    await office.outbox.forget()
    assert len(await office.rows()) == 2
    tokens = await office.pool.fetch("select token_hash from mail_tokens")
    assert [row["token_hash"] for row in tokens] == [b"counts"]
