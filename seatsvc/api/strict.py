"""Refuses what two readers could read in two ways: doubles, and JSON that is not UTF-8."""

import json
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc.api.problems import Refused, problem
from seatsvc.errors import Invalid, MalformedBody

# Headers that are no lists.
SINGLE = (b"authorization", b"content-type", b"idempotency-key")


class Strict:
    """422 for a header, a parameter or a field that is there twice, and for JSON that is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _check_headers([name for name, _ in scope["headers"]])
            _check_pairs("query", scope["query_string"])
        except Invalid as double:
            await problem(double)(scope, receive, send)
            return
        await self._app(scope, _checked(scope, receive), send)


def _check_headers(names: list[bytes]) -> None:
    if len(set(names)) < len(names):
        _no_doubles("header", (name.decode() for name in names if name in SINGLE))


def _check_pairs(place: str, text: bytes) -> None:
    if b"&" in text:
        pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
        _no_doubles(place, (name for name, _ in pairs))


def _no_doubles(place: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Invalid(f"{place}.{name}: is there twice")
        seen.add(name)


def _checked(scope: Scope, receive: Receive) -> Receive:
    kind = dict(scope["headers"]).get(b"content-type", b"").lower()
    if b"json" not in kind and b"urlencoded" not in kind:
        return receive
    body = b""

    async def receive_checked() -> Message:
        nonlocal body
        message = await receive()
        body += message.get("body", b"")
        if body and not message.get("more_body"):
            try:
                _check_body(kind, body)
            except Invalid as reason:
                raise Refused(reason) from None
        return message

    return receive_checked


def _check_body(kind: bytes, body: bytes) -> None:
    if b"urlencoded" in kind:
        _check_pairs("body", body)
        return
    try:
        # From text: of bytes the reader would guess the encoding.
        parse(body.decode())
    except (ValueError, RecursionError):
        raise MalformedBody() from None


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        _no_doubles("body", (name for name, _ in pairs))
    return fields


# JSON, in which each field of an object is there once. Raises ValueError, RecursionError, Invalid.
parse = json.JSONDecoder(object_pairs_hook=_fields).decode
