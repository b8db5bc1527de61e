"""Sessions: a login, until it ends. Its tokens are worth what it is worth."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

from seatsvc import db, patience
from seatsvc.errors import InvalidCredentials, InvalidToken
from seatsvc.lanes import Lane
from seatsvc.settings import Settings
from seatsvc.tokens import Token, Tokens

SQL = db.queries("sessions")
SECRET_BYTES = 32
ENDED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, in a session that was alive when it came."""

    user_id: UUID
    session_id: UUID
    role: str


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a login or a refresh gives."""

    access_token: str
    refresh_token: str
    expires_in: int  # seconds
    token_type: Literal["bearer"]


def digest(secret: str) -> bytes:
    """How the database knows a random token that it must not be able to give away."""
    return hashlib.sha256(secret.encode()).digest()


class Sessions:
    """Starts sessions, renews their tokens, ends them, and knows who is calling."""

    def __init__(self, database: db.Database, settings: Settings) -> None:
        self._db = database
        self._days = settings.refresh_token_days
        self._expires_in = settings.access_token_s
        self._tokens = Tokens(settings)
        # One call at a time: a crowd's batches are larger, and a lone caller waits for nobody.
        self._live = Lane(self._live_batch, calls_max=1)
        self._ended: OrderedDict[UUID, None] = OrderedDict()  # of late

    async def start(self, user_id: UUID, password_hash: str) -> TokenPair:
        """A new session of whoever still has this password.

        Raises InvalidCredentials.
        """
        session_id, refresh_token = uuid4(), secrets.token_urlsafe(SECRET_BYTES)
        row = await self._db.fetchrow(
            SQL["start_session"],
            session_id, user_id, password_hash, digest(refresh_token), self._days,
        )  # fmt: skip
        if row is None:
            raise InvalidCredentials()
        return self._pair(user_id, session_id, row["role"], refresh_token)

    async def refresh(self, spent_token: str) -> TokenPair:
        """A new pair for a refresh token that is spent by this; spent again, it ends the session.

        Raises InvalidToken.
        """
        refresh_token = secrets.token_urlsafe(SECRET_BYTES)
        row = await self._db.fetchrow(
            SQL["refresh_session"], digest(spent_token), digest(refresh_token)
        )
        if row is None:
            raise InvalidToken()
        return self._pair(row["user_id"], row["session_id"], row["role"], refresh_token)

    async def end(self, caller: Caller) -> None:
        """End the caller's session: its tokens are refused from now on, by every worker."""
        await self._db.execute(SQL["end_session"], caller.session_id)

    async def authenticate(self, access_token: str) -> Caller:
        """Whose token this is, if its session is still alive.

        Raises InvalidToken.
        """
        token = self.claimed(access_token)
        with db.unavailable_when_down():
            async with asyncio.timeout_at(patience.answer_by(patience.ANSWER_S)):
                caller = await self._live(token.session_id)
        if caller is None or caller.user_id != token.user_id:
            self._remember_ended(token.session_id)
            raise InvalidToken()
        return caller

    def claimed(self, access_token: str) -> Token:
        """What the token says, for work whose own transaction looks whether the session lives.

        Raises InvalidToken, also for a session that was found ended: none comes back to life.
        """
        token = self._tokens.read(access_token)
        if token.session_id in self._ended:
            raise InvalidToken()
        return token

    @property
    def waiting(self) -> int:
        """How many callers wait to be known."""
        return len(self._live)

    async def forget(self) -> None:
        """Delete what expired long since; a little at a time."""
        await self._db.execute(SQL["forget_sessions"])

    def _remember_ended(self, session_id: UUID) -> None:
        self._ended[session_id] = None
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _pair(self, user_id: UUID, session_id: UUID, role: str, refresh_token: str) -> TokenPair:
        access_token = self._tokens.issue(user_id, session_id, role)
        return TokenPair(access_token, refresh_token, self._expires_in, "bearer")

    async def _live_batch(self, session_ids: list[UUID]) -> list[Caller | None]:
        rows = await self._db.fetch(SQL["live_sessions"], session_ids)
        live = {
            row["session_id"]: Caller(row["user_id"], row["session_id"], row["role"])
            for row in rows
        }
        return [live.get(session_id) for session_id in session_ids]
