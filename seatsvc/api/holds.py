"""Setting seats aside for a while."""

import hashlib
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    JsonValue,
    StrictInt,
    TypeAdapter,
    model_validator,
)

from seatsvc.api.deps import CallerDep, Id, IdempotencyKey, Line, StateDep, Uuid
from seatsvc.api.headers import Ready
from seatsvc.api.openapi import Says, one_way, with_headers
from seatsvc.api.problems import answers
from seatsvc.api.rates import BookerDep
from seatsvc.errors import (
    Busy,
    DailyLimitReached,
    EventCancelled,
    HoldExpired,
    HoldLimit,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    Invalid,
    InvalidToken,
    MixedEvents,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    SalesClosed,
    SeatBlocked,
    SeatHeld,
    SeatTaken,
    SoldOut,
    TicketTypeNotAllowed,
    TicketTypeSoldOut,
    Unavailable,
    UserLimitReached,
)
from seatsvc.holds import Hold
from seatsvc.orders import Choice

router = APIRouter()

SEATS_MAX = 50
REFUSALS = (
    SeatTaken, SeatHeld, SeatBlocked, Busy, SoldOut, TicketTypeSoldOut, UserLimitReached,
    DailyLimitReached, SalesClosed, EventCancelled, IdempotencyInFlight, NotFound,
    NotAuthenticated, InvalidToken, Invalid, MixedEvents, TicketTypeNotAllowed,
    IdempotencyKeyReused, PayloadTooLarge, RateLimited, Unavailable,
)  # fmt: skip
HOLD_EXAMPLES: list[JsonValue] = [
    {"seat_id": 1},
    {"seat_ids": [2, 3]},
    {"event_id": 1, "quantity": 2},
]
CREATED = with_headers(201, "Location", "Idempotency-Replayed")
_HOLD = TypeAdapter(Hold)


def _no_doubles(seat_ids: list[int]) -> list[int]:
    if len(set(seat_ids)) < len(seat_ids):
        raise ValueError("must not hold the same seat twice")
    return seat_ids


SeatIds = Annotated[
    list[Id],
    Field(min_length=1, max_length=SEATS_MAX),
    AfterValidator(_no_doubles),
    Says("uniqueItems", True),
]
Quantity = Annotated[StrictInt, Field(ge=1, le=SEATS_MAX)]
# With `?`: may be given, too.
HOLD_WAYS = (
    "seat_id ticket_type_id?",
    "seat_ids ticket_type_id?",
    "event_id quantity section? ticket_type_id?",
)


class HoldRequest(
    BaseModel, extra="forbid", json_schema_extra=one_way(*HOLD_WAYS, examples=HOLD_EXAMPLES)
):
    """Places, all or none: one seat, several seats, or a number of an event's best."""

    seat_id: Id | None = None
    seat_ids: SeatIds | None = None
    event_id: Id | None = None
    quantity: Quantity | None = None
    section: Annotated[Line, Field(max_length=200)] | None = None
    ticket_type_id: Id | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [self.seat_id, self.seat_ids, self.quantity, self.other_way]
        if sum(way is not None for way in ways) != 1:
            raise ValueError(f"choose places in exactly one way: {self.ways}")
        if (self.event_id is None) != (self.quantity is None):
            raise ValueError("event_id and quantity go together")
        if self.section is not None and self.quantity is None:
            raise ValueError("section goes with quantity")
        return self

    @property
    def ways(self) -> str:
        """For the message."""
        return "seat_id, seat_ids, or event_id with quantity"

    @property
    def other_way(self) -> UUID | None:
        """A hold, where one can be chosen."""
        return None

    def choice(self) -> Choice:
        """As the services take it."""
        seat_ids = self.seat_ids or ([] if self.seat_id is None else [self.seat_id])
        return Choice(
            tuple(seat_ids),
            self.other_way,
            self.event_id or 0,
            self.quantity or 0,
            self.section,
            self.ticket_type_id,
        )

    def fingerprint(self, key: str | None) -> str | None:
        """The same for bodies that say the same; for comparing uses of an Idempotency-Key."""
        if key is None:
            return None
        text = f"{type(self).__name__} {self.model_dump_json(exclude_none=True)}"
        return hashlib.sha256(text.encode()).hexdigest()


@router.post(
    "/holds",
    status_code=201,
    response_model=Hold,
    responses=CREATED | answers(*REFUSALS),
)
async def create_hold(
    body: HoldRequest, caller: BookerDep, parts: StateDep, key: IdempotencyKey = None
) -> Response:
    """Hold places for the event's `hold_seconds`, all or none."""
    done = await parts["holds"].hold(caller, body.choice(), key, body.fingerprint(key))
    return created(_HOLD.dump_json(done.sale), f"/holds/{done.sale.id}", done.replayed)


@router.get(
    "/holds/{hold_id}",
    responses=answers(NotAuthenticated, InvalidToken, NotFound, Invalid, Unavailable),
)
async def get_hold(hold_id: Uuid, caller: CallerDep, parts: StateDep) -> Hold:
    """One of my holds, while it runs."""
    return await parts["holds"].get(caller.user_id, hold_id)


@router.post(
    "/holds/{hold_id}/extend",
    responses=answers(
        NotAuthenticated, InvalidToken, NotFound, HoldExpired, HoldLimit, Invalid, RateLimited,
        Unavailable,
    ),
)  # fmt: skip
async def extend_hold(hold_id: Uuid, caller: BookerDep, parts: StateDep) -> Hold:
    """Give a hold its full time again; three times of it in all at most."""
    return await parts["holds"].extend(caller.user_id, hold_id)


@router.delete(
    "/holds/{hold_id}",
    status_code=204,
    responses=answers(NotAuthenticated, InvalidToken, NotFound, Invalid, RateLimited, Unavailable),
)
async def release_hold(hold_id: Uuid, caller: BookerDep, parts: StateDep) -> None:
    """Release a hold. Its seats are free again."""
    await parts["holds"].release(caller.user_id, hold_id)


def created(body: bytes, location: str, replayed: bool) -> Response:
    """201, and whether this was answered before."""
    headers = {"Location": location}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Ready(body, 201, headers)
