"""What every answer tells browsers, and what no answer tells anyone."""

import json
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from seatsvc.api import redoc
from seatsvc.api.edge import Edge
from tests.conftest import Person, Service
from tests.connection import connected

NOTHING = (
    "default-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PAGES = ["/docs", "/docs/oauth2-redirect", "/redoc"]
TELLING = re.compile(
    r"uvicorn|starlette|fastapi|pydantic|asyncpg|postgres|redis|python|traceback|\.py\b", re.I
)


async def not_found(service: Service) -> httpx.Response:
    """404."""
    return await service.client.get("/nope")


async def not_allowed(service: Service) -> httpx.Response:
    """405."""
    return await service.client.put("/seats")


async def not_logged_in(service: Service) -> httpx.Response:
    """401."""
    return await service.client.get("/me")


async def malformed(service: Service) -> httpx.Response:
    """422."""
    headers = {"Content-Type": "application/json"}
    return await service.client.post("/auth/login", content=b'{"a', headers=headers)


async def too_large(service: Service) -> httpx.Response:
    """413."""
    return await service.client.post("/auth/login", content=b"x" * 70_000)


async def broken(service: Service) -> httpx.Response:
    """500."""

    async def fail(*_: Any) -> Any:
        raise RuntimeError("the cause")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.state["seats"], "free", fail)
        return await service.client.get("/seats")


async def not_modified(service: Service) -> httpx.Response:
    """304."""
    first = await service.client.get("/events/1/layout")
    headers = {"If-None-Match": first.headers["etag"]}
    return await service.client.get("/events/1/layout", headers=headers)


Provoke = Callable[[Service], Awaitable[httpx.Response]]
ERRORS = {
    404: not_found, 405: not_allowed, 401: not_logged_in, 422: malformed, 413: too_large,
    500: broken,
}  # fmt: skip


def assert_protected(headers: httpx.Headers | dict[str, str]) -> None:
    """All that every answer must have, once."""
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"]
    assert "strict-transport-security" not in headers
    assert "server" not in headers
    assert "x-powered-by" not in headers


@pytest.mark.parametrize("path", ["/livez", "/seats", "/events", "/health", "/openapi.json"])
async def test_every_answer_is_protected(shared: Service, path: str) -> None:
    """Nothing in it is to be shown, framed, guessed at or kept."""
    answer = await shared.client.get(path)
    assert_protected(answer.headers)
    assert answer.headers["content-security-policy"] == NOTHING
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("status", ERRORS)
async def test_every_error_is_protected_and_tells_nothing(shared: Service, status: int) -> None:
    """Neither of the framework, nor of the language, nor of the code."""
    answer = await ERRORS[status](shared)
    assert answer.status_code == status
    assert_protected(answer.headers)
    assert answer.headers["cache-control"] == "no-store"
    assert not TELLING.search(answer.text + str(answer.headers))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 101 + b"\r\n", 431),
    ],
)
async def test_refusals_of_the_protocol_are_protected(
    shared: Service, request_bytes: bytes, status: int
) -> None:
    """Those that no middleware sees."""
    async with connected(shared.url) as wire:
        await wire.send(request_bytes)
        answer = await wire.answer()
    assert answer.status == status
    assert answer.problem()["detail"]
    assert_protected(answer.headers)
    assert not TELLING.search(answer.body.decode() + str(answer.headers))


async def test_what_an_answer_says_itself_is_kept(shared: Service) -> None:
    """A plan may be cached; a 304 says the same."""
    for answer in (await shared.client.get("/events/1/layout"), await not_modified(shared)):
        assert answer.headers.get_list("cache-control") == ["public, max-age=86400"]
        assert_protected(answer.headers)


async def answered(scheme: str, *own: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    """The headers of an app's answer, given its own."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(own)})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    request: Scope = {"type": "http", "method": "GET", "scheme": scheme, "path": "/", "headers": []}
    await Edge(app)(request, receive, send)
    assert send not in request.values()  # a server's leads back to the request
    pairs: list[tuple[bytes, bytes]] = sent[0]["headers"]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


async def test_a_page_has_its_own_policy() -> None:
    """Nothing is overwritten, and nothing said twice."""
    own = (b"content-security-policy", b"default-src 'self'")
    assert own in (await answered("http", own)).items()


async def test_transport_security() -> None:
    """Only where the transport is secure."""
    name = b"strict-transport-security"
    assert int((await answered("https"))[name].removeprefix(b"max-age=")) >= 31536000
    assert name not in await answered("http")


def source(answer: httpx.Response, kind: str) -> set[str]:
    """What the policy allows of this kind."""
    parts = dict(
        part.strip().partition(" ")[::2]
        for part in answer.headers["content-security-policy"].split(";")
    )
    return set(parts.get(kind, parts["default-src"]).split())


@pytest.mark.parametrize("path", PAGES)
async def test_documentation_pages_run_their_own_scripts_only(shared: Service, path: str) -> None:
    """Each inline script is allowed by its digest, and nothing from elsewhere."""
    answer = await shared.client.get(path)
    assert_protected(answer.headers)
    allowed = source(answer, "script-src")
    for script in re.findall(r"<script(?: src=\"(.*?)\")?>(.*?)</script>", answer.text, re.S):
        digest = b64encode(sha256(script[1].encode()).digest()).decode()
        assert script[0].startswith("/docs/") or f"'sha256-{digest}'" in allowed
    assert not allowed & {"'unsafe-inline'", "'unsafe-eval'", "*", "https:", "data:"}
    assert source(answer, "connect-src") <= {"'self'", "'none'"}
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", answer.text)


async def test_redoc_fetches_nothing_from_elsewhere(shared: Service) -> None:
    """Its script would load a picture; this is the only address that it loads from."""
    address = re.compile(r"src:\"https?://[^\"]*\"")
    assert len(address.findall(redoc.SCRIPT.read_text())) == 1
    answer = await shared.client.get("/docs/redoc.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert not address.findall(answer.text)


async def test_personal_answers_are_not_kept(ann: Person) -> None:
    """Tokens, profiles and bookings stay out of every cache."""
    login = {"username": ann.username, "password": "correct horse battery"}
    answers = [await ann.call("POST", "/auth/login", json=login)]
    answers += [await ann.call("GET", path) for path in ("/me", "/bookings")]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert json.loads(answer.text)
