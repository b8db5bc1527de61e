"""For organizers: who booked, and how an event sells."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from dataclasses import astuple, fields
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from seatsvc.api.deps import (
    Cursor,
    Limit,
    OwnerDep,
    PathId,
    StateDep,
    decode_cursor,
    encode_cursor,
    link_next,
    time_in_cursor,
)
from seatsvc.api.problems import answers
from seatsvc.bookings import Booking
from seatsvc.errors import (
    BadCursor,
    Invalid,
    InvalidToken,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from seatsvc.reports import Report, SoldPlace

router = APIRouter()

CSV = "text/csv"
COLUMNS = [each.name for each in fields(SoldPlace)]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class EventBookings(BaseModel):
    """An event's bookings, newest first."""

    items: list[Booking]
    next_cursor: str | None


@router.get(
    "/events/{event_id}/bookings",
    response_model=EventBookings,
    responses={
        **answers(NotAuthenticated, InvalidToken, NotFound, Invalid, Unavailable),
        200: {
            "description": "A page of bookings; or, as CSV, a line for each place of all of them.",
            "content": {CSV: {"schema": {"type": "string"}, "example": ",".join(COLUMNS)}},
        },
    },
)
async def list_event_bookings(
    event_id: PathId,
    request: Request,
    response: Response,
    owner: OwnerDep,
    parts: StateDep,
    status: Literal["active", "cancelled"] | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> EventBookings | Response:
    """All bookings of my event, newest first. `Accept: text/csv` streams the whole list."""
    if wants_csv(accept):
        pages = await parts["reports"].sold_places(event_id, owner, status)
        name = f'attachment; filename="event-{event_id}-bookings.csv"'
        headers = {"Content-Disposition": name, "Vary": "Accept", "Cache-Control": "no-store"}
        return StreamingResponse(_lines(pages), 200, headers, f"{CSV}; charset=utf-8")
    after = _after(cursor)
    found = await parts["reports"].bookings(
        event_id, owner, status=status, after=after, limit=limit + 1
    )
    following = None
    if len(found) > limit:
        last = found[limit - 1]
        following = encode_cursor(last.created_at.isoformat(), last.id)
    response.headers.update({"Vary": "Accept", **link_next(request, following)})
    return EventBookings(items=found[:limit], next_cursor=following)


@router.get(
    "/events/{event_id}/report",
    responses=answers(NotAuthenticated, InvalidToken, NotFound, Invalid, Unavailable),
)
async def get_report(event_id: PathId, owner: OwnerDep, parts: StateDep) -> Report:
    """My event's sales in numbers, all of one moment. Cancelled bookings do not count."""
    return await parts["reports"].report(event_id, owner)


def wants_csv(accept: str) -> bool:
    """Does this `Accept` ask for CSV, and not for JSON before it?"""
    weights = {"application/json": 0.0, CSV: 0.0}
    for part in accept.split(","):
        kind, _, parameters = part.partition(";")
        if kind.strip().lower() in weights:
            weights[kind.strip().lower()] = _weight(parameters)
    return weights[CSV] > weights["application/json"]


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


async def _lines(pages: AsyncIterator[list[SoldPlace]]) -> AsyncIterator[str]:
    yield _csv([COLUMNS])
    async for page in pages:
        yield _csv([_cell(value) for value in astuple(place)] for place in page)


def _csv(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> str:
    """As text. What a spreadsheet would take for a formula is marked as text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _after(cursor: str | None) -> tuple[datetime, UUID] | None:
    match decode_cursor(cursor) if cursor else None:
        case None:
            return None
        case [str(created_at), str(booking_id)]:
            try:
                return time_in_cursor(created_at), UUID(booking_id)
            except ValueError:
                pass
    raise BadCursor()
