"""Booking seats, one's own bookings, and cancelling them."""

import hashlib
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, model_validator

from seatsvc.api.deps import (
    CallerDep,
    Id,
    IdempotencyKey,
    QueryId,
    StateDep,
    decode_cursor,
    encode_cursor,
    link_next,
)
from seatsvc.api.problems import answers
from seatsvc.bookings import Booking
from seatsvc.errors import (
    AlreadyCancelled,
    BadCursor,
    Busy,
    DailyLimitReached,
    EventCancelled,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    Invalid,
    InvalidToken,
    MixedEvents,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    SalesClosed,
    SeatBlocked,
    SeatHeld,
    SeatTaken,
    TicketTypeNotAllowed,
    Unavailable,
    UserLimitReached,
)

router = APIRouter()

SEATS_MAX = 50
_BOOKING = TypeAdapter(Booking)


def _no_doubles(seat_ids: list[int]) -> list[int]:
    if len(set(seat_ids)) < len(seat_ids):
        raise ValueError("must not hold the same seat twice")
    return seat_ids


class BookingRequest(BaseModel, extra="forbid"):
    """The seats to book: `seat_id` or `seat_ids`. All of them or none."""

    model_config = {"json_schema_extra": {"examples": [{"seat_id": 1}, {"seat_ids": [2, 3]}]}}

    seat_id: Id | None = None
    seat_ids: (
        Annotated[
            list[Id],
            Field(min_length=1, max_length=SEATS_MAX, json_schema_extra={"uniqueItems": True}),
            AfterValidator(_no_doubles),
        ]
        | None
    ) = None
    ticket_type_id: Id | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.seat_id is None) == (self.seat_ids is None):
            raise ValueError("give either seat_id or seat_ids")
        return self

    @property
    def wanted(self) -> tuple[int, ...]:
        """The seats, in the order of their ids."""
        return tuple(sorted(self.seat_ids or [self.seat_id or 0]))

    @property
    def fingerprint(self) -> str:
        """The same for requests that mean the same."""
        return hashlib.sha256(repr((self.wanted, self.ticket_type_id)).encode()).hexdigest()


class BookingPage(BaseModel):
    """Bookings, newest first."""

    items: list[Booking]
    next_cursor: str | None


@router.post(
    "/bookings",
    status_code=201,
    response_model=Booking,
    responses=answers(
        SeatTaken, SeatHeld, SeatBlocked, Busy, UserLimitReached, DailyLimitReached, SalesClosed,
        EventCancelled, IdempotencyInFlight, NotFound, NotAuthenticated, InvalidToken, Invalid,
        MixedEvents, TicketTypeNotAllowed, IdempotencyKeyReused, PayloadTooLarge, Unavailable,
    ),
)  # fmt: skip
async def create_booking(
    body: BookingRequest, caller: CallerDep, parts: StateDep, key: IdempotencyKey = None
) -> Response:
    """Book seats, all or none. With an `Idempotency-Key`, a repeated request is done once."""
    booked = await parts["bookings"].book(
        caller.user_id, body.wanted, body.ticket_type_id, key, body.fingerprint if key else None
    )
    headers = {"Location": f"/bookings/{booked.booking.id}"}
    if booked.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(_BOOKING.dump_json(booked.booking), 201, headers, "application/json")


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
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
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
async def get_booking(booking_id: UUID, caller: CallerDep, parts: StateDep) -> Booking:
    """One of my bookings."""
    return await parts["bookings"].get(caller.user_id, booking_id)


@router.delete(
    "/bookings/{booking_id}",
    responses=answers(
        NotAuthenticated, InvalidToken, NotFound, AlreadyCancelled, Invalid, Unavailable
    ),
)
async def cancel_booking(booking_id: UUID, caller: CallerDep, parts: StateDep) -> Booking:
    """Cancel one of my bookings. Its seats are free again."""
    return await parts["bookings"].cancel(caller.user_id, booking_id)


def _after(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        created_at, booking_id = decode_cursor(cursor)
        return datetime.fromisoformat(created_at), UUID(booking_id)
    except (ValueError, TypeError, AttributeError):
        raise BadCursor() from None
