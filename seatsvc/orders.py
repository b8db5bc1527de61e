"""What a client asks for, and what it gets: the words that holds and bookings share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from seatsvc.locks import Claim


@dataclass(frozen=True, slots=True)
class SoldSeat:
    """A seat at the price it was given for: later price changes do not touch it."""

    id: int
    section: str
    row: str | None
    number: str | None
    ticket_type_id: int | None
    price: int  # minor units


def sold_seats(text: str) -> list[SoldSeat]:
    """From the JSON that the database keeps or makes, in the order of their ids."""
    return [SoldSeat(**seat) for seat in json.loads(text)]


def side_by_side(seats: Sequence[SoldSeat]) -> bool | None:
    """Are they one stretch of one row? None where there are no rows."""
    if all(seat.row is None for seat in seats):
        return None
    return len({(seat.section, seat.row, seat.id - n) for n, seat in enumerate(seats)}) == 1


class Buyer(Protocol):
    """Whoever sent a valid token. The order's transaction looks whether its session still lives."""

    @property
    def user_id(self) -> UUID:
        """Whose order it is."""

    @property
    def session_id(self) -> UUID:
        """In which session."""


class Sale(Protocol):
    """What a booking and a hold have in common."""

    @property
    def id(self) -> UUID:
        """Its order's."""


S = TypeVar("S", bound=Sale)


class Choice(NamedTuple):
    """How a client names places: seats, a hold, or a number of an event's best."""

    seat_ids: tuple[int, ...] = ()
    hold_id: UUID | None = None
    event_id: int = 0
    quantity: int = 0
    section: str | None = None
    ticket_type_id: int | None = None


class Order(NamedTuple):
    """What one request wants. Its id becomes the booking's or the hold's."""

    id: UUID
    user_id: UUID
    session_id: UUID
    event_id: int
    seat_ids: tuple[int, ...] = ()
    hold_id: UUID | None = None
    ticket_type_id: int | None = None
    key: str | None = None
    request_hash: str | None = None

    def claim(self) -> Claim:
        """The locks that it needs."""
        owner_key = self.key and f"{self.user_id}:{self.key}"
        return Claim(self.event_id, self.seat_ids, owner_key, self.id.hex)

    def as_json(self) -> dict[str, Any]:
        """As the SQL functions take it, who read ids without hyphens, too: they are made sooner."""
        return {
            "id": self.id.hex,
            "user_id": self.user_id.hex,
            "session_id": self.session_id.hex,
            "event_id": self.event_id,
            "seat_ids": self.seat_ids,
            "hold_id": self.hold_id and self.hold_id.hex,
            "ticket_type_id": self.ticket_type_id,
            "key": self.key,
            "request_hash": self.request_hash,
        }


class Done(NamedTuple, Generic[S]):
    """A booking or a hold, and whether it is an earlier one, answered again."""

    sale: S
    replayed: bool = False
