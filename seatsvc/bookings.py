"""Bookings: the one path on which a seat is sold, and the way back."""

import asyncio
import json
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

import asyncpg

from seatsvc import db
from seatsvc.errors import BY_CODE, Busy, NotFound, SeatTaken, ServiceError, Unavailable
from seatsvc.lanes import Lane
from seatsvc.locks import Claim, SeatLocks
from seatsvc.scripts import RedisDown
from seatsvc.seats import Seats

SQL = db.queries("bookings")
SETTLE_PATIENCE_S = 1.5
SETTLE_POLL_S = 0.05

T = TypeVar("T")

# Nobody said whether the transaction committed. After any other error PostgreSQL rolled back.
_OUTCOME_OPEN = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class BookedSeat:
    """A seat as it was sold: later price changes do not touch it."""

    id: int
    section: str
    row: str | None
    number: str | None
    ticket_type_id: int | None
    price: int  # minor units


@dataclass(frozen=True, slots=True)
class Booking:
    """A row of `booking_details`."""

    id: UUID
    event_id: int
    user_id: UUID
    status: Literal["active", "cancelled"]
    quantity: int
    total: int  # minor units
    currency: str | None
    created_at: datetime
    updated_at: datetime
    cancelled_at: datetime | None
    seats: list[BookedSeat]

    @staticmethod
    def from_row(row: asyncpg.Record) -> "Booking":
        """The columns of `booking_details`; others are passed over."""
        seats = [BookedSeat(**seat) for seat in json.loads(row["seats"])]
        return Booking(seats=seats, **{name: row[name] for name in _COLUMNS})

    def as_first_answered(self) -> "Booking":
        """As it was when it was made: nothing but a cancellation changes a booking."""
        return replace(self, status="active", updated_at=self.created_at, cancelled_at=None)


_COLUMNS = [each.name for each in fields(Booking) if each.name != "seats"]


@dataclass(frozen=True, slots=True)
class Order:
    """What one request wants to book. Its id becomes the booking's."""

    user_id: UUID
    event_id: int
    seat_ids: tuple[int, ...]
    ticket_type_id: int | None = None
    key: str | None = None
    request_hash: str | None = None
    id: UUID = field(default_factory=uuid4)

    def claim(self) -> Claim:
        """The locks that it needs."""
        owner_key = self.key and f"{self.user_id}:{self.key}"
        return Claim(self.event_id, self.seat_ids, owner_key)

    def as_json(self) -> dict[str, Any]:
        """As the SQL function takes it."""
        return {
            "id": str(self.id),
            "user_id": str(self.user_id),
            "event_id": self.event_id,
            "seat_ids": self.seat_ids,
            "ticket_type_id": self.ticket_type_id,
            "key": self.key,
            "request_hash": self.request_hash,
        }


@dataclass(frozen=True, slots=True)
class Booked:
    """A booking, and whether it is an earlier one, answered again."""

    booking: Booking
    replayed: bool


class Bookings:
    """Books, shows and cancels."""

    def __init__(self, database: db.Database, locks: SeatLocks, seats: Seats) -> None:
        self._db = database
        self._locks = locks
        self._seats = seats
        self._book = Lane(self._book_batch)
        self._running: set[asyncio.Task[Any]] = set()

    async def book(
        self,
        user_id: UUID,
        seat_ids: tuple[int, ...],
        ticket_type_id: int | None = None,
        key: str | None = None,
        request_hash: str | None = None,
    ) -> Booked:
        """Book all these seats, or none.

        Raises NotFound, MixedEvents, any Conflict of the contract, Unavailable.
        """
        hall = await self._seats.hall_of(seat_ids)
        order = Order(
            user_id, hall.event_id, tuple(sorted(seat_ids)), ticket_type_id, key, request_hash
        )
        claim = order.claim()
        # Without Redis the database arbitrates alone.
        with suppress(RedisDown):
            await self._locks.lock(claim)
        return await self._to_the_end(self._commit(order, claim))

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
        status: str | None,
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
        return await self._to_the_end(self._cancel(booking))

    async def finish_running(self) -> None:
        """Let what was begun end: the last act before the connections close."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Neither a client that hangs up nor our own shutdown stops what is begun."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _commit(self, order: Order, claim: Claim) -> Booked:
        try:
            return await self._book(order)
        finally:
            await self._finish(claim)

    async def _cancel(self, booking: Booking) -> Booking:
        try:
            refusal = await self._db.only(SQL["cancel_booking"], booking.id, booking.user_id)
        finally:
            await self._finish(Claim(booking.event_id))
        if refusal is not None:
            raise _refusal(refusal)
        return await self.get(booking.user_id, booking.id)

    async def _finish(self, claim: Claim) -> None:
        try:
            await self._locks.finish(claim)
        except RedisDown:
            # No reader was told. Answer only when no cache can show the old state any more.
            await asyncio.sleep(self._seats.stale_s)

    async def _book_batch(self, orders: Sequence[Order]) -> Sequence[Booked | Exception]:
        batch = secrets.randbits(63)
        try:
            return await self._book_once(batch, orders)
        except _OUTCOME_OPEN:
            return await self._settle(batch, orders)
        except asyncpg.PostgresError as error:
            if len(orders) == 1:
                return [_refused_by_database(error)]
        # Rolled back as a whole. One order's trouble must not become its neighbours'.
        return [(await self._book_batch([order]))[0] for order in orders]

    async def _book_once(self, batch: int, orders: Sequence[Order]) -> list[Booked | Exception]:
        requests = json.dumps([order.as_json() for order in orders])
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["book"], batch, requests)
        return [_result(row) for row in rows]

    async def _settle(self, batch: int, orders: Sequence[Order]) -> list[Booked | Exception]:
        """The connection was lost: wait until the transaction is over, then see what it did."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + SETTLE_PATIENCE_S
        while True:
            try:
                async with self._db.transaction() as connection:
                    await connection.fetchval(SQL["get_settled"], batch)
                    rows = await connection.fetch(SQL["get_committed"], [o.id for o in orders])
                break
            except Unavailable:
                if clock() > deadline:
                    raise
                await asyncio.sleep(SETTLE_POLL_S)
        committed = {row["id"]: Booked(Booking.from_row(row), replayed=False) for row in rows}
        return [committed.get(order.id, Unavailable()) for order in orders]


def _result(row: asyncpg.Record) -> Booked | Exception:
    if row["refusal"] is None:
        booking = Booking.from_row(row)
        return Booked(booking.as_first_answered() if row["replayed"] else booking, row["replayed"])
    blame, allowance = row["blame"], row["allowance"]
    return _refusal(
        row["refusal"],
        seats=blame and json.loads(blame),
        allowance=allowance and json.loads(allowance),
    )


def _refusal(code: str, **extras: Any) -> ServiceError:
    error = BY_CODE[code]
    return error(retry_after_s=1 if error is Busy else None, **extras)


def _refused_by_database(error: asyncpg.PostgresError) -> Exception:
    if getattr(error, "constraint_name", None) == "booking_seats_active_seat_key":
        return SeatTaken()
    return Unavailable() if isinstance(error, db.PASSING) else error
