"""The quick way: the calls that come in crowds, without the framework's machinery.

It serves what is plainly right, by the very functions of the routes. All else takes the long way,
which says what is wrong. What the machinery costs stands in docs/performance.md.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc.api import bookings, holds, seats
from seatsvc.api.deps import IDEMPOTENCY_KEY, authenticated, state
from seatsvc.api.problems import Refused, problem, unexpected
from seatsvc.api.rates import buyer
from seatsvc.api.strict import parse
from seatsvc.errors import ServiceError, Unavailable

KEY = re.compile(IDEMPOTENCY_KEY.encode())
EVENT_QUERY = re.compile(rb"(?:event_id=([1-9]\d{0,17}))?", re.ASCII)
AVAILABILITY = re.compile(r"/events/([1-9]\d{0,17})/availability", re.ASCII)
NO_BODY: Message = {"type": "http.request"}  # that anybody would read
Model = TypeVar("Model", bound=BaseModel)


@dataclass(slots=True)
class Call:
    """A request, its headers and its body."""

    request: Request
    headers: dict[bytes, bytes]
    body: bytes

    def read(self, model: type[Model]) -> Model | None:
        """The body, if it is right."""
        if self.headers.get(b"content-type") != b"application/json":
            return None
        try:
            return model.model_validate(parse(self.body.decode()))
        except (ValueError, RecursionError, ServiceError):
            return None


Serve = Callable[[Call], Awaitable[Response | None]]


async def _book(call: Call) -> Response | None:
    return await _sell(call, bookings.BookingRequest, bookings.create_booking)


async def _hold(call: Call) -> Response | None:
    return await _sell(call, holds.HoldRequest, holds.create_hold)


async def _sell(
    call: Call, model: type[Model], sell: Callable[..., Awaitable[Response]]
) -> Response | None:
    scheme, _, token = call.headers.get(b"authorization", b"").partition(b" ")
    key = call.headers.get(b"idempotency-key")
    query = call.request.scope["query_string"]
    if scheme != b"Bearer" or not token or query or (key is not None and not KEY.fullmatch(key)):
        return None
    body = call.read(model)
    if body is None:
        return None
    bearer = token.decode("latin-1").strip()
    try:
        claimed = await buyer(call.request, bearer)
        return await sell(body, claimed, state(call.request), key and key.decode())
    except Unavailable:
        raise
    except ServiceError:
        # Only the transaction has looked whether the session lives, and not all refusals are its.
        await authenticated(call.request, bearer)
        raise


async def _list_seats(call: Call) -> Response | None:
    query = EVENT_QUERY.fullmatch(call.request.scope["query_string"])
    if not query:
        return None
    event_id = int(query[1]) if query[1] else None
    return await seats.list_seats(call.request, state(call.request), event_id)


async def _get_availability(call: Call) -> Response | None:
    path = AVAILABILITY.fullmatch(call.request.scope["path"])
    if not path or call.request.scope["query_string"]:
        return None
    return await seats.get_availability(int(path[1]), call.request, state(call.request))


def _route(routes: list[BaseRoute], name: str) -> APIRoute:
    [route] = [each for each in routes if isinstance(each, APIRoute) and each.name == name]
    return route


# What serves a call, and the route that it belongs to.
Way = tuple[Serve, APIRoute]
WAYS: dict[tuple[str, str], Way] = {
    ("POST", "/bookings"): (_book, _route(bookings.router.routes, "create_booking")),
    ("POST", "/holds"): (_hold, _route(holds.router.routes, "create_hold")),
    ("GET", "/seats"): (_list_seats, _route(seats.router.routes, "list_seats")),
}
AVAILABILITY_WAY: Way = (
    _get_availability,
    _route(seats.router.routes, "get_availability"),
)


class Quick:
    """Serves what it can, and passes on what it cannot."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        way = _way(scope) if scope["type"] == "http" else None
        if way is None:
            await self._app(scope, receive, send)
            return
        reads = scope["method"] == "GET"
        try:
            first = NO_BODY if reads else await receive()
            answer = await _served(way, scope, first)
        except ServiceError as error:
            answer = problem(error)
        except Refused as refused:
            answer = problem(refused.error)
        except Exception:
            answer = unexpected()
        if answer is None:
            await self._app(scope, receive if reads else _again(first, receive), send)
        else:
            await answer(scope, receive, send)


def _way(scope: Scope) -> Way | None:
    path: str = scope["path"]
    if path.endswith("/availability") and scope["method"] == "GET":
        return AVAILABILITY_WAY
    return WAYS.get((scope["method"], path))


async def _served(way: Way, scope: Scope, first: Message) -> Response | None:
    headers = dict(scope["headers"])
    if first.get("more_body") or len(headers) < len(scope["headers"]):
        return None
    serve, scope["route"] = way
    return await serve(Call(Request(scope), headers, first.get("body", b"")))


def _again(first: Message, receive: Receive) -> Receive:
    """All messages, from the first on."""
    messages = [first]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
