"""Errors as RFC 9457 problem documents, and the limits on a body's size and time."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc.api.deps import unset
from seatsvc.api.openapi import completed, exact
from seatsvc.errors import (
    Invalid,
    MalformedBody,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
)
from seatsvc.telemetry import request_id

BODY_MAX_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class BlamedSeat(BaseModel):
    """A seat, and the code of what is wrong with it."""

    id: int = Field(examples=[1])
    reason: str = Field(examples=["seat_taken"])


class Allowance(BaseModel):
    """What an event's limits leave to this user; null: there is no such limit."""

    remaining_seats: int | None
    remaining_today: int | None = Field(description="Bookings, of this day in UTC.")


class WrongPlace(BaseModel):
    """A part of the request that is not valid."""

    at: str = Field(examples=["body.seat_id"])
    message: str


class Problem(BaseModel):
    """An error. Branch on `code`, which is stable."""

    type: str = Field(examples=["urn:seatsvc:problem:not_found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no seat 81."])
    code: str = Field(examples=["not_found"])
    request_id: str = Field(examples=["5f1d7c0a9be34d1c"])
    seats: list[BlamedSeat] = unset(description="Where seats are to blame.")
    allowance: Allowance = unset(description="Where the event has limits for each user.")
    errors: list[WrongPlace] = unset(description="Where the request is not valid.")


def answers(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of a route's errors."""
    by_status: dict[int | str, list[str]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(f"`{error.code}`: {error.__doc__}")
    return {
        status: {
            "description": "  \n".join(texts),
            "content": {"application/problem+json": {"schema": _PROBLEM_REF}},
        }
        for status, texts in by_status.items()
    }


def _problem_schemas() -> dict[str, Any]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Problem": schema}


_PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}


def problem(error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error."""
    body = {
        "type": f"urn:seatsvc:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id.get(),
        **error.extras,
    }
    return Response(
        json.dumps(body, separators=(",", ":")),
        error.status,
        {**(headers or {}), **_headers(error)},
        "application/problem+json",
    )


def _headers(error: ServiceError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RequestTimeout):
        headers["Connection"] = "close"
    return headers


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.exception_handler(ServiceError)(_service_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http_exception)
    framework_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = framework_openapi()
            document["components"]["schemas"].update(_problem_schemas())
            app.openapi_schema = completed(exact(document), answers(Invalid))
        return app.openapi_schema

    vars(app)["openapi"] = openapi


class Refused(HTTPException):
    """An error found while the body is read: the framework passes on only its own."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.status)
        self.error = error


async def _service_error(_: Request, error: ServiceError) -> Response:
    return problem(error)


async def _invalid(_: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return problem(MalformedBody())
    places = [{"at": _place(each["loc"]), "message": _message(each)} for each in found]
    first = places[0]
    return problem(Invalid(f"{first['at']}: {first['message']}", errors=places))


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(part if isinstance(part, str) else f"[{part}]" for part in loc)


def _message(each: Mapping[str, Any]) -> str:
    return str(each["msg"]).removeprefix("Value error, ")


async def _http_exception(request: Request, error: HTTPException) -> Response:
    if isinstance(error, Refused):
        return problem(error.error)
    headers = dict(error.headers or {})
    if error.status_code == MethodNotAllowed.status and (methods := _methods(request)):
        headers["Allow"] = ", ".join(methods)
    return problem(_KINDS.get(error.status_code, ServiceError)(), headers)


def _methods(request: Request) -> list[str]:
    """Of all routes with this path: the framework names only those of one."""
    paths = request.app.openapi()["paths"].items()
    return sorted(
        method.upper()
        for template, operations in paths
        if compile_path(template)[0].match(request.url.path)
        for method in operations
    )


# What the framework raises on its own.
_KINDS = {
    kind.status: kind
    for kind in (MalformedBody, NotAuthenticated, NotFound, MethodNotAllowed, PayloadTooLarge)
} | {400: MalformedBody}


class Unexpected:
    """Answers what nobody foresaw."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            answer = unexpected()
            if started or scope["type"] != "http":
                raise
            await answer(scope, receive, send)


def unexpected() -> Response:
    """The answer to the exception that is being handled, which goes to the log."""
    log.exception("unexpected error")
    return problem(ServiceError())


class BodyLimit:
    """Refuses bodies over 64 KiB, chunked ones too, before anything reads them whole.

    And those that take too long. The protocol sees to it that a silent client's body is asked for
    again and again, so that a request whose body is there needs no timer.
    """

    patience_s = 10.0

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif _declared_length(scope) > BODY_MAX_BYTES:
            await problem(PayloadTooLarge())(scope, receive, send)
        else:
            await self._app(scope, _limited(receive, self.patience_s), send)


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _limited(receive: Receive, patience_s: float) -> Receive:
    taken, loop = 0, asyncio.get_running_loop()
    deadline = loop.time() + patience_s

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > BODY_MAX_BYTES:
            raise Refused(PayloadTooLarge())
        if message.get("more_body") and loop.time() > deadline:
            raise Refused(RequestTimeout())
        return message

    return receive_limited
