"""What was answered is compared with what the database holds. Speed that sells twice is none."""

import json
from collections import Counter
from collections.abc import Sequence

import asyncpg

from bench.client import Answer
from bench.load import CONNECTIONS, Sent, Wanted

OTHER_ANSWERS_MAX = 0.01
BOOKED = """
select b.id::text, b.user_id, b.quantity, bs.seat_id,
       b.status = 'active' and bs.active and s.booking_id = b.id as sound
  from bookings b
  join booking_seats bs on bs.booking_id = b.id
  join seats s on s.id = bs.seat_id
 where b.event_id = any ($1::bigint[])
"""


class CheckFailed(Exception):
    """An answer and the database do not agree."""


async def check_bookings(
    database: asyncpg.Connection,
    event_ids: Sequence[int],
    wanted: Sequence[Wanted],
    ids: Sequence[str],
    unheard_max: int = CONNECTIONS,
    earlier: frozenset[str] = frozenset(),
) -> None:
    """All bookings of these events, but for these earlier ones, come from these requests.

    Every id that was answered is there, once, with one place of its own; and besides, only as many
    as were in flight at the end. Raises CheckFailed.
    """
    rows = [row for row in await database.fetch(BOOKED, event_ids) if row["id"] not in earlier]
    booked = {row["id"] for row in rows}
    require(len(set(ids)) == len(ids), "two answers name the same booking")
    require(booked.issuperset(ids), f"{len(set(ids) - booked)} answered bookings are missing")
    require(len(rows) <= len(ids) + unheard_max, f"{len(rows)} bookings, {len(ids)} answered")
    require(len(booked) == len(rows), "a booking has more places than it asked for")
    require(all(row["sound"] and row["quantity"] == 1 for row in rows), "a seat and its booking")
    require(len({row["seat_id"] for row in rows}) == len(rows), "a seat was sold twice")
    asked = Counter((each.user_id, each.seat_id) for each in wanted)
    named = any(each.seat_id for each in wanted)
    got = Counter((row["user_id"], row["seat_id"] if named else None) for row in rows)
    require(not got - asked, "somebody got what they did not ask for")


def check_answers(sent: Sent, status: int) -> None:
    """Nearly all answers have this status.

    Raises CheckFailed.
    """
    others = sum(sent.statuses.values()) - sent.statuses.get(status, 0)
    share_max = OTHER_ANSWERS_MAX * sum(sent.statuses.values())
    require(bool(sent.statuses) and others <= share_max, f"expected {status}: {sent.statuses}")


async def check_settings(database: asyncpg.Connection) -> None:
    """PostgreSQL waits for the disk.

    Raises CheckFailed.
    """
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        value = await database.fetchval(f"show {setting}")
        require(value == "on", f"{setting} is {value}")


def booking_id(answer: Answer) -> str:
    """Of a booking that was answered."""
    return str(json.loads(answer.body)["id"])


def version(answer: Answer) -> str:
    """Of an availability."""
    return str(json.loads(answer.body)["version"])


def states(answer: Answer) -> str:
    """All states of an availability, in the layout's order."""
    return "".join(section["states"] for section in json.loads(answer.body)["sections"])


def require(holds: bool, otherwise: str) -> None:
    """Raise CheckFailed, unless it holds."""
    if not holds:
        raise CheckFailed(otherwise)
