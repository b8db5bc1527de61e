"""What is booked and by whom, made beforehand: users with sessions and tokens, and halls."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import bcrypt

from bench.client import Answer, ask, build
from bench.load import Wanted
from bench.processes import BenchError
from seatsvc.settings import Settings
from seatsvc.tokens import Tokens

# Fewer than a worker remembers the tokens of, more than will book in a measurement.
USERS = 6_000
LOGINS = 20
PASSWORD = "correct horse battery"
BCRYPT_COST = 12
Session = tuple[UUID, UUID]  # its user, and its own id


@dataclass(frozen=True)
class Hall:
    """An event and the range of its places."""

    event_id: int
    first_seat_id: int
    capacity: int
    create_s: float

    @property
    def seat_ids(self) -> range:
        """All its places."""
        return range(self.first_seat_id, self.first_seat_id + self.capacity)


class People:
    """Users who are logged in. One comes round again only after all the others."""

    def __init__(self, tokens: Tokens, sessions: Sequence[Session], organizer: Session) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._everyone = [
            (user_id, tokens.issue(user_id, sid, "attendee")) for user_id, sid in sessions
        ]
        self._next = 0
        self.organizer_token = tokens.issue(*organizer, "organizer")

    @property
    def tokens(self) -> list[str]:
        """One of each user."""
        return [token for _, token in self._everyone]

    def strangers(self, seat_ids: Sequence[int]) -> list[Wanted]:
        """A booking for each of these seats, each with a token that nobody has seen yet."""
        turns = zip(cycle(self._sessions), seat_ids, strict=False)
        return [
            Wanted(user_id, self._tokens.issue(user_id, sid, "attendee"), {"seat_id": seat_id})
            for (user_id, sid), seat_id in turns
        ]

    def by_seat(self, seat_ids: Sequence[int]) -> list[Wanted]:
        """A booking for each of these seats, by a user each."""
        turns = zip(self._take(len(seat_ids)), seat_ids, strict=True)
        return [Wanted(*user, {"seat_id": seat_id}) for user, seat_id in turns]

    def by_event(self, event_id: int, count: int, quantity: int = 1) -> list[Wanted]:
        """So many bookings of places that the service picks, by a user each."""
        body = {"event_id": event_id, "quantity": quantity}
        return [Wanted(*user, body) for user in self._take(count)]

    def take_back(self, count: int) -> None:
        """The last ones have not been used after all."""
        self._next -= count

    def _take(self, count: int) -> Iterator[tuple[UUID, str]]:
        start, self._next = self._next, self._next + count
        return (self._everyone[n % len(self._everyone)] for n in range(start, self._next))


async def make_people(database: asyncpg.Connection, settings: Settings) -> People:
    """Insert the users and their sessions."""
    tokens = Tokens(settings)
    users = [(uuid4(), uuid4()) for _ in range(USERS)]
    organizer = (uuid4(), uuid4())
    rows = [(f"user{n}", user_id, "attendee", "") for n, (user_id, _) in enumerate(users)]
    rows += [("organizer", organizer[0], "organizer", "")]
    password_hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(BCRYPT_COST)).decode()
    rows += [(f"login{n}", uuid4(), "attendee", password_hash) for n in range(LOGINS)]
    await database.copy_records_to_table(
        "users",
        records=[(user_id, name, name, role, secret) for name, user_id, role, secret in rows],
        columns=["id", "username", "username_folded", "role", "password_hash"],
    )
    expires_at = datetime.now(UTC) + timedelta(days=1)
    await database.copy_records_to_table(
        "sessions",
        records=[(session_id, user_id, expires_at) for user_id, session_id in [*users, organizer]],
        columns=["id", "user_id", "expires_at"],
    )
    return People(tokens, users, organizer)


def login_requests() -> list[bytes]:
    """A login of each user who has a password."""
    return [
        build("POST", "/auth/login", body={"username": f"login{n}", "password": PASSWORD})
        for n in range(LOGINS)
    ]


def numbered(places: int) -> dict[str, Any]:
    """A hall of numbered seats, ten sections of equal rows."""
    row = min(100, places // 100)
    rows = [{"name": str(n + 1), "seats": row} for n in range(places // 10 // row)]
    return {"name": "Hall", "sections": [{"name": name, "rows": rows} for name in "ABCDEFGHIJ"]}


def general(places: int) -> dict[str, Any]:
    """General admission."""
    return {"name": "Field", "capacity": places}


async def make_hall(
    database: asyncpg.Connection, url: str, token: str, draft: dict[str, Any]
) -> Hall:
    """Have the service create an event."""
    started_at = perf_counter()
    answer = await ask(url, build("POST", "/events", token, draft))
    create_s = perf_counter() - started_at
    event_id = require(answer, 201)["id"]
    [row] = await database.fetch(
        "select first_seat_id, capacity from events where id = $1", event_id
    )
    return Hall(event_id, row["first_seat_id"], row["capacity"], create_s)


def require(answer: Answer, status: int) -> dict[str, Any]:
    """The answer's document, if it has this status.

    Raises BenchError.
    """
    if answer.status != status:
        raise BenchError(f"Expected {status}, got {answer.status}: {answer.body[:500]!r}")
    document: dict[str, Any] = json.loads(answer.body)
    return document
