"""The outbox: mails that wait in the database until a mail server has taken them.

Each is sent at least once. A row is written in the transaction of what it tells of, and deleted
when it has been sent; in between, nothing is held but a lease.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from dataclasses import astuple, dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Literal
from uuid import UUID

import asyncpg

from seatsvc import db
from seatsvc.delivery import DeliveryError, Send, Transport
from seatsvc.errors import NotFound
from seatsvc.mail import Letter, deliverable, write
from seatsvc.sessions import digest
from seatsvc.settings import Settings

SQL = db.queries("outbox")

ROUND_MAX = 50  # mails
ROUND_S = 60.0  # no mail is begun later
LEASE_S = 150  # a round, its last mail's 20 s, and what the database may take, with room to spare
ATTEMPTS_MAX = 16  # about seven hours
DROP_MAX = 1000
STOP_S = 1.5
SECRET_BYTES = 32
SENDER = "seatsvc@localhost"
# Mails with a token: what it is for, and how long it counts.
TOKENS = {"verify_email": ("verify", 24 * 3600), "reset_password": ("reset", 30 * 60)}

log = logging.getLogger(__name__)

Status = Literal["waiting", "dead"]


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """A mail that has not been sent yet, or could not be."""

    id: int
    kind: str
    user_id: UUID | None
    booking_id: UUID | None
    status: Status
    attempts: int
    error: str | None
    created_at: datetime
    next_try_at: datetime
    dead_at: datetime | None

    @staticmethod
    def from_row(row: asyncpg.Record) -> "QueuedMail":
        """The columns of the same names."""
        return QueuedMail(**row)


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A mail that is ours until the lease has run out. The attempt's number tells leases apart."""

    id: int
    attempts: int


class Outbox:
    """Sends what waits, and shows admins what cannot be sent."""

    def __init__(
        self, database: db.Database, settings: Settings, transport: Transport | None
    ) -> None:
        self._db = database
        self._transport = transport
        self._sender = deliverable(settings.mail_from) if settings.mail_from else SENDER
        self._public_url = settings.public_url
        self._rounds: set[asyncio.Task[int]] = set()
        self._stopping = False
        self._failing = False

    async def dispatch(self) -> int:
        """Send what is due, for about a minute at most; how many were dealt with.

        0: nothing is due, or the mail server is down. Whoever gives up waiting does not
        interrupt the mail under way. Raises Unavailable.
        """
        task = asyncio.create_task(self._round())
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)
        return await asyncio.shield(task)

    async def dispatch_all(self) -> None:
        """Send everything that is due. Every worker does; none waits for another.

        Raises Unavailable.
        """
        while await self.dispatch():
            pass

    async def finish_running(self) -> None:
        """Let the mail under way end, if that does not take long. Else its lease runs out."""
        self._stopping = True
        if self._rounds:
            _, late = await asyncio.wait(self._rounds, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def forget(self) -> None:
        """Delete mails that have been dead for long, and tokens that have expired."""
        await self._db.execute(SQL["forget_dead_mails"])
        await self._db.execute(SQL["forget_mail_tokens"])

    async def list_mails(
        self, *, status: Status, before: int | None, limit: int
    ) -> list[QueuedMail]:
        """Newest first, from the one before `before` on."""
        rows = await self._db.fetch(SQL["list_mails"], status, before, limit)
        return [QueuedMail.from_row(row) for row in rows]

    async def retry(self, mail_id: int) -> QueuedMail:
        """Make a mail due at once, with all its attempts before it.

        Raises NotFound.
        """
        row = await self._db.fetchrow(SQL["retry_mail"], mail_id)
        if row is None:
            raise NotFound()
        return QueuedMail.from_row(row)

    async def _round(self) -> int:
        if self._transport is None:
            return int(await self._db.only(SQL["drop_mails"], DROP_MAX))
        ends_at = time.monotonic() + ROUND_S
        rows = await self._db.fetch(SQL["claim_mails"], ROUND_MAX, LEASE_S)
        claims, done = deque(sorted(Claim(**row) for row in rows)), 0
        async with self._transport.session() as send:
            while claims and not self._stopping and time.monotonic() < ends_at:
                if not await self._deliver(claims.popleft(), send):
                    break
                done += 1
        if claims:
            ids, attempts = zip(*map(astuple, claims), strict=True)
            await self._db.execute(SQL["give_back_mails"], ids, attempts)
        return done

    async def _deliver(self, claim: Claim, send: Send) -> bool:
        """False: the mail server is at fault, so that another mail need not be tried."""
        row = await self._db.fetchrow(SQL["get_mail"], claim.id, claim.attempts)
        if row is None:
            return True  # its account is gone, or it is another's by now
        try:
            if row["address"] is not None:
                await send(await self._written(claim, row))
                self._note(None)
        except DeliveryError as error:
            await self._postpone(claim, error)
            return not error.server_failed
        await self._db.execute(SQL["settle_mail"], claim.id)
        return True

    async def _written(self, claim: Claim, row: asyncpg.Record) -> EmailMessage:
        if claim.attempts > ATTEMPTS_MAX:
            raise DeliveryError("LeaseExpired", permanent=True)  # all that tried it have died
        token = await self._new_token(row)
        try:
            return write(Letter.from_row(row, token), self._sender, self._public_url)
        except Exception as error:  # which one is said in the row; the others must go out
            raise DeliveryError(type(error).__name__) from None

    async def _new_token(self, row: asyncpg.Record) -> str | None:
        """Made when it is sent, so that only its hash ever rests in the database."""
        if row["kind"] not in TOKENS:
            return None
        purpose, lifetime_s = TOKENS[row["kind"]]
        token = secrets.token_urlsafe(SECRET_BYTES)
        await self._db.execute(
            SQL["add_mail_token"],
            digest(token), row["user_id"], purpose, row["address"], lifetime_s,
        )  # fmt: skip
        return token

    async def _postpone(self, claim: Claim, error: DeliveryError) -> None:
        dead = error.permanent or claim.attempts >= ATTEMPTS_MAX
        await self._db.execute(SQL["postpone_mail"], claim.id, claim.attempts, str(error), dead)
        if dead:
            fields = {"mail_id": claim.id, "error": str(error)}
            log.warning("a mail could not be sent", extra={"fields": fields})
        if error.server_failed:
            self._note(error)

    def _note(self, failure: DeliveryError | None) -> None:
        """Say once that no mail can be sent, and once that it is over."""
        if failure and not self._failing:
            log.warning("the mail server fails", extra={"fields": {"error": str(failure)}})
        if self._failing and not failure:
            log.info("the mail server takes mails again")
        self._failing = failure is not None
