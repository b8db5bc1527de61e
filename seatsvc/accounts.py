"""Users, their passwords, and the sessions that their tokens stand for."""

import asyncio
import hashlib
import re
import secrets
import time
import unicodedata
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import asyncpg
import bcrypt
import jwt

from seatsvc import db
from seatsvc.errors import (
    EmailTaken,
    InvalidCredentials,
    InvalidToken,
    LastAdmin,
    NotFound,
    UsernameTaken,
)
from seatsvc.lanes import Lane
from seatsvc.settings import Settings

SQL = db.queries("accounts")

PASSWORD_MIN_LENGTH = 8
PASSWORD_MAX_BYTES = 72
USERNAME = re.compile(r"[\w.\-]{3,64}")
HASHING_THREADS = 2
ISSUER: Final = "seatsvc"
ALGORITHM: Final = "HS256"
CLAIMS: Final = ["iss", "aud", "sub", "sid", "role", "iat", "exp", "jti"]
VERIFIED_MAX = 10_000
TAKEN = {"users_username_key": UsernameTaken, "users_email_key": EmailTaken}


@dataclass(frozen=True, slots=True)
class User:
    """An account as its owner sees it."""

    id: UUID
    username: str
    email: str | None
    email_verified: bool
    name: str | None
    locale: str
    role: str
    created_at: datetime

    @staticmethod
    def from_row(row: asyncpg.Record) -> "User":
        """The columns of the same names."""
        return User(**row)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, in a session that was alive when it came."""

    user_id: UUID
    session_id: UUID
    role: str


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a login gives."""

    access_token: str
    refresh_token: str
    expires_in: int  # seconds
    token_type: Literal["bearer"]


def valid_username(name: str) -> str:
    """3 to 64 letters, digits, dots, hyphens and underscores.

    Raises ValueError. An "@" would let a name pass for somebody's e-mail address at login.
    """
    composed = unicodedata.normalize("NFKC", name)
    if not USERNAME.fullmatch(composed):
        raise ValueError("must be 3 to 64 letters, digits, dots, hyphens or underscores")
    return composed


def valid_password(password: str) -> str:
    """8 characters to 72 bytes: bcrypt reads no further.

    Raises ValueError.
    """
    if len(password) < PASSWORD_MIN_LENGTH:
        raise ValueError(f"must have at least {PASSWORD_MIN_LENGTH} characters")
    if len(password.encode()) > PASSWORD_MAX_BYTES:
        raise ValueError(f"must have at most {PASSWORD_MAX_BYTES} bytes in UTF-8")
    return password


def fold(name: str) -> str:
    """Names and addresses that differ only in case or in composition are the same."""
    return unicodedata.normalize("NFKC", name).casefold()


class Accounts:
    """Registers users, logs them in, and knows them again by their token."""

    def __init__(self, database: db.Database, settings: Settings) -> None:
        self._db = database
        self._settings = settings
        self._tokens = Tokens(settings)
        self._threads = ThreadPoolExecutor(HASHING_THREADS, "bcrypt")
        self._live = Lane(self._live_batch)
        self._nobody = f"$2b${settings.bcrypt_cost:02}${'.' * 53}"  # no password has this hash

    def close(self) -> None:
        """End the hashing threads."""
        self._threads.shutdown()

    async def register(
        self,
        username: str,
        password: str,
        *,
        email: str | None = None,
        name: str | None = None,
        role: str = "attendee",
    ) -> User:
        """Create an account.

        Raises ValueError for a bad name or password, UsernameTaken, EmailTaken.
        """
        username = valid_username(username)
        valid_password(password)
        password_hash = await self._in_thread(self._hash, password)
        folded_email = email and fold(email)
        try:
            row = await self._db.one(
                SQL["create_user"],
                uuid4(), username, fold(username), folded_email, name, password_hash, role,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise TAKEN[str(error.constraint_name)]() from error
        return User.from_row(row)

    async def login(self, login: str, password: str) -> TokenPair:
        """Start a session.

        Raises InvalidCredentials: for whichever reason, after the same work.
        """
        known = login.isprintable()  # nobody else's name could even be asked for
        row = await self._db.fetchrow(SQL["find_login"], fold(login)) if known else None
        password_hash = row["password_hash"] if row else self._nobody
        matches = await self._in_thread(self._matches, password, password_hash)
        if row is None or not matches:
            raise InvalidCredentials()
        return await self._start_session(row["id"], row["role"])

    async def get(self, user_id: UUID) -> User:
        """The user's own profile.

        Raises InvalidToken when the account is gone.
        """
        row = await self._db.fetchrow(SQL["get_user"], user_id)
        if row is None:
            raise InvalidToken()
        return User.from_row(row)

    async def list_users(
        self, *, role: str | None, active: bool | None, after: str, limit: int
    ) -> list[User]:
        """Everyone, by their names, from the one after the name `after` on."""
        rows = await self._db.fetch(SQL["list_users"], role, active, fold(after), limit)
        return [User.from_row(row) for row in rows]

    async def change_user(self, user_id: UUID, *, role: str | None, active: bool | None) -> User:
        """Change what is not None. Whoever is deactivated is logged out everywhere at once.

        Raises NotFound, LastAdmin.
        """
        try:
            row = await self._db.fetchrow(SQL["change_user"], user_id, role, active)
        except asyncpg.CheckViolationError as error:
            if error.constraint_name != "users_last_admin":
                raise
            raise LastAdmin() from error
        if row is None:
            raise NotFound()
        return User.from_row(row)

    async def authenticate(self, access_token: str) -> Caller:
        """Whose token this is, if its session is still alive.

        Raises InvalidToken.
        """
        session_id = self._tokens.session_of(access_token)
        caller = await self._live(session_id)
        if caller is None:
            raise InvalidToken()
        return caller

    async def has_admin(self) -> bool:
        """Is there an admin who can log in?"""
        return bool(await self._db.only(SQL["has_admin"]))

    async def _start_session(self, user_id: UUID, role: str) -> TokenPair:
        session_id, refresh_token = uuid4(), secrets.token_urlsafe(32)
        days = self._settings.refresh_token_days
        token_hash = hashlib.sha256(refresh_token.encode()).digest()
        await self._db.execute(SQL["start_session"], session_id, user_id, token_hash, days)
        access_token = self._tokens.issue(user_id, session_id, role)
        return TokenPair(access_token, refresh_token, self._settings.access_token_s, "bearer")

    async def _live_batch(self, session_ids: list[UUID]) -> list[Caller | None]:
        rows = await self._db.fetch(SQL["live_sessions"], session_ids)
        live = {
            row["session_id"]: Caller(row["user_id"], row["session_id"], row["role"])
            for row in rows
        }
        return [live.get(session_id) for session_id in session_ids]

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(password.encode(), bcrypt.gensalt(self._settings.bcrypt_cost)).decode()

    @staticmethod
    def _matches(password: str, password_hash: str) -> bool:
        secret = password.encode()
        # bcrypt reads 72 bytes; a longer password can be nobody's, but takes as long.
        matches = bcrypt.checkpw(secret[:PASSWORD_MAX_BYTES], password_hash.encode())
        return matches and len(secret) <= PASSWORD_MAX_BYTES


class Tokens:
    """Access tokens, after RFC 8725: one algorithm, all claims required, keys told by `kid`."""

    def __init__(self, settings: Settings) -> None:
        self._keys = {_kid(secret): secret for secret in reversed(settings.signing_secrets)}
        self._signing_kid = _kid(settings.signing_secrets[0])
        self._lifetime_s = settings.access_token_s
        self._verified: OrderedDict[str, tuple[UUID, float]] = OrderedDict()

    def issue(self, user_id: UUID, session_id: UUID, role: str) -> str:
        """A token for the session."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": str(user_id),
            "sid": str(session_id),
            "role": role,
            "iat": now,
            "exp": now + self._lifetime_s,
            "jti": secrets.token_hex(8),
        }
        kid = self._signing_kid
        return jwt.encode(claims, self._keys[kid], ALGORITHM, headers={"kid": kid})

    def session_of(self, token: str) -> UUID:
        """The session that a valid token names; remembered until the token expires.

        Raises InvalidToken.
        """
        session_id, expires_at = self._verified.get(token, (None, 0.0))
        if session_id is None or expires_at <= time.time():
            session_id, expires_at = self._verify(token)
            self._verified[token] = session_id, expires_at
            if len(self._verified) > VERIFIED_MAX:
                self._verified.popitem(last=False)
        return session_id

    def _verify(self, token: str) -> tuple[UUID, float]:
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(
                token, key, [ALGORITHM], audience=ISSUER, issuer=ISSUER, options={"require": CLAIMS}
            )
            return UUID(claims["sid"]), float(claims["exp"])
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InvalidToken() from error


def _kid(secret: str) -> str:
    return hashlib.sha256(b"kid:" + secret.encode()).hexdigest()[:16]
