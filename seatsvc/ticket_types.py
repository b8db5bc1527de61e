"""Ticket types: at which prices an event is sold, and how many places at each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg

from seatsvc import db
from seatsvc.errors import Invalid, NameTaken, NotFound, ServiceError, TicketTypeInUse

SQL = db.queries("ticket_types")

REFUSALS: dict[str, Callable[[], ServiceError]] = {
    "ticket_types_name_key": NameTaken,
    "ticket_types_one_currency": partial(
        Invalid, "currency: must be that of the event's other ticket types"
    ),
    "ticket_types_limit": partial(Invalid, "An event has at most 100 ticket types."),
    "ticket_types_not_oversold": partial(
        TicketTypeInUse, "More places of this ticket type are booked or held than this quantity."
    ),
    "sections_ticket_type_id_fkey": TicketTypeInUse,
    "ticket_types_in_use": TicketTypeInUse,
}


@dataclass(frozen=True, slots=True)
class TicketType:
    """What a place costs, and how many may be sold at that price."""

    id: int
    event_id: int
    name: str
    price: int  # minor units
    currency: str
    quantity: int | None

    @staticmethod
    def from_row(row: asyncpg.Record) -> "TicketType":
        """The columns of the same names."""
        return TicketType(**row)


class TicketTypes:
    """Lists, adds, changes and deletes ticket types.

    An `owner` is whose events a call may touch: None for an admin, who may touch all.
    """

    def __init__(self, database: db.Database) -> None:
        self._db = database

    async def list_ticket_types(self, event_id: int) -> list[TicketType]:
        """All of the event's.

        Raises NotFound.
        """
        rows = await self._db.fetch(SQL["list_ticket_types"], event_id)
        if not rows and not await self._db.only(SQL["has_event"], event_id):
            raise NotFound(f"There is no event {event_id}.")
        return [TicketType.from_row(row) for row in rows]

    async def add(
        self,
        event_id: int,
        owner: UUID | None,
        *,
        name: str,
        price: int,
        currency: str,
        quantity: int | None,
    ) -> TicketType:
        """One more for the event.

        Raises NotFound, NameTaken, Invalid for another currency or one type too many.
        """
        try:
            row = await self._db.fetchrow(
                SQL["add_ticket_type"], event_id, owner, name, price, currency, quantity
            )
        except asyncpg.IntegrityConstraintViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error
        if row is None:
            raise NotFound()
        return TicketType.from_row(row)

    async def change(
        self, ticket_type_id: int, owner: UUID | None, changes: Mapping[str, object]
    ) -> TicketType:
        """Change the named fields. What is sold or held already keeps its price.

        Raises NotFound, NameTaken, TicketTypeInUse.
        """
        rows = await self._write("change_ticket_type", ticket_type_id, owner, json.dumps(changes))
        if not rows:
            raise NotFound()
        return TicketType.from_row(rows[0])

    async def delete(self, ticket_type_id: int, owner: UUID | None) -> None:
        """Delete one that no section, booking or hold refers to.

        Raises NotFound, TicketTypeInUse.
        """
        [row] = await self._write("delete_ticket_type", ticket_type_id, owner)
        if not row["found"]:
            raise NotFound()

    async def _write(self, query: str, *args: object) -> list[asyncpg.Record]:
        try:
            async with self._db.long_transaction() as connection:
                return await connection.fetch(SQL[query], *args, timeout=db.LONG_S)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise REFUSALS[str(error.constraint_name)]() from error
