"""Booking seats, one's own bookings, and cancelling them."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, JsonValue, TypeAdapter, model_validator

from seatsvc.api.deps import (
    CallerDep,
    Cursor,
    IdempotencyKey,
    Limit,
    QueryId,
    StateDep,
    Uuid,
    decode_cursor,
    encode_cursor,
    link_next,
    time_in_cursor,
)
from seatsvc.api.holds import CREATED, HOLD_EXAMPLES, HOLD_WAYS, REFUSALS, HoldRequest, created
from seatsvc.api.openapi import one_way
from seatsvc.api.problems import answers
from seatsvc.api.rates import BookerDep
from seatsvc.bookings import Booking
from seatsvc.errors import (
    AlreadyCancelled,
    BadCursor,
    HoldExpired,
    Invalid,
    InvalidToken,
    NotAuthenticated,
    NotFound,
    RateLimited,
    Unavailable,
)

router = APIRouter()

BOOKING_EXAMPLES: list[JsonValue] = [
    *HOLD_EXAMPLES,
    {"hold_id": "0b8f2c1e-3c69-4f9e-9d53-0d4c9c1f4d11"},
]
_BOOKING = TypeAdapter(Booking)


class BookingRequest(
    HoldRequest, json_schema_extra=one_way(*HOLD_WAYS, "hold_id", examples=BOOKING_EXAMPLES)
):
    """Places, all or none: one seat, several seats, a number of an event's best, or a hold."""

    hold_id: Uuid | None = None

    @model_validator(mode="after")
    def _hold_has_types(self) -> Self:
        if self.hold_id is not None and self.ticket_type_id is not None:
            raise ValueError("a hold has its ticket types already")
        return self

    @property
    def ways(self) -> str:
        """For the message."""
        return "seat_id, seat_ids, event_id with quantity, or hold_id"

    @property
    def other_way(self) -> UUID | None:
        """The hold."""
        return self.hold_id


class BookingPage(BaseModel):
    """Bookings, newest first."""

    items: list[Booking]
    next_cursor: str | None


@router.post(
    "/bookings",
    status_code=201,
    response_model=Booking,
    responses=CREATED | answers(*REFUSALS, HoldExpired),
)
async def create_booking(
    body: BookingRequest, caller: BookerDep, parts: StateDep, key: IdempotencyKey = None
) -> Response:
    """Book places, all or none. With an `Idempotency-Key`, a repeated request is done once."""
    done = await parts["bookings"].book(caller, body.choice(), key, body.fingerprint(key))
    return created(_BOOKING.dump_json(done.sale), f"/bookings/{done.sale.id}", done.replayed)


@router.get(
    "/bookings",
    responses=answers(NotAuthenticated, InvalidToken, Invalid, Unavailable),
)
async def list_bookings(
    request: Request,
    response: Response,
    caller: CallerDep,
    parts: StateDep,
    status: Literal["active", "cancelled"] | None = None,
    event_id: QueryId = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> BookingPage:
    """My bookings, newest first."""
    found = await parts["bookings"].list_bookings(
        caller.user_id, status=status, event_id=event_id, after=_after(cursor), limit=limit + 1
    )
    items = found[:limit]
    following = None
    if len(found) > limit:
        following = encode_cursor(items[-1].created_at.isoformat(), items[-1].id)
    response.headers.update(link_next(request, following))
    return BookingPage(items=items, next_cursor=following)


@router.get(
    "/bookings/{booking_id}",
    responses=answers(NotAuthenticated, InvalidToken, NotFound, Invalid, Unavailable),
)
async def get_booking(booking_id: Uuid, caller: CallerDep, parts: StateDep) -> Booking:
    """One of my bookings."""
    return await parts["bookings"].get(caller.user_id, booking_id)


@router.delete(
    "/bookings/{booking_id}",
    responses=answers(
        NotAuthenticated, InvalidToken, NotFound, AlreadyCancelled, Invalid, RateLimited,
        Unavailable,
    ),
)  # fmt: skip
async def cancel_booking(booking_id: Uuid, caller: BookerDep, parts: StateDep) -> Booking:
    """Cancel one of my bookings. Its seats are free again."""
    return await parts["bookings"].cancel(caller.user_id, booking_id)


def _after(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        created_at, booking_id = decode_cursor(cursor)
        return time_in_cursor(created_at), UUID(booking_id)
    except (ValueError, TypeError, AttributeError):
        raise BadCursor() from None
