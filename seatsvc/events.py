"""Events and the halls they are sold from."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

import asyncpg

from seatsvc import db
from seatsvc.errors import EventHasBookings, Invalid, NotFound, ServiceError, VersionMismatch
from seatsvc.locks import Claim, SeatLocks

SQL = db.queries("events")

REFUSALS: dict[str, Callable[[], ServiceError]] = {
    "events_dates_check": partial(Invalid, "ends_at: must not be before starts_at"),
    "events_sales_check": partial(Invalid, "sales_end: must not be before sales_start"),
    "ticket_types_one_currency": partial(Invalid, "All ticket types must have one currency."),
    "bookings_event_id_fkey": EventHasBookings,
}
Status = Literal["on_sale", "cancelled"]


@dataclass(frozen=True, slots=True)
class TicketTypeDraft:
    """A ticket type to be: its name is how sections refer to it."""

    name: str
    price: int  # minor units
    currency: str
    quantity: int | None = None


@dataclass(frozen=True, slots=True)
class RowDraft:
    """A numbered row to be: labels in seating order, or how many places, numbered from 1 on."""

    name: str
    labels: list[str] = field(default_factory=list)
    accessible: list[str] = field(default_factory=list)
    x: float | None = None
    y: float | None = None
    places: int = 0

    @property
    def size(self) -> int:
        """Its places."""
        return self.places or len(self.labels)


@dataclass(frozen=True, slots=True)
class SectionDraft:
    """A section to be: numbered rows, or a number of places without numbers."""

    name: str
    rows: list[RowDraft] = field(default_factory=list)
    places: int = 0
    ticket_type: str | None = None

    @property
    def size(self) -> int:
        """Its places."""
        return self.places or sum(row.size for row in self.rows)


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event to be."""

    name: str
    sections: list[SectionDraft]
    ticket_types: list[TicketTypeDraft] = field(default_factory=list)
    description: str | None = None
    venue: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    sales_start: datetime | None = None
    sales_end: datetime | None = None
    max_seats_per_user: int | None = None
    max_bookings_per_user_per_day: int | None = None
    hold_seconds: int = 600


@dataclass(frozen=True, slots=True)
class Event:
    """An event, without its hall and its ticket types."""

    id: int
    organizer_id: UUID | None
    name: str
    description: str | None
    venue: str | None
    starts_at: datetime | None
    ends_at: datetime | None
    sales_start: datetime | None
    sales_end: datetime | None
    max_seats_per_user: int | None
    max_bookings_per_user_per_day: int | None
    hold_seconds: int
    status: Status
    capacity: int
    created_at: datetime
    updated_at: datetime
    version: int

    @staticmethod
    def from_row(row: asyncpg.Record) -> "Event":
        """The columns of the same names."""
        return Event(**row)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to list. Without dates: those that are not over."""

    q: str | None = None
    venue: str | None = None
    starts_after: datetime | None = None
    starts_before: datetime | None = None
    status: Status = "on_sale"

    @property
    def upcoming(self) -> bool:
        """Leave out what is over?"""
        return self.starts_after is None and self.starts_before is None


def main_hall() -> EventDraft:
    """The event of a first run: four sections of 20 seats, one booking per user and day."""
    rows = [RowDraft(str(n), [str(label) for label in range(1, 11)]) for n in (1, 2)]
    kinds = {"A": "Front", "B": "Front", "C": "Rear", "D": "Rear"}
    return EventDraft(
        "Main hall",
        [SectionDraft(name, rows, ticket_type=kind) for name, kind in kinds.items()],
        [TicketTypeDraft("Front", 4500, "EUR"), TicketTypeDraft("Rear", 3000, "EUR")],
        description="The demo event. Book a seat and cancel it as you like.",
        max_bookings_per_user_per_day=1,
    )


class Events:
    """Creates, shows, changes, cancels and deletes events.

    An `owner` is whose events a call may touch: None for an admin, who may touch all.
    """

    def __init__(self, database: db.Database, locks: SeatLocks) -> None:
        self._db = database
        self._locks = locks

    async def any(self) -> bool:
        """Is there an event at all?"""
        return bool(await self._db.only(SQL["has_events"]))

    async def create(self, draft: EventDraft, organizer_id: UUID | None = None) -> int:
        """Create the event with all its places; its id.

        Raises Invalid for dates in the wrong order and for several currencies.
        """
        try:
            async with self._db.long_transaction() as connection:
                return await _create(connection, draft, organizer_id)
        except asyncpg.CheckViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error

    async def get(self, event_id: int) -> Event:
        """The event.

        Raises NotFound.
        """
        row = await self._db.fetchrow(SQL["get_event"], event_id)
        if row is None:
            raise _no_event(event_id)
        return Event.from_row(row)

    async def list_events(
        self, wanted: EventFilter, after: tuple[datetime | None, int] | None, limit: int
    ) -> list[Event]:
        """Events, soonest first, from the one after `after` (its start and its id) on."""
        starts_at, event_id = after or (None, None)
        rows = await self._db.fetch(
            SQL["list_events"],
            wanted.status, wanted.q, wanted.venue, wanted.starts_after, wanted.starts_before,
            wanted.upcoming, starts_at, event_id, limit,
        )  # fmt: skip
        return [Event.from_row(row) for row in rows]

    async def change(
        self,
        event_id: int,
        owner: UUID | None,
        changes: Mapping[str, object],
        versions: list[int] | None,
    ) -> Event:
        """Change the named fields, if the event still has one of these versions; None: any.

        Raises NotFound, VersionMismatch, Invalid for dates in the wrong order.
        """
        named = json.dumps(changes, default=str)
        try:
            row = await self._db.fetchrow(SQL["change_event"], event_id, owner, named, versions)
        except asyncpg.CheckViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error
        if row is not None:
            return Event.from_row(row)
        if await self._db.only(SQL["owns_event"], event_id, owner):
            raise VersionMismatch()
        raise _no_event(event_id)

    async def delete(self, event_id: int, owner: UUID | None) -> None:
        """Delete an event that never sold a place.

        Raises NotFound, EventHasBookings.
        """
        try:
            async with self._db.long_transaction() as connection:
                found = await connection.fetchval(
                    SQL["delete_event"], event_id, owner, timeout=db.LONG_S
                )
        except asyncpg.ForeignKeyViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error
        if not found:
            raise _no_event(event_id)
        await self._locks.finish(Claim(event_id))

    async def cancel(self, event_id: int, owner: UUID | None) -> Event:
        """Stop the sale for good, then cancel every booking and end every hold.

        Cut short, it can be repeated. Raises NotFound.
        """
        if await self._db.fetchrow(SQL["stop_sales"], event_id, owner) is None:
            raise _no_event(event_id)
        async with self._db.long_transaction() as connection:
            await connection.execute(SQL["await_sales"], event_id, timeout=db.LONG_S)
        try:
            async with self._db.long_transaction() as connection:
                await connection.execute(SQL["cancel_sales"], event_id, timeout=db.LONG_S)
        finally:
            await self._locks.finish(Claim(event_id))
        return await self.get(event_id)


def _no_event(event_id: int) -> NotFound:
    return NotFound(f"There is no event {event_id}, or it is not yours.")


async def _create(connection: db.Connection, draft: EventDraft, organizer_id: UUID | None) -> int:
    [event] = await connection.fetch(
        SQL["create_event"],
        organizer_id, draft.name, draft.description, draft.venue, draft.starts_at,
        draft.ends_at, draft.sales_start, draft.sales_end, draft.max_seats_per_user,
        draft.max_bookings_per_user_per_day, draft.hold_seconds,
        sum(section.size for section in draft.sections),
    )  # fmt: skip
    kinds = json.dumps([asdict(each) for each in draft.ticket_types])
    rows = await connection.fetch(SQL["create_ticket_types"], event["id"], kinds)
    types = {row["name"]: row["id"] for row in rows}
    sections, seat_rows = _plan(draft, event["first_seat_id"], types)
    for query, part in (
        ("create_sections", sections),
        ("create_rows", seat_rows),
        ("create_numbered_seats", seat_rows),
        ("create_general_places", sections),
    ):
        await connection.execute(SQL[query], event["id"], json.dumps(part), timeout=db.LONG_S)
    return int(event["id"])


def _plan(
    draft: EventDraft, first_seat_id: int, types: dict[str, int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The sections and the rows, each with its range of seat ids: one after the other."""
    sections, rows = [], []
    for section in draft.sections:
        type_id = types[section.ticket_type] if section.ticket_type else None
        sections.append({
            "name": section.name, "first_seat_id": first_seat_id, "places": section.size,
            "general_admission": not section.rows, "ticket_type_id": type_id,
        })  # fmt: skip
        for row in section.rows:
            rows.append({
                "section": section.name, "ticket_type_id": type_id, "first_seat_id": first_seat_id,
                **asdict(row), "places": row.size,
            })  # fmt: skip
            first_seat_id += row.size
        first_seat_id += section.places
    return sections, rows
