"""What routes ask for: the services, the caller, and the forms that parameters take."""

import base64
import json
from typing import Annotated, Any, TypedDict, cast
from urllib.parse import urlencode

from fastapi import Depends, Header, Path, Query, Request
from fastapi.security import OAuth2PasswordBearer
from pydantic import AfterValidator, Field, StrictInt

from seatsvc.accounts import Accounts, Caller
from seatsvc.bookings import Bookings
from seatsvc.db import Database
from seatsvc.errors import BadCursor, InvalidToken, NotAuthenticated
from seatsvc.events import Events
from seatsvc.scripts import Redis
from seatsvc.seats import Seats
from seatsvc.settings import Settings

BIGINT_MAX = 2**63 - 1


class State(TypedDict):
    """The parts that app.py wires, as each request finds them."""

    settings: Settings
    database: Database
    redis: Redis
    accounts: Accounts
    events: Events
    seats: Seats
    bookings: Bookings


def state(request: Request) -> State:
    """The parts."""
    return cast(State, request.scope["state"])


async def _state(request: Request) -> State:
    return state(request)


StateDep = Annotated[State, Depends(_state)]

_bearer = OAuth2PasswordBearer("/auth/token", auto_error=False)


async def _caller(request: Request, token: Annotated[str | None, Depends(_bearer)]) -> Caller:
    if token is None:
        raise InvalidToken() if "authorization" in request.headers else NotAuthenticated()
    return await state(request)["accounts"].authenticate(token)


CallerDep = Annotated[Caller, Depends(_caller)]

Id = Annotated[StrictInt, Field(gt=0, le=BIGINT_MAX)]
PathId = Annotated[int, Path(gt=0, le=BIGINT_MAX)]
QueryId = Annotated[int | None, Query(gt=0, le=BIGINT_MAX)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=64,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a request with the same key, and it is done once. Kept 24 hours.",
    ),
]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


Line = Annotated[str, AfterValidator(_printable)]


def encode_cursor(*parts: object) -> str:
    """An opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(parts, default=str).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> list[Any]:
    """The parts of a cursor.

    Raises BadCursor for one that we did not make.
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        parts = None
    if not isinstance(parts, list):
        raise BadCursor()
    return parts


def link_next(request: Request, cursor: str | None) -> dict[str, str]:
    """The RFC 8288 header to the next page, if there is one."""
    if cursor is None:
        return {}
    query = {**request.query_params, "cursor": cursor}
    return {"Link": f'<{request.url.path}?{urlencode(query)}>; rel="next"'}
