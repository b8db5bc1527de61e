"""Users: their names, their passwords, their profiles, and how an account ends."""

import asyncio
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg

from seatsvc import db
from seatsvc.errors import (
    EmailTaken,
    Invalid,
    InvalidCredentials,
    InvalidToken,
    LastAdmin,
    NoEmail,
    NotFound,
    Unavailable,
    UsernameTaken,
)
from seatsvc.locks import Claim, SeatLocks
from seatsvc.passwords import Hasher, valid_password
from seatsvc.sessions import Caller, Sessions, TokenPair, digest
from seatsvc.settings import Settings

SQL = db.queries("accounts")

GUESSES_MIN = 4  # characters of a password that nobody can tell from the account
USERNAME = re.compile(r"[\w.\-]{3,64}")
REFUSALS = {
    "users_username_key": UsernameTaken,
    "users_email_key": EmailTaken,
    "users_last_admin": LastAdmin,
}


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


def valid_username(name: str) -> str:
    """3 to 64 letters, digits, dots, hyphens and underscores.

    Raises ValueError. An "@" would let a name pass for somebody's e-mail address at login.
    """
    composed = unicodedata.normalize("NFKC", name)
    if not USERNAME.fullmatch(composed):
        raise ValueError("must be 3 to 64 letters, digits, dots, hyphens or underscores")
    return composed


def fold(name: str) -> str:
    """Names that differ only in case or in composition are the same."""
    return unicodedata.normalize("NFKC", name).casefold()


def fold_address(email: str) -> str:
    """Addresses that differ only in case are the same; they stay ones that mail can be sent to."""
    return unicodedata.normalize("NFC", email).lower()


class Accounts:
    """Registers users, checks their passwords, changes and closes their accounts."""

    def __init__(
        self, database: db.Database, locks: SeatLocks, sessions: Sessions, settings: Settings
    ) -> None:
        self._db = database
        self._locks = locks
        self._sessions = sessions
        self._hasher = Hasher(settings.bcrypt_cost)

    @property
    def waiting(self) -> int:
        """How many passwords wait to be hashed."""
        return self._hasher.waiting

    def close(self) -> None:
        """End the hashing threads."""
        self._hasher.close()

    async def register(
        self,
        username: str,
        password: str,
        *,
        email: str | None = None,
        name: str | None = None,
        role: str = "attendee",
        locale: str = "en",
    ) -> User:
        """Create an account. An address is sent a mail that verifies it.

        Raises ValueError for a bad name or password, Invalid, UsernameTaken, EmailTaken.
        """
        username = valid_username(username)
        _check_new_password(password, username, email)
        password_hash = await self._hasher.hash(password)
        folded_email = email and fold_address(email)
        try:
            row = await self._db.one(
                SQL["create_user"],
                uuid4(), username, fold(username), folded_email, name, password_hash, role, locale,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error
        return User.from_row(row)

    async def login(self, login: str, password: str) -> TokenPair:
        """Start a session.

        Raises InvalidCredentials: for whichever reason, after the same work.
        """
        row = None
        if login.isprintable():  # nobody else's name could even be asked for
            row = await self._db.fetchrow(SQL["find_login"], fold(login), fold_address(login))
        password_hash = row["password_hash"] if row else None
        if not await self._hasher.matches(password, password_hash) or row is None:
            raise InvalidCredentials()
        password_hash = await self._renewed(row["id"], password, row["password_hash"])
        return await self._sessions.start(row["id"], password_hash)

    async def get(self, user_id: UUID) -> User:
        """The user's own profile.

        Raises InvalidToken when the account is gone.
        """
        row = await self._db.fetchrow(SQL["get_user"], user_id)
        if row is None:
            raise InvalidToken()
        return User.from_row(row)

    async def change_profile(self, user_id: UUID, changes: Mapping[str, str | None]) -> User:
        """Change the named fields of one's own profile; a new address has to be verified anew.

        Raises EmailTaken, InvalidToken when the account is gone.
        """
        folded = dict(changes)
        if email := folded.get("email"):
            folded["email"] = fold_address(email)
        try:
            row = await self._db.fetchrow(SQL["change_profile"], user_id, json.dumps(folded))
        except asyncpg.UniqueViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error
        if row is None:
            raise InvalidToken()
        return User.from_row(row)

    async def change_password(self, caller: Caller, current: str, new: str) -> None:
        """Replace the password, and end every other session.

        Raises InvalidCredentials, Invalid.
        """
        row = await self._confirm(caller, current)
        _check_new_password(new, row["username"], row["email"])
        new_hash = await self._hasher.hash(new)
        changed = await self._db.only(
            SQL["change_password"],
            caller.user_id, row["password_hash"], new_hash, caller.session_id,
        )  # fmt: skip
        if not changed:
            raise InvalidCredentials()

    async def request_reset(self, email: str) -> None:
        """Have a mail sent that resets the password, if somebody has this address.

        It writes the same for everyone, so that its time tells nothing.
        """
        await self._db.execute(SQL["request_reset"], fold_address(email))

    async def reset_password(self, token: str, new: str) -> None:
        """Set a password by a mailed token. Every session ends.

        Raises InvalidToken, Invalid.
        """
        row = await self._db.fetchrow(SQL["get_reset"], digest(token))
        if row is None:
            raise InvalidToken(DEAD_LINK)
        _check_new_password(new, row["username"], row["email"])
        new_hash = await self._hasher.hash(new)
        if not await self._db.only(SQL["reset_password"], digest(token), new_hash):
            raise InvalidToken(DEAD_LINK)

    async def request_verification(self, user_id: UUID) -> None:
        """Have a mail sent that verifies the user's address, unless it is verified.

        Raises NoEmail.
        """
        if not await self._db.only(SQL["request_verification"], user_id):
            raise NoEmail()

    async def verify_email(self, token: str) -> None:
        """Mark an address as verified by a mailed token.

        Raises InvalidToken.
        """
        if not await self._db.only(SQL["verify_email"], digest(token)):
            raise InvalidToken(DEAD_LINK)

    async def erase(self, caller: Caller, password: str) -> None:
        """Close one's own account: personal data goes, what is still to come is cancelled.

        Raises InvalidCredentials, LastAdmin.
        """
        await self._confirm(caller, password)
        try:
            rows = await self._db.fetch(SQL["erase_user"], caller.user_id)
        except asyncpg.CheckViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error
        await asyncio.gather(*(self._locks.finish(Claim(row["event_id"])) for row in rows))

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
            raise REFUSALS[str(error.constraint_name)]() from error
        if row is None:
            raise NotFound()
        return User.from_row(row)

    async def has_admin(self) -> bool:
        """Is there an admin who can log in?"""
        return bool(await self._db.only(SQL["has_admin"]))

    async def _confirm(self, caller: Caller, password: str) -> asyncpg.Record:
        """Make sure that it is the user, not merely someone with the user's token."""
        row = await self._db.fetchrow(SQL["get_password"], caller.user_id)
        if row is None or not await self._hasher.matches(password, row["password_hash"]):
            raise InvalidCredentials("The password is wrong.")
        return row

    async def _renewed(self, user_id: UUID, password: str, password_hash: str) -> str:
        """The hash to go on with: a new one, where more work is asked for than when it was made."""
        if not self._hasher.outdated(password_hash):
            return password_hash
        try:
            new_hash = await self._hasher.hash(password)
        except Unavailable:
            return password_hash  # at the next login, then
        await self._db.execute(SQL["rehash"], user_id, password_hash, new_hash)
        return new_hash


DEAD_LINK = "This token is not valid, or no longer. Ask for a new mail."


def _check_new_password(password: str, username: str, email: str | None) -> None:
    valid_password(password)
    rest, address = fold(password), fold(email or "")
    for known in (address, address.partition("@")[0], fold(username), "seatsvc"):
        rest = rest.replace(known, "")
    if len(rest) < GUESSES_MIN:
        raise Invalid("The password must not be little more than the username or the address.")
