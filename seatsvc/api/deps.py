"""What routes ask for: the services, the caller, and the forms that parameters take."""

import asyncio
import base64
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Self, TypedDict, cast
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Header, Path, Query, Request
from fastapi.security import OAuth2PasswordBearer
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    StrictInt,
    TypeAdapter,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from seatsvc.accounts import Accounts
from seatsvc.api.openapi import ID_MAX, LINE, NAME, Says
from seatsvc.bookings import Bookings
from seatsvc.db import Database
from seatsvc.errors import BadCursor, Forbidden, InvalidToken, NotAuthenticated, NotFound
from seatsvc.events import Events
from seatsvc.holds import Holds
from seatsvc.live import Live
from seatsvc.outbox import Outbox
from seatsvc.rates import Rates
from seatsvc.reconciler import Reconciler
from seatsvc.reports import Reports
from seatsvc.scripts import Redis
from seatsvc.seats import Seats
from seatsvc.sessions import Caller, Sessions
from seatsvc.settings import Settings
from seatsvc.ticket_types import TicketTypes


class State(TypedDict):
    """The parts that app.py wires, as each request finds them."""

    settings: Settings
    draining: asyncio.Event  # set: about to stop
    database: Database
    redis: Redis
    rates: Rates
    sessions: Sessions
    accounts: Accounts
    events: Events
    ticket_types: TicketTypes
    reports: Reports
    seats: Seats
    live: Live
    holds: Holds
    bookings: Bookings
    outbox: Outbox
    reconciler: Reconciler


def state(request: Request) -> State:
    """The parts."""
    return cast(State, request.scope["state"])


async def _state(request: Request) -> State:
    return state(request)


StateDep = Annotated[State, Depends(_state)]

_bearer = OAuth2PasswordBearer("/auth/token", auto_error=False)
BearerDep = Annotated[str | None, Depends(_bearer)]


def required(request: Request, bearer: str | None) -> str:
    """The access token.

    Raises NotAuthenticated, InvalidToken.
    """
    if bearer is None:
        raise InvalidToken() if "authorization" in request.headers else NotAuthenticated()
    return bearer


async def authenticated(request: Request, token: str) -> Caller:
    """The caller, whom the request's log line names from here on.

    Raises InvalidToken.
    """
    caller = await state(request)["sessions"].authenticate(token)
    request.scope["user_id"] = caller.user_id
    return caller


async def _caller(request: Request, bearer: BearerDep) -> Caller:
    return await authenticated(request, required(request, bearer))


CallerDep = Annotated[Caller, Depends(_caller)]


async def _admin(caller: CallerDep) -> Caller:
    if caller.role != "admin":
        raise Forbidden()
    return caller


async def _organizer(caller: CallerDep) -> Caller:
    if caller.role not in ("organizer", "admin"):
        raise Forbidden()
    return caller


async def _owner(caller: CallerDep) -> UUID | None:
    if caller.role == "admin":
        return None
    if caller.role != "organizer":
        raise NotFound()
    return caller.user_id


AdminDep = Annotated[Caller, Depends(_admin)]
OrganizerDep = Annotated[Caller, Depends(_organizer)]
# Whose events the caller may change and look into: None: everyone's.
OwnerDep = Annotated[UUID | None, Depends(_owner)]

Id = Annotated[StrictInt, Field(gt=0, le=ID_MAX)]


def _digits(text: object) -> object:
    if isinstance(text, str) and not re.fullmatch("0|[1-9][0-9]{0,18}", text):
        raise ValueError("must be an integer, in digits only")
    return text


def _canonical(text: object) -> object:
    if isinstance(text, str) and not _UUID.fullmatch(text):
        raise ValueError("must be a UUID: 8-4-4-4-12 hexadecimal digits")
    return text


# In one spelling each, though their readers know others: 1.0, +1 and 1_0; {...} and urn:uuid:...
_UUID = re.compile("[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_DIGITS = BeforeValidator(_digits)
Uuid = Annotated[UUID, BeforeValidator(_canonical)]
PathId = Annotated[int, Path(gt=0, le=ID_MAX), _DIGITS]
QueryId = Annotated[Annotated[int, Field(gt=0, le=ID_MAX), _DIGITS] | None, Query()]
IDEMPOTENCY_KEY = r"[\x21-\x7e]{1,64}"
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=64,
        pattern=f"^{IDEMPOTENCY_KEY}$",
        description="Repeat a request with the same key, and it is done once. Kept 24 hours.",
    ),
]

# A surrogate alone: JSON can hold it, UTF-8 cannot.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def plain(text: str, pattern: str = LINE) -> str:
    """Text that can be shown and stored.

    Raises ValueError.
    """
    if not re.fullmatch(pattern, text) or _HALF_CHARACTER.search(text):
        raise ValueError("must not hold control characters")
    return text


def _name(text: str) -> str:
    stripped = plain(text).strip()
    if not stripped:
        raise ValueError("must not be blank")
    return stripped


Line = Annotated[str, AfterValidator(plain), Says("pattern", LINE)]
_NAMED = (AfterValidator(_name), Says("pattern", NAME))
Name = Annotated[str, Field(min_length=1, max_length=200), *_NAMED]
Short = Annotated[str, Field(min_length=1, max_length=50), *_NAMED]
Limit = Annotated[int, Query(ge=1, le=100), _DIGITS]
SeatsLimit = Annotated[int, Query(ge=1, le=1000), _DIGITS]
Cursor = Annotated[str | None, Query(min_length=1, max_length=400, pattern=r"^[A-Za-z0-9_-]+$")]

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        return value
    raise ValueError("must be a time with an offset, as RFC 3339 has it: 2027-05-01T19:30:00Z")


def _utc(time: datetime) -> datetime:
    if not 1970 <= time.year < 9999:
        raise ValueError("must be between the years 1970 and 9998")
    return time.astimezone(UTC)


Timestamp = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_utc)]
_TIMESTAMP = TypeAdapter[datetime](Timestamp)


def time_in_cursor(value: object) -> datetime:
    """A cursor's time.

    Raises ValueError for one that we did not make.
    """
    return _TIMESTAMP.validate_python(value)


def unset(**more: Any) -> Any:
    """A field that may be left out, but not be null."""
    return Field(default=None, json_schema_extra=_no_default, **more)


def _no_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class Patch(BaseModel, extra="forbid"):
    """What is named is changed, the rest stays."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The document says so, too."""
        schema = handler(core_schema)
        handler.resolve_ref_schema(schema)["minProperties"] = 1
        return schema


def encode_cursor(*parts: object) -> str:
    """An opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(parts, default=str).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> list[Any]:
    """The parts of a cursor.

    Raises BadCursor for one that we did not make.
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or encode_cursor(*parts) != cursor:
        raise BadCursor()
    if any(isinstance(part, bool) for part in parts):  # which would pass for an int
        raise BadCursor()
    return parts


def link_next(request: Request, cursor: str | None) -> dict[str, str]:
    """The RFC 8288 header to the next page, if there is one."""
    if cursor is None:
        return {}
    query = {**request.query_params, "cursor": cursor}
    return {"Link": f'<{request.url.path}?{urlencode(query)}>; rel="next"'}
