"""Holds: seats set aside for a buyer for some minutes. They live in PostgreSQL, by its clock."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from seatsvc import db
from seatsvc.checkout import Checkout, refusal
from seatsvc.errors import NotFound
from seatsvc.locks import Claim, SeatLocks
from seatsvc.orders import Buyer, Choice, Done, SoldSeat, side_by_side, sold_seats
from seatsvc.seats import Seats

SQL = db.queries("holds")


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that runs."""

    id: UUID
    event_id: int
    seats: list[SoldSeat]
    adjacent: bool | None
    expires_at: datetime
    expires_in: int  # seconds from the answer on

    @staticmethod
    def from_row(row: asyncpg.Record) -> "Hold":
        """One that was read just now."""
        return Hold._from(row, row["expires_at"], row["expires_in"])

    @staticmethod
    def as_first_answered(row: asyncpg.Record) -> "Hold":
        """As it was when it was made, whatever became of it."""
        expires_at = row["first_expires_at"]
        return Hold._from(row, expires_at, round((expires_at - row["created_at"]).total_seconds()))

    @staticmethod
    def _from(row: asyncpg.Record, expires_at: datetime, expires_in: int) -> "Hold":
        seats = sold_seats(row["seats"])
        ids = row["id"], row["event_id"]
        return Hold(*ids, seats, side_by_side(seats), expires_at, expires_in)


class Holds:
    """Holds, shows, extends, releases, and notices when a hold has expired."""

    def __init__(self, database: db.Database, locks: SeatLocks, seats: Seats) -> None:
        self._db = database
        self._locks = locks
        self._checkout = Checkout(
            database,
            locks,
            seats,
            kind="hold",
            take=SQL["hold"],
            committed=SQL["get_committed_holds"],
            from_row=Hold.as_first_answered,
        )

    async def hold(
        self, buyer: Buyer, choice: Choice, key: str | None, request_hash: str | None
    ) -> Done[Hold]:
        """Hold the chosen places, all or none.

        Raises what Checkout.order does.
        """
        return await self._checkout.order(buyer, choice, key, request_hash)

    async def get(self, user_id: UUID, hold_id: UUID) -> Hold:
        """The user's own hold, while it runs.

        Raises NotFound.
        """
        row = await self._db.fetchrow(SQL["get_hold"], hold_id, user_id)
        if row is None:
            raise NotFound()
        return Hold.from_row(row)

    async def event_of(self, user_id: UUID, hold_id: UUID) -> int:
        """The event of the user's own hold, whatever became of it.

        Raises NotFound.
        """
        row = await self._db.fetchrow(SQL["find_hold_event"], hold_id, user_id)
        if row is None:
            raise NotFound()
        return int(row["event_id"])

    async def extend(self, user_id: UUID, hold_id: UUID) -> Hold:
        """Let the hold run its full time again from now on.

        Raises NotFound, HoldExpired, HoldLimit.
        """
        await self._change("extend_hold", user_id, hold_id)
        return await self.get(user_id, hold_id)

    async def release(self, user_id: UUID, hold_id: UUID) -> None:
        """End the hold; its seats are free again.

        Raises NotFound.
        """
        await self._change("release_hold", user_id, hold_id)

    async def expire(self) -> None:
        """Free what has expired. Every worker does; none waits for another.

        Raises Unavailable.
        """
        await self._db.execute(SQL["forget_keys"])
        while rows := await self._db.fetch(SQL["expire_holds"]):
            await asyncio.gather(*(self._locks.finish(Claim(row["event_id"])) for row in rows))

    @property
    def waiting(self) -> int:
        """How many orders wait for a batch."""
        return self._checkout.waiting

    async def finish_running(self) -> None:
        """Let what was begun end."""
        await self._checkout.finish_running()

    async def _change(self, query: str, user_id: UUID, hold_id: UUID) -> None:
        event_id = await self.event_of(user_id, hold_id)
        await self._checkout.to_the_end(self._change_once(query, user_id, hold_id, event_id))

    async def _change_once(self, query: str, user_id: UUID, hold_id: UUID, event_id: int) -> None:
        try:
            refused = await self._db.only(SQL[query], hold_id, user_id)
        finally:
            await self._locks.finish(Claim(event_id))
        if refused is not None:
            raise refusal(refused)
