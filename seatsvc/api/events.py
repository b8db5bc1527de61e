"""Events: the public list, and what their organizers do with them."""

import asyncio
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from seatsvc.api.deps import (
    Cursor,
    Limit,
    Line,
    Name,
    OrganizerDep,
    OwnerDep,
    Patch,
    PathId,
    State,
    StateDep,
    Timestamp,
    decode_cursor,
    encode_cursor,
    link_next,
    time_in_cursor,
    unset,
)
from seatsvc.api.event_drafts import EventBody, EventSettings, HoldSeconds
from seatsvc.api.headers import Ready, cacheable
from seatsvc.api.openapi import ID_MAX, IF_NONE_MATCH, REVALIDATED, with_headers
from seatsvc.api.problems import answers
from seatsvc.errors import (
    BadCursor,
    EventHasBookings,
    Forbidden,
    Invalid,
    InvalidToken,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    Unavailable,
    VersionMismatch,
)
from seatsvc.events import Event, EventFilter

router = APIRouter()

VERSION_TAG = re.compile(r'"(\d{1,9})(?:-[^"]*)?"')
Search = Annotated[Annotated[Line, Field(min_length=1, max_length=200)] | None, Query()]


@dataclass(frozen=True, slots=True)
class EventAnswer(Event):
    """An event, and how many of its places are in which state."""

    available: int
    held: int
    booked: int


class EventPage(BaseModel):
    """Events, soonest first."""

    items: list[EventAnswer]
    next_cursor: str | None


class EventPatch(
    EventSettings,
    Patch,
    json_schema_extra={"examples": [{"venue": "City hall", "sales_end": "2027-05-01T18:00:00Z"}]},
):
    """What is named is changed, the rest stays; null takes an optional field away."""

    name: Name = unset()
    hold_seconds: HoldSeconds = unset()


_EVENT = TypeAdapter(EventAnswer)

IfMatch = Annotated[
    str | None,
    Header(description="Change it only if it is still this version: the `ETag` you read, or `*`."),
]


@router.get("/events", responses=answers(Invalid, Unavailable))
async def list_events(
    request: Request,
    response: Response,
    parts: StateDep,
    q: Annotated[Search, Query(description="Part of the name, venue or description.")] = None,
    venue: Annotated[Search, Query(description="The whole name, in any case.")] = None,
    starts_after: Timestamp | None = None,
    starts_before: Timestamp | None = None,
    status: Literal["on_sale", "cancelled"] = "on_sale",
    limit: Limit = 20,
    cursor: Cursor = None,
) -> EventPage:
    """Events, soonest first. Without dates: those that are not over; they may have no date."""
    wanted = EventFilter(q, venue, starts_after, starts_before, status)
    found = await parts["events"].list_events(wanted, _after(cursor), limit + 1)
    following = None
    if len(found) > limit:
        last = found[limit - 1]
        following = encode_cursor(last.starts_at and last.starts_at.isoformat(), last.id)
    response.headers.update(link_next(request, following))
    return EventPage(items=await _answers(parts, found[:limit]), next_cursor=following)


@router.post(
    "/events",
    status_code=201,
    response_model=EventAnswer,
    responses=with_headers(201, "ETag", "Location")
    | answers(NotAuthenticated, InvalidToken, Forbidden, Invalid, PayloadTooLarge, Unavailable),
)
async def create_event(body: EventBody, organizer: OrganizerDep, parts: StateDep) -> Response:
    """Create an event with all its places. For organizers."""
    event_id = await parts["events"].create(body.draft(), organizer.user_id)
    sent = await _sent(parts, await parts["events"].get(event_id), status=201)
    sent.headers["Location"] = f"/events/{event_id}"
    return sent


@router.get(
    "/events/{event_id}",
    response_model=EventAnswer,
    responses=REVALIDATED | answers(NotFound, Invalid, Unavailable),
    openapi_extra=IF_NONE_MATCH,
)
async def get_event(event_id: PathId, request: Request, parts: StateDep) -> Response:
    """One event. Its `ETag` changes with the event and with the state of its places."""
    body, etag = await _current(parts, await parts["events"].get(event_id))
    return cacheable(request, body, etag, "no-cache")


@router.patch(
    "/events/{event_id}",
    response_model=EventAnswer,
    responses=with_headers(200, "ETag")
    | answers(
        NotAuthenticated, InvalidToken, NotFound, VersionMismatch, Invalid, PayloadTooLarge,
        Unavailable,
    ),
)  # fmt: skip
async def update_event(
    event_id: PathId, body: EventPatch, owner: OwnerDep, parts: StateDep, if_match: IfMatch = None
) -> Response:
    """Change an event: anything but its hall. `If-Match` compares the event, not its places."""
    changes = body.model_dump(exclude_unset=True)
    event = await parts["events"].change(event_id, owner, changes, _versions(if_match))
    return await _sent(parts, event)


@router.delete(
    "/events/{event_id}",
    status_code=204,
    responses=answers(
        NotAuthenticated, InvalidToken, NotFound, EventHasBookings, Invalid, Unavailable
    ),
)
async def delete_event(event_id: PathId, owner: OwnerDep, parts: StateDep) -> None:
    """Delete an event that never sold a place. One that did can be cancelled."""
    await parts["events"].delete(event_id, owner)


@router.post(
    "/events/{event_id}/cancel",
    response_model=EventAnswer,
    responses=answers(NotAuthenticated, InvalidToken, NotFound, Invalid, Unavailable),
)
async def cancel_event(event_id: PathId, owner: OwnerDep, parts: StateDep) -> Response:
    """Cancel an event, with all its bookings and holds. It may be repeated."""
    return await _sent(parts, await parts["events"].cancel(event_id, owner))


async def _answer(parts: State, event: Event) -> tuple[EventAnswer, str]:
    """With its places, and the entity tag."""
    counts = await parts["seats"].counts(event.id)
    free, held, booked = counts.free, counts.held, counts.booked
    answer = EventAnswer(**asdict(event), available=free, held=held, booked=booked)
    return answer, f'"{event.version}-{counts.version}"'


async def _answers(parts: State, events: list[Event]) -> list[EventAnswer]:
    """Without those that were deleted just now."""
    found = await asyncio.gather(
        *(_answer(parts, event) for event in events), return_exceptions=True
    )
    for each in found:
        if isinstance(each, BaseException) and not isinstance(each, NotFound):
            raise each
    return [each[0] for each in found if not isinstance(each, BaseException)]


async def _current(parts: State, event: Event) -> tuple[bytes, str]:
    answer, etag = await _answer(parts, event)
    return _EVENT.dump_json(answer), etag


async def _sent(parts: State, event: Event, status: int = 200) -> Response:
    body, etag = await _current(parts, event)
    return Ready(body, status, {"ETag": etag})


def _versions(if_match: str | None) -> list[int] | None:
    """The versions that an `If-Match` allows; None: any. A weak tag never matches."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = (VERSION_TAG.fullmatch(tag.strip()) for tag in if_match.split(","))
    return [int(tag[1]) for tag in tags if tag]


def _after(cursor: str | None) -> tuple[datetime | None, int] | None:
    match decode_cursor(cursor) if cursor else None:
        case None:
            return None
        case [None, int(event_id)] if 0 < event_id <= ID_MAX:
            return None, event_id
        case [str(starts_at), int(event_id)] if 0 < event_id <= ID_MAX:
            try:
                return time_in_cursor(starts_at), event_id
            except ValueError:
                pass
    raise BadCursor()
