"""What an organizer sees of an event's sales: its bookings, one by one and in numbers."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from seatsvc import db
from seatsvc.bookings import Booking
from seatsvc.errors import NotFound

SQL = db.queries("reports")
EXPORT_PAGE = 100  # bookings

After = tuple[datetime, UUID] | None


@dataclass(frozen=True, slots=True)
class SoldPlace:
    """A place in a booking, whether it is active or cancelled."""

    booking_id: UUID
    user_id: UUID
    status: str
    section: str
    row: str | None
    number: str | None
    ticket_type: str | None
    price: int  # minor units
    currency: str | None
    created_at: datetime
    cancelled_at: datetime | None


@dataclass(frozen=True, slots=True)
class SectionSales:
    """A section's places by state, and what its booked ones brought in."""

    name: str
    capacity: int
    booked: int
    held: int
    blocked: int
    free: int
    revenue: int  # minor units


@dataclass(frozen=True, slots=True)
class TicketTypeSales:
    """How many places went at this price. Without a quantity, as many as there are places may."""

    id: int
    name: str
    quantity: int | None
    booked: int
    held: int
    revenue: int  # minor units


@dataclass(frozen=True, slots=True)
class Hour:
    """The active bookings that were made in this hour, UTC."""

    hour: datetime
    bookings: int
    seats: int


@dataclass(frozen=True, slots=True)
class Report:
    """An event's sales at one moment. Cancelled bookings do not count."""

    event_id: int
    capacity: int
    booked: int
    held: int
    blocked: int
    free: int
    revenue: int  # minor units
    currency: str | None
    sections: list[SectionSales]
    ticket_types: list[TicketTypeSales]
    bookings_per_hour: list[Hour]

    @staticmethod
    def from_row(row: asyncpg.Record) -> "Report":
        """Its totals are those of its sections."""
        sections = [SectionSales(**each) for each in json.loads(row["sections"])]
        hours = json.loads(row["bookings_per_hour"])
        return Report(
            event_id=row["event_id"],
            capacity=row["capacity"],
            booked=sum(each.booked for each in sections),
            held=sum(each.held for each in sections),
            blocked=sum(each.blocked for each in sections),
            free=sum(each.free for each in sections),
            revenue=sum(each.revenue for each in sections),
            currency=row["currency"],
            sections=sections,
            ticket_types=[TicketTypeSales(**each) for each in json.loads(row["ticket_types"])],
            bookings_per_hour=[
                Hour(datetime.fromisoformat(each.pop("hour")), **each) for each in hours
            ],
        )


class Reports:
    """Shows organizers what was sold.

    An `owner` is whose events a call may see: None for an admin, who may see all.
    """

    def __init__(self, database: db.Database) -> None:
        self._db = database

    async def report(self, event_id: int, owner: UUID | None) -> Report:
        """The event's sales in numbers, all of one moment.

        Raises NotFound.
        """
        async with self._db.long_transaction() as connection:
            row = await connection.fetchrow(SQL["get_report"], event_id, owner, timeout=db.LONG_S)
        if row is None:
            raise NotFound()
        return Report.from_row(row)

    async def bookings(
        self, event_id: int, owner: UUID | None, *, status: str | None, after: After, limit: int
    ) -> list[Booking]:
        """The event's bookings, newest first, from the one after `after` on.

        Raises NotFound.
        """
        await self._check_owner(event_id, owner)
        created_at, booking_id = after or (None, None)
        rows = await self._db.fetch(
            SQL["list_event_bookings"], event_id, status, created_at, booking_id, limit
        )
        return [Booking.from_row(row) for row in rows]

    async def sold_places(
        self, event_id: int, owner: UUID | None, status: str | None
    ) -> AsyncIterator[list[SoldPlace]]:
        """All places of all bookings, newest first, a page at a time.

        A slow reader holds no connection between two pages. Raises NotFound.
        """
        await self._check_owner(event_id, owner)
        return self._pages(event_id, status)

    async def _pages(self, event_id: int, status: str | None) -> AsyncIterator[list[SoldPlace]]:
        after: tuple[datetime | None, UUID | None] = None, None
        while rows := await self._db.fetch(
            SQL["list_sold_places"], event_id, status, *after, EXPORT_PAGE
        ):
            yield [SoldPlace(**row) for row in rows]
            after = rows[-1]["created_at"], rows[-1]["booking_id"]

    async def _check_owner(self, event_id: int, owner: UUID | None) -> None:
        if not await self._db.only(SQL["owns_event"], event_id, owner):
            raise NotFound()
