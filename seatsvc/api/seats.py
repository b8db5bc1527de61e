"""What is free."""

import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from seatsvc.api.deps import (
    Cursor,
    Id,
    Line,
    OwnerDep,
    PathId,
    QueryId,
    SeatsLimit,
    StateDep,
    decode_cursor,
    encode_cursor,
    link_next,
)
from seatsvc.api.headers import Ready, cacheable
from seatsvc.api.openapi import ID_MAX, IF_NONE_MATCH, REVALIDATED
from seatsvc.api.problems import answers
from seatsvc.errors import (
    BadCursor,
    Busy,
    Invalid,
    InvalidToken,
    MixedEvents,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    SeatHeld,
    SeatTaken,
    Unavailable,
)

router = APIRouter()

BLOCKS_MAX = 1000
SectionName = Annotated[Annotated[Line, Field(max_length=200)] | None, Query()]


class SeatAnswer(BaseModel):
    """One place. In a general-admission area it has no row and no number."""

    id: int = Field(examples=[1])
    event_id: int = Field(examples=[1])
    section: str = Field(examples=["A"])
    row: str | None = Field(examples=["1"])
    number: str | None = Field(examples=["1"])
    ticket_type_id: int | None = Field(examples=[1])
    accessible: bool


class FreeSeats(BaseModel):
    """A page of free seats."""

    items: list[SeatAnswer]
    next_cursor: str | None


class Blocks(BaseModel, extra="forbid"):
    """Seats of the event."""

    seat_ids: Annotated[list[Id], Field(min_length=1, max_length=BLOCKS_MAX)] = Field(
        examples=[[1, 2, 3]]
    )


class SeatPlan(BaseModel):
    """A numbered seat of the plan."""

    id: int
    number: str
    ticket_type_id: int | None
    accessible: bool


class RowPlan(BaseModel):
    """A row, and where a map draws it."""

    name: str
    x: float | None
    y: float | None
    seats: list[SeatPlan]


class NumberedSection(BaseModel):
    """A section of numbered rows."""

    name: str
    ticket_type_id: int | None
    general_admission: Literal[False]
    rows: list[RowPlan]


class GeneralSection(BaseModel):
    """A section of places without numbers."""

    name: str
    ticket_type_id: int | None
    general_admission: Literal[True]
    places: int


class Layout(BaseModel):
    """The plan of an event's hall."""

    event_id: int
    sections: list[NumberedSection | GeneralSection]


class StateCounts(BaseModel):
    """How many places are in which state."""

    free: int
    held: int
    booked: int
    blocked: int


class SectionAvailability(StateCounts):
    """A section's states."""

    name: str
    states: str = Field(
        description="One character for each place, in the layout's order: "
        "`f` free, `h` held, `b` booked, `x` blocked.",
        examples=["ffhbbxff"],
    )


class Availability(BaseModel):
    """The states of all places. Equal versions mean equal states."""

    event_id: int
    version: str
    counts: StateCounts
    sections: list[SectionAvailability]


@router.get("/seats", response_model=FreeSeats, responses=answers(NotFound, Invalid, Unavailable))
async def list_seats(
    request: Request,
    parts: StateDep,
    event_id: QueryId = None,
    section: SectionName = None,
    limit: SeatsLimit = 1000,
    cursor: Cursor = None,
) -> Response:
    """The free seats of an event, the default event's without `event_id`.

    A seat whose booking or hold was answered before this call began is never among them.
    """
    after = _after(cursor)
    event_id = event_id or parts["settings"].default_event
    page = await parts["seats"].free(event_id, section, after, limit)
    following = None if page.next_after is None else encode_cursor(page.next_after)
    body = b'{"items":[%s],"next_cursor":%s}' % (page.items, _json(following))
    headers = {"Cache-Control": "no-store", **link_next(request, following)}
    return Ready(body, 200, headers)


@router.get(
    "/events/{event_id}/layout",
    response_model=Layout,
    responses=REVALIDATED | answers(NotFound, Invalid, Unavailable),
    openapi_extra=IF_NONE_MATCH,
)
async def get_layout(event_id: PathId, request: Request, parts: StateDep) -> Response:
    """The whole plan of an event. It does not change as seats are sold."""
    body = await parts["seats"].layout(event_id)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return cacheable(request, body, etag, "public, max-age=86400")


@router.get(
    "/events/{event_id}/availability",
    response_model=Availability,
    responses=REVALIDATED | answers(NotFound, Invalid, Unavailable),
    openapi_extra=IF_NONE_MATCH,
)
async def get_availability(event_id: PathId, request: Request, parts: StateDep) -> Response:
    """The state of every place, in the layout's order.

    A seat whose booking or hold was answered before this call began is never shown free.
    """
    body, version = await parts["seats"].availability(event_id)
    return cacheable(request, body, f'"{version}"', "no-cache")


BLOCK_ANSWERS = answers(
    NotAuthenticated, InvalidToken, NotFound, SeatTaken, SeatHeld, Busy, MixedEvents, Invalid,
    PayloadTooLarge, Unavailable,
)  # fmt: skip


@router.post("/events/{event_id}/blocks", status_code=204, responses=BLOCK_ANSWERS)
async def block_seats(event_id: PathId, body: Blocks, owner: OwnerDep, parts: StateDep) -> None:
    """Keep house seats off sale, all of them or none. Seats that are blocked already stay so."""
    await parts["seats"].block(event_id, owner, body.seat_ids, off_sale=True)


@router.delete("/events/{event_id}/blocks", status_code=204, responses=BLOCK_ANSWERS)
async def unblock_seats(event_id: PathId, body: Blocks, owner: OwnerDep, parts: StateDep) -> None:
    """Put house seats on sale again."""
    await parts["seats"].block(event_id, owner, body.seat_ids, off_sale=False)


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    match decode_cursor(cursor):
        case [int(seat_id)] if 0 < seat_id <= ID_MAX:
            return seat_id
    raise BadCursor()


def _json(cursor: str | None) -> bytes:
    return b"null" if cursor is None else b'"%s"' % cursor.encode()
