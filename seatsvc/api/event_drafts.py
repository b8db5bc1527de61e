"""What `POST /events` takes: the event, its ticket types, and its hall."""

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    JsonValue,
    StrictInt,
    Tag,
    model_validator,
)

from seatsvc.api.deps import Name, Short, Timestamp, plain
from seatsvc.api.openapi import TEXT, Says, one_way
from seatsvc.api.ticket_types import PLACES_MAX, TicketTypeBody
from seatsvc.events import EventDraft, RowDraft, SectionDraft, TicketTypeDraft

TICKET_TYPES_MAX = 100


def no_doubles(values: Iterable[str], what: str) -> None:
    """Names tell things apart.

    Raises ValueError with the first double.
    """
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} {value!r} is there twice")
        seen.add(value)


def _no_double_labels(labels: list[str]) -> list[str]:
    no_doubles(labels, "the label")
    return labels


Description = Annotated[
    str,
    Field(max_length=10_000),
    AfterValidator(partial(plain, pattern=TEXT)),
    Says("pattern", TEXT),
]
Places = Annotated[StrictInt, Field(ge=1, le=PLACES_MAX)]
Labels = Annotated[
    list[Short],
    Field(min_length=1),
    AfterValidator(_no_double_labels),
    Says("uniqueItems", True),
]
SeatsInRow = Annotated[
    Annotated[Places, Tag("number")] | Annotated[Labels, Tag("labels")],
    Discriminator(lambda value: "labels" if isinstance(value, list) else "number"),
    Field(description="How many, numbered from 1 on; or their labels, in seating order."),
]
Coordinate = Annotated[float, Field(strict=True, ge=-1_000_000, le=1_000_000)]
Allowance = Annotated[StrictInt, Field(ge=1, le=PLACES_MAX)]
HoldSeconds = Annotated[StrictInt, Field(ge=5, le=86_400)]


class RowBody(BaseModel, extra="forbid"):
    """A numbered row; x and y say where a map draws it."""

    name: Short
    seats: SeatsInRow
    accessible: list[Short] = []
    x: Coordinate | None = None
    y: Coordinate | None = None

    @model_validator(mode="after")
    def _accessible_is_there(self) -> Self:
        for label in self.accessible:
            if not self._has(label):
                raise ValueError(f"accessible: row {self.name!r} has no seat {label!r}")
        return self

    def _has(self, label: str) -> bool:
        if isinstance(self.seats, list):
            return label in self.seats
        # No list of them: there may be a million.
        return label.isdecimal() and str(int(label)) == label and 1 <= int(label) <= self.seats

    @property
    def size(self) -> int:
        """Its places."""
        return len(self.seats) if isinstance(self.seats, list) else self.seats

    def draft(self) -> RowDraft:
        """As the service takes it."""
        labels, places = (self.seats, 0) if isinstance(self.seats, list) else ([], self.seats)
        return RowDraft(self.name, labels, self.accessible, self.x, self.y, places)


class SectionBody(BaseModel, extra="forbid", json_schema_extra=one_way("rows", "places")):
    """A part of the hall: numbered `rows`, or a number of general-admission `places`."""

    name: Name
    ticket_type: Name | None = Field(
        default=None, description="Its name; without one the buyer chooses among all."
    )
    rows: Annotated[list[RowBody], Field(min_length=1)] | None = None
    places: Places | None = None

    @model_validator(mode="after")
    def _rows_or_places(self) -> Self:
        if (self.rows is None) == (self.places is None):
            raise ValueError(f"section {self.name!r} needs either rows or places")
        no_doubles((row.name for row in self.rows or ()), f"section {self.name!r}: the row")
        return self

    @property
    def size(self) -> int:
        """Its places."""
        return self.places or sum(row.size for row in self.rows or ())

    def draft(self) -> SectionDraft:
        """As the service takes it."""
        rows = [row.draft() for row in self.rows or ()]
        return SectionDraft(self.name, rows, self.places or 0, self.ticket_type)


class EventSettings(BaseModel, extra="forbid"):
    """What may be null, now and later."""

    description: Description | None = None
    venue: Name | None = None
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    sales_start: Timestamp | None = None
    sales_end: Timestamp | None = None
    max_seats_per_user: Allowance | None = None
    max_bookings_per_user_per_day: Allowance | None = None


CONCERT: dict[str, JsonValue] = {
    "name": "Spring concert",
    "venue": "Town hall",
    "starts_at": "2027-05-01T19:30:00Z",
    "max_seats_per_user": 6,
    "ticket_types": [
        {"name": "Seated", "price": 4500, "currency": "EUR"},
        {"name": "Standing", "price": 2500, "currency": "EUR", "quantity": 200},
    ],
    "sections": [
        {
            "name": "Stalls",
            "ticket_type": "Seated",
            "rows": [
                {"name": "A", "seats": 20, "accessible": ["1", "20"]},
                {"name": "B", "seats": ["1", "2", "2a", "3"], "x": 0, "y": 1.5},
            ],
        },
        {"name": "Floor", "ticket_type": "Standing", "places": 200},
    ],
}
FAIR: dict[str, JsonValue] = {"name": "Book fair", "capacity": 500}


class EventBody(
    EventSettings,
    json_schema_extra=one_way("capacity", "sections", examples=[CONCERT, FAIR]),
):
    """A new event, with its places: `capacity`, or `sections`."""

    name: Name
    hold_seconds: HoldSeconds = 600
    ticket_types: Annotated[list[TicketTypeBody], Field(max_length=TICKET_TYPES_MAX)] = []
    capacity: Places | None = Field(
        default=None, description="So many places without numbers, in one section."
    )
    sections: Annotated[list[SectionBody], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_hall(self) -> Self:
        if (self.capacity is None) == (self.sections is None):
            raise ValueError("give either capacity or sections")
        sections = self.sections or []
        no_doubles((section.name for section in sections), "the section")
        if sum(section.size for section in sections) > PLACES_MAX:
            raise ValueError(f"an event has at most {PLACES_MAX:,} places")
        return self

    @model_validator(mode="after")
    def _known_ticket_types(self) -> Self:
        names = [ticket_type.name for ticket_type in self.ticket_types]
        no_doubles(names, "the ticket type")
        for section in self.sections or ():
            if section.ticket_type not in (None, *names):
                raise ValueError(
                    f"section {section.name!r}: there is no ticket type {section.ticket_type!r}"
                )
        return self

    def draft(self) -> EventDraft:
        """As the service takes it."""
        sections = [section.draft() for section in self.sections or ()]
        types = [TicketTypeDraft(**each.model_dump()) for each in self.ticket_types]
        rest: dict[str, Any] = self.model_dump(exclude={"capacity", "sections", "ticket_types"})
        if self.capacity is not None:
            sections = [SectionDraft("General admission", places=self.capacity)]
        return EventDraft(sections=sections, ticket_types=types, **rest)
