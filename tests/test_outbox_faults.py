"""An outbox whose mail server is slow, dead or choosy, and workers that die."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage

import pytest

from seatsvc import outbox as module
from seatsvc.delivery import DeliveryError, Send
from seatsvc.outbox import ATTEMPTS_MAX, LEASE_S, Claim, Outbox
from seatsvc.settings import Settings
from tests.mailing import Desk, MailServer, desk, mail_server

BACK_OFF_S = (10, 20, 40, 80, 160, 320, 640, 1280, 2560, *[3600] * 6)


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


@pytest.fixture
async def nowhere(test_settings: Settings) -> AsyncIterator[Desk]:
    """An outbox whose mail server is down."""
    async with mail_server() as gone:
        port = gone.port
    async with desk(test_settings, f"smtp://127.0.0.1:{port}") as open_desk:
        yield open_desk


class Dying:
    """Hands each mail to the server, and dies before anything else can be done."""

    def __init__(self, dispatcher: Outbox) -> None:
        self._real = dispatcher._transport
        self.sent = asyncio.Event()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send]:
        """As the real one's."""
        assert self._real is not None
        async with self._real.session() as send:

            async def send_and_hang(message: EmailMessage) -> None:
                await send(message)
                self.sent.set()
                await asyncio.sleep(3600)

            yield send_and_hang


async def test_one_connection_for_a_round(office: Desk, server: MailServer) -> None:
    addresses = await office.add_mails(5)
    assert await office.outbox.dispatch() == 5
    assert sorted(server.recipients) == addresses
    assert len(server.sessions) == 1
    assert not await office.rows()
    assert await office.outbox.dispatch() == 0


async def test_dispatchers_race(
    office: Desk, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers claim at once: each mail is sent once, and each of them sends some."""
    monkeypatch.setattr(module, "ROUND_MAX", 10)
    addresses = await office.add_mails(30)
    others = [office.another(), office.another()]
    shares = await asyncio.gather(*(each.dispatch() for each in (office.outbox, *others)))
    assert shares == [10, 10, 10]
    assert sorted(server.recipients) == sorted(addresses)
    assert len(server.sessions) == 3


async def test_claim_that_is_being_made(office: Desk, server: MailServer) -> None:
    """Nobody waits for another worker's claim, and nobody takes what it takes."""
    await office.add_mails(3)
    async with office.pool.acquire() as connection, connection.transaction():
        taken = await connection.fetch(module.SQL["claim_mails"], 2, LEASE_S)
        assert await office.outbox.dispatch() == 1
    assert await office.outbox.dispatch() == 0
    assert sorted(row["id"] for row in taken) == [row["id"] for row in await office.rows()]


async def test_worker_that_dies_after_sending(
    office: Desk, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sends it while the lease lasts; then another does, and the reader can tell."""
    monkeypatch.setattr(module, "STOP_S", 0.1)
    await office.add_mails(1)
    mortal = office.another()
    dying = mortal._transport = Dying(mortal)
    task = asyncio.create_task(mortal.dispatch())
    await asyncio.wait_for(dying.sent.wait(), 5)
    task.cancel()
    await mortal.finish_running()
    assert await office.outbox.dispatch() == 0
    await office.make_due()
    assert await office.outbox.dispatch() == 1
    first, second = server.ids
    assert first == second
    assert not await office.rows()


async def test_lease_outlasts_a_round(office: Desk) -> None:
    """By the time that the last mail, and the database in between, may take."""
    slowest = module.ROUND_S + 20 + 4 * (1 + 1 + 1.8) + 1
    assert slowest < LEASE_S
    await office.add_mails(1)
    mortal = office.another()
    mortal._transport = Dying(mortal)
    task = asyncio.create_task(mortal.dispatch())
    await asyncio.wait_for(mortal._transport.sent.wait(), 5)
    left = await office.pool.fetchval("select next_try_at - now() from outbox")
    assert left.total_seconds() == pytest.approx(LEASE_S, abs=10)
    task.cancel()


async def test_lost_lease(office: Desk) -> None:
    """A worker that slept for long leaves the mail to who has it now, or may have it next."""
    await office.add_mails(1)
    late, present = [await claim(office), await claim(office)]
    assert await office.outbox._deliver(late, never)
    await office.outbox._postpone(late, DeliveryError("late", permanent=True))
    await office.make_due()
    assert await office.outbox._deliver(present, never)
    [row] = await office.rows()
    assert (row["attempts"], row["error"], row["dead_at"]) == (2, None, None)


async def claim(office: Desk) -> Claim:
    """The only mail, as a worker has it whose predecessor's lease has run out."""
    await office.make_due()
    [row] = await office.state["database"].fetch(module.SQL["claim_mails"], 1, LEASE_S)
    return Claim(**row)


async def never(_: EmailMessage) -> None:
    """No mail may go this way."""
    pytest.fail("sent")


async def test_slow_round_gives_back(
    office: Desk, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a round has no time for is anyone's again at once, and has lost no attempt."""
    monkeypatch.setattr(module, "ROUND_S", 0)
    await office.add_mails(3)
    assert await office.outbox.dispatch() == 0
    assert [row["attempts"] for row in await office.rows()] == [0, 0, 0]
    assert await office.pool.fetchval("select bool_and(next_try_at <= now()) from outbox")
    monkeypatch.setattr(module, "ROUND_S", 60)
    assert await office.outbox.dispatch() == 3


async def test_back_off_and_death(nowhere: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Each failure makes the wait longer; after the last attempt there is none."""
    await nowhere.add_mails(1)
    for attempt, expected_s in enumerate(BACK_OFF_S, start=1):
        assert await nowhere.outbox.dispatch() == 0
        [row] = await nowhere.rows()
        assert (row["attempts"], row["dead_at"]) == (attempt, None)
        wait = await nowhere.pool.fetchval("select next_try_at - now() from outbox")
        assert expected_s * 0.75 < wait.total_seconds() < expected_s * 1.25
        await nowhere.make_due()
    assert len(BACK_OFF_S) == ATTEMPTS_MAX - 1
    await nowhere.outbox.dispatch()
    [row] = await nowhere.rows()
    assert row["dead_at"] is not None
    assert row["error"] == "SMTPConnectError (ConnectionRefusedError)"
    await nowhere.make_due()
    assert await nowhere.outbox.dispatch() == 0
    assert [row["attempts"] for row in await nowhere.rows()] == [ATTEMPTS_MAX]
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == ["the mail server fails", "a mail could not be sent"]


async def test_dead_server_costs_one_mail(nowhere: Desk) -> None:
    """The rest of the round is given back, and loses no attempt."""
    await nowhere.add_mails(5)
    await nowhere.outbox.dispatch()
    assert sorted(row["attempts"] for row in await nowhere.rows()) == [0, 0, 0, 0, 1]


async def test_refused_recipient_is_dead(
    office: Desk, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    """At once; the others get theirs. Neither the row nor the log holds the server's words."""
    addresses = await office.add_mails(3)
    server.refusals[addresses[1]] = f"550 {addresses[1]} is gone"
    assert await office.outbox.dispatch() == 3
    assert sorted(server.recipients) == [addresses[0], addresses[2]]
    [row] = await office.rows()
    assert row["dead_at"] is not None
    assert (row["attempts"], row["error"]) == (1, "SMTPRecipientRefused 550")
    said = [str(vars(record)) for record in caplog.records if record.name == "seatsvc.outbox"]
    assert len(said) == 1
    assert addresses[1] not in said[0]


async def test_refused_for_now(office: Desk, server: MailServer) -> None:
    """It waits."""
    [address] = await office.add_mails(1)
    server.refusals[address] = "451 later"
    await office.outbox.dispatch()
    server.refusals.clear()
    assert await office.outbox.dispatch() == 0
    await office.make_due()
    assert await office.outbox.dispatch() == 1
    assert server.recipients == [address]


async def test_mail_that_kills_workers(office: Desk, server: MailServer) -> None:
    """Whoever tried it has died, again and again: it is not tried for ever."""
    await office.add_mails(1)
    await office.pool.execute("update outbox set attempts = $1", ATTEMPTS_MAX)
    await office.outbox.dispatch()
    [row] = await office.rows()
    assert row["dead_at"] is not None
    assert row["error"] == "LeaseExpired"
    assert not server.mails


async def test_mail_that_cannot_be_written(office: Desk, server: MailServer) -> None:
    """It waits, and the others go out."""
    user_id = await office.add_user("ann@example.org")
    await office.add_mail("email_changed", user_id, "no address")
    addresses = await office.add_mails(1)
    await office.outbox.dispatch()
    assert server.recipients == addresses
    [row] = await office.rows()
    assert row["error"] == "EmailSyntaxError"


async def test_nothing_to_send(office: Desk, server: MailServer) -> None:
    """Nobody, nobody any more, nowhere to send it to, a token that would not count."""
    no_address, gone, closed = [
        await office.add_user(address) for address in (None, "b@example.org", "c@example.org")
    ]
    await office.pool.execute("update users set erased_at = now() where id = $1", gone)
    await office.pool.execute("update users set active = false where id = $1", closed)
    await office.add_mail("reset_password", None)
    await office.add_mail("email_changed", None, "a@example.org")
    await office.add_mail("booking_confirmed", no_address)
    await office.add_mail("email_changed", gone, "b@example.org")
    await office.add_mail("reset_password", closed)
    assert await office.outbox.dispatch() == 5
    assert not await office.rows()
    assert not server.mails
    assert not await office.pool.fetch("select from mail_tokens")
