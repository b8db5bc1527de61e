"""A mail server that the tests look into, and an outbox that sends only when told to."""

import asyncio
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from pydantic import SecretStr

from seatsvc import app as wiring
from seatsvc.api.deps import State
from seatsvc.delivery import open_transport
from seatsvc.outbox import Outbox
from seatsvc.settings import Settings

PUBLIC_URL = "https://tickets.example.org"


def parse(content: bytes) -> EmailMessage:
    """A mail as its reader sees it."""
    return BytesParser(policy=email.policy.default).parsebytes(content)


def text(mail: EmailMessage) -> str:
    """What it says, whatever ends its lines."""
    return str(mail.get_content()).replace("\r\n", "\n")


def inbox(folder: Path) -> list[EmailMessage]:
    """The mails that a folder keeps, oldest first."""
    return [parse(file.read_bytes()) for file in sorted(folder.glob("*.eml"))]


@dataclass
class MailServer:
    """Takes mails, or answers `refusals` to who they are for."""

    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    data_answer: str = "250 OK"
    sessions: set[int] = field(default_factory=set)
    port: int = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """May this one have mail?"""
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """A mail."""
        if self.data_answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(parse(envelope.content))
            self.recipients.extend(envelope.rcpt_tos)
            self.sessions.add(id(session))
        return self.data_answer

    @property
    def ids(self) -> list[str]:
        """The Message-IDs of what came."""
        return [str(mail["Message-ID"]) for mail in self.mails]


def let_in(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> Any:
    """Is this the user of the tests?"""
    known = (data.login, data.password) == (b"us/er", b"p#ss:w@rd")
    return AuthResult(success=known, handled=False)


@asynccontextmanager
async def mail_server(
    starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, **more: Any
) -> AsyncIterator[MailServer]:
    """One that listens on a free port."""
    taken = MailServer()
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(taken, loop=loop, hostname="mail", tls_context=starttls, **more)

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    taken.port = server.sockets[0].getsockname()[1]
    try:
        yield taken
    finally:
        server.close()


@asynccontextmanager
async def hanging_server() -> AsyncIterator[int]:
    """The port of one that takes calls, and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()


def with_mails(settings: Settings, url: str) -> Settings:
    """The same, but with mails."""
    changes = {
        "smtp_url": SecretStr(url),
        "mail_from": "box@example.org",
        "public_url": PUBLIC_URL,
    }
    return settings.model_copy(update=changes)


@dataclass
class Desk:
    """The parts, where nothing is sent but by `outbox.dispatch()`."""

    settings: Settings
    state: State
    pool: asyncpg.Pool

    @property
    def outbox(self) -> Outbox:
        """The first dispatcher."""
        return self.state["outbox"]

    def another(self) -> Outbox:
        """As another worker has it."""
        return Outbox(self.state["database"], self.settings, open_transport(self.settings))

    async def add_user(self, address: str | None, locale: str = "en", name: str = "Ann") -> UUID:
        """Someone with an address, which is verified."""
        user_id = uuid4()
        await self.pool.execute(
            "insert into users"
            " (id, username, username_folded, email, email_verified, locale, name, password_hash)"
            " values ($1, $2, $2, $3, true, $4, $5, '')",
            user_id, f"u{user_id.hex}", address, locale, name,
        )  # fmt: skip
        return user_id

    async def add_mail(self, kind: str, user_id: UUID | None, address: str | None = None) -> int:
        """A row of the outbox."""
        statement = "insert into outbox (kind, user_id, email) values ($1, $2, $3) returning id"
        return int(await self.pool.fetchval(statement, kind, user_id, address))

    async def add_mails(self, count: int) -> list[str]:
        """Mails to as many people; their addresses."""
        addresses = [f"reader{number}@example.org" for number in range(count)]
        for address in addresses:
            await self.add_mail("email_changed", await self.add_user(None), address)
        return addresses

    async def rows(self) -> list[asyncpg.Record]:
        """What waits or is dead."""
        return list(await self.pool.fetch("select * from outbox order by id"))

    async def make_due(self) -> None:
        """Let the time that they wait for, or that they are leased for, be over."""
        await self.pool.execute("update outbox set next_try_at = now() - interval '1 s'")


@asynccontextmanager
async def desk(settings: Settings, url: str) -> AsyncIterator[Desk]:
    """The parts, with mails that go there."""
    current = with_mails(settings, url)
    database = asyncpg.create_pool(current.database_url.get_secret_value(), min_size=0)
    async with wiring.wired(current) as state, database as pool:
        yield Desk(current, state, pool)
