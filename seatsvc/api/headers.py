"""Headers: of answers that clients keep, and what every answer tells browsers."""

import re
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256

from fastapi import Request
from starlette import datastructures
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Send

from seatsvc.api.problems import problem
from seatsvc.errors import Forbidden

Pair = tuple[bytes, bytes]

POLICY = b"content-security-policy"
CACHE = b"cache-control"
JSON: Pair = (b"content-type", b"application/json")
COMMON: tuple[Pair, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (CACHE, b"no-store"),
    (
        POLICY,
        b"default-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
)
BY_SCHEME = {
    "http": COMMON,
    "https": (*COMMON, (b"strict-transport-security", b"max-age=31536000")),
}

# Of the documentation, whose scripts are ours. What they may do beyond that is what they need.
PAGES = {"/docs", "/docs/oauth2-redirect", "/redoc"}
PAGE_POLICY = (
    "default-src 'none'; object-src 'none'; script-src 'self'{scripts}; "
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

ALLOWED_METHODS = ("DELETE", "GET", "PATCH", "POST")
ALLOWED_HEADERS = (
    "Accept", "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match",
    "Last-Event-ID", "X-Request-Id",
)  # fmt: skip
EXPOSED_HEADERS = (
    "Allow", "ETag", "Idempotency-Replayed", "Link", "Location", "RateLimit", "RateLimit-Policy",
    "Retry-After", "X-Request-Id",
)  # fmt: skip
PREFLIGHT_MAX_AGE_S = 3600


class Ready(Response):
    """Ready-made JSON, or no body. The general response takes 4 µs more to find out its headers."""

    def __init__(self, body: bytes | None, status: int, headers: dict[str, str]) -> None:
        self.status_code, self.body, self.background = status, body or b"", None
        self.raw_headers = [
            (name.lower().encode(), value.encode()) for name, value in headers.items()
        ]
        if body is not None:
            self.raw_headers += (b"content-length", b"%d" % len(body)), JSON


def cacheable(request: Request, body: bytes, etag: str, cache_control: str) -> Response:
    """200 with the body, or 304 when the client has this very version."""
    headers = {"ETag": etag, "Cache-Control": cache_control}
    known = dict(request.scope["headers"]).get(b"if-none-match")
    if known and matches(known.decode("latin-1"), etag):
        return Ready(None, 304, headers)
    return Ready(body, 200, headers)


def matches(header: str | None, etag: str) -> bool:
    """Does an `If-None-Match` name this entity tag?"""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return etag in tags or "*" in tags


def protected(headers: list[Pair], scheme: str) -> list[Pair]:
    """These headers, and those of ours that are missing."""
    return [*headers, *_missing(tuple(name for name, _ in headers), scheme)]


@lru_cache(maxsize=1000)
def _missing(given: tuple[bytes, ...], scheme: str) -> tuple[Pair, ...]:
    # A body with a tag is kept, but asked for each time.
    kept = [(CACHE, b"no-cache")] if b"etag" in given and CACHE not in given else []
    taken = {*given, *(name for name, _ in kept)}
    return (*kept, *(pair for pair in BY_SCHEME[scheme] if pair[0] not in taken))


def page_sender(send: Send) -> Send:
    """Holds a page's start back until its scripts are known."""
    start: Message | None = None

    async def send_page(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        if start is not None:
            policy = page_policy(message.get("body", b""))
            await send({**start, "headers": [*start["headers"], (POLICY, policy)]})
            start = None
        await send(message)

    return send_page


def page_policy(html: bytes) -> bytes:
    """Of inline scripts, it allows the very ones in this page."""
    digests = [sha256(script).digest() for script in INLINE_SCRIPT.findall(html)]
    scripts = "".join(f" 'sha256-{b64encode(digest).decode()}'" for digest in digests)
    return PAGE_POLICY.format(scripts=scripts).encode()


class Cors(CORSMiddleware):
    """Lets the pages of these origins use the API with a token, but never with cookies."""

    def __init__(self, app: ASGIApp, allow_origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins,
            ALLOWED_METHODS,
            ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_MAX_AGE_S,
        )

    def preflight_response(self, request_headers: datastructures.Headers) -> Response:
        """The refusals, too, are problem documents."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        refusal = Forbidden("Pages of this origin may not make a request of this kind.")
        return problem(refusal, {"Vary": answer.headers["Vary"]})
