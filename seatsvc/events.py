"""Events and the halls they are sold from."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from seatsvc import db

SQL = db.queries("events")


@dataclass(frozen=True, slots=True)
class TicketTypeDraft:
    """A ticket type to be: its name is how sections refer to it."""

    name: str
    price: int  # minor units
    currency: str
    quantity: int | None = None


@dataclass(frozen=True, slots=True)
class RowDraft:
    """A numbered row to be; labels in seating order."""

    name: str
    labels: list[str]
    accessible: list[str] = field(default_factory=list)
    x: float | None = None
    y: float | None = None


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
        return self.places or sum(len(row.labels) for row in self.rows)


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
    """Creates events."""

    def __init__(self, database: db.Database) -> None:
        self._db = database

    async def any(self) -> bool:
        """Is there an event at all?"""
        return bool(await self._db.only(SQL["has_events"]))

    async def create(self, draft: EventDraft, organizer_id: UUID | None = None) -> int:
        """Create the event with all its places; its id."""
        async with self._db.transaction() as connection:
            await connection.execute("set local statement_timeout = '30s'")
            [event] = await connection.fetch(
                SQL["create_event"],
                organizer_id, draft.name, draft.description, draft.venue, draft.starts_at,
                draft.ends_at, draft.sales_start, draft.sales_end, draft.max_seats_per_user,
                draft.max_bookings_per_user_per_day, draft.hold_seconds,
                sum(section.size for section in draft.sections),
            )  # fmt: skip
            types = await _create_ticket_types(connection, event["id"], draft.ticket_types)
            sections, rows = _plan(draft, event["first_seat_id"], types)
            for query, part in (
                ("create_sections", sections),
                ("create_rows", rows),
                ("create_numbered_seats", rows),
                ("create_general_places", sections),
            ):
                await connection.execute(SQL[query], event["id"], json.dumps(part))
        return int(event["id"])


async def _create_ticket_types(
    connection: db.Connection, event_id: int, drafts: list[TicketTypeDraft]
) -> dict[str, int]:
    ids: dict[str, int] = {}
    for draft in drafts:
        ids[draft.name] = await connection.fetchval(
            SQL["create_ticket_type"],
            event_id, draft.name, draft.price, draft.currency, draft.quantity,
        )  # fmt: skip
    return ids


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
                "places": len(row.labels), **asdict(row),
            })  # fmt: skip
            first_seat_id += len(row.labels)
        first_seat_id += section.places
    return sections, rows
