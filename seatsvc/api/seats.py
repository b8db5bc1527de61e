"""What is free."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from seatsvc.api.deps import QueryId, StateDep, decode_cursor, encode_cursor, link_next
from seatsvc.api.problems import answers
from seatsvc.errors import BadCursor, Invalid, NotFound, Unavailable

router = APIRouter()


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


@router.get("/seats", response_model=FreeSeats, responses=answers(NotFound, Invalid, Unavailable))
async def list_seats(
    request: Request,
    parts: StateDep,
    event_id: QueryId = None,
    section: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
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
    return Response(body, 200, headers, "application/json")


def _after(cursor: str | None) -> int:
    match decode_cursor(cursor) if cursor else [0]:
        case [int(seat_id)]:
            return seat_id
    raise BadCursor()


def _json(cursor: str | None) -> bytes:
    return b"null" if cursor is None else b'"%s"' % cursor.encode()
