"""Bookings: who has which seats, for good."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from seatsvc import db, metrics
from seatsvc.checkout import Checkout, refusal
from seatsvc.errors import NotFound
from seatsvc.holds import Holds
from seatsvc.locks import Claim, SeatLocks
from seatsvc.orders import Buyer, Choice, Done, SoldSeat, side_by_side, sold_seats
from seatsvc.seats import Seats

SQL = db.queries("bookings")
Status = Literal["active", "cancelled"]


@dataclass(frozen=True, slots=True)
class Booking:
    """Who has which places, at which prices: a row of `booking_details`."""

    id: UUID
    event_id: int
    user_id: UUID
    status: Status
    seats: list[SoldSeat]
    adjacent: bool | None
    quantity: int
    total: int  # minor units
    currency: str | None
    created_at: datetime
    updated_at: datetime
    cancelled_at: datetime | None

    @staticmethod
    def from_row(row: asyncpg.Record) -> "Booking":
        """As it is now."""
        return Booking._from(row, row["status"], row["updated_at"], row["cancelled_at"])

    @staticmethod
    def as_first_answered(row: asyncpg.Record) -> "Booking":
        """As it was when it was made: nothing but a cancellation changes a booking."""
        return Booking._from(row, "active", row["created_at"], None)

    @staticmethod
    def _from(
        row: asyncpg.Record, status: Status, updated_at: datetime, cancelled_at: datetime | None
    ) -> "Booking":
        seats = sold_seats(row["seats"])
        return Booking(
            row["id"],
            row["event_id"],
            row["user_id"],
            status,
            seats,
            side_by_side(seats),
            row["quantity"],
            row["total"],
            row["currency"],
            row["created_at"],
            updated_at,
            cancelled_at,
        )


class Bookings:
    """Books, shows and cancels."""

    def __init__(self, database: db.Database, locks: SeatLocks, seats: Seats, holds: Holds) -> None:
        self._db = database
        self._locks = locks
        self._holds = holds
        self._checkout = Checkout(
            database,
            locks,
            seats,
            kind="booking",
            take=SQL["book"],
            committed=SQL["get_committed"],
            from_row=Booking.as_first_answered,
        )

    async def book(
        self, buyer: Buyer, choice: Choice, key: str | None, request_hash: str | None
    ) -> Done[Booking]:
        """Book the chosen places or hold, all or none.

        Raises what Checkout.order does.
        """
        if choice.hold_id is not None:
            event_id = await self._holds.event_of(buyer.user_id, choice.hold_id)
            choice = choice._replace(event_id=event_id)
        done = await self._checkout.order(buyer, choice, key, request_hash)
        if choice.hold_id is not None and not done.replayed:
            metrics.HOLDS_BOOKED.inc()
        return done

    async def get(self, user_id: UUID, booking_id: UUID) -> Booking:
        """The user's own booking.

        Raises NotFound.
        """
        row = await self._db.fetchrow(SQL["get_booking"], booking_id, user_id)
        if row is None:
            raise NotFound()
        return Booking.from_row(row)

    async def list_bookings(
        self,
        user_id: UUID,
        *,
        status: Status | None,
        event_id: int | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Booking]:
        """The user's bookings, newest first, from the one after `after` on."""
        created_at, booking_id = after or (None, None)
        rows = await self._db.fetch(
            SQL["list_bookings"], user_id, status, event_id, created_at, booking_id, limit
        )
        return [Booking.from_row(row) for row in rows]

    async def cancel(self, user_id: UUID, booking_id: UUID) -> Booking:
        """Cancel the user's own booking; its seats are free again.

        Raises NotFound, AlreadyCancelled, Unavailable.
        """
        booking = await self.get(user_id, booking_id)
        return await self._checkout.to_the_end(self._cancel(booking))

    @property
    def waiting(self) -> int:
        """How many orders wait for a batch."""
        return self._checkout.waiting

    async def finish_running(self) -> None:
        """Let what was begun end."""
        await self._checkout.finish_running()

    async def _cancel(self, booking: Booking) -> Booking:
        try:
            refused = await self._db.only(SQL["cancel_booking"], booking.id, booking.user_id)
        finally:
            await self._locks.finish(Claim(booking.event_id))
        if refused is not None:
            raise refusal(refused)
        return await self.get(booking.user_id, booking.id)
