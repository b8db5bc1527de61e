"""Which pages of other origins may use the API: none, unless a setting names them."""

from collections.abc import AsyncIterator

import httpx
import pytest

from seatsvc import local
from seatsvc.api.headers import ALLOWED_METHODS
from tests.conftest import Service, make_settings, problem_of, serve
from tests.test_headers import ERRORS, assert_protected, not_modified

FRONTEND = "https://tickets.example.org"
STRANGER = "https://evil.example.org"


@pytest.fixture
async def open_to_frontend(servers: local.Servers, shared: Service) -> AsyncIterator[Service]:
    """The shared service once more, which lets a frontend in."""
    name = shared.settings.database_url.get_secret_value().rpartition("/")[2]
    async with serve(make_settings(servers, name, cors_origins=(FRONTEND,))) as running:
        yield running


async def test_no_cors_unless_asked_for(shared: Service) -> None:
    """Without origins in the settings nothing is allowed, and a preflight is no special case."""
    preflight = {"Origin": FRONTEND, "Access-Control-Request-Method": "POST"}
    answer = await shared.client.options("/bookings", headers=preflight)
    problem_of(answer, 405, "method_not_allowed")
    for each in (answer, await shared.client.get("/seats", headers={"Origin": FRONTEND})):
        assert not [name for name in each.headers if name.startswith("access-control")]


def names(answer: httpx.Response, header: str) -> set[str]:
    """The names that a header lists."""
    return {name.strip().lower() for name in answer.headers[header].split(",")}


async def test_preflight(open_to_frontend: Service) -> None:
    """The frontend may send what the API takes, and no cookies."""
    answer = await open_to_frontend.client.options(
        "/bookings",
        headers={
            "Origin": FRONTEND,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, "
            "if-match, if-none-match, last-event-id, x-request-id, accept",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRONTEND
    assert "access-control-allow-credentials" not in answer.headers
    assert "origin" in names(answer, "vary")
    assert answer.headers["x-request-id"]
    document = (await open_to_frontend.client.get("/openapi.json")).json()
    used = {method.upper() for item in document["paths"].values() for method in item}
    assert {name.upper() for name in names(answer, "access-control-allow-methods")} == used
    assert used == set(ALLOWED_METHODS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Origin": STRANGER},
        {"Origin": "null"},
        {"Origin": FRONTEND + ".evil.org"},
        {"Origin": "http" + FRONTEND.removeprefix("https")},
        {"Access-Control-Request-Method": "PUT"},
        {"Access-Control-Request-Headers": "x-other"},
    ],
)
async def test_refused_preflight(open_to_frontend: Service, wrong: dict[str, str]) -> None:
    """A problem document that allows nothing."""
    right = {"Origin": FRONTEND, "Access-Control-Request-Method": "POST"}
    answer = await open_to_frontend.client.options("/bookings", headers=right | wrong)
    problem_of(answer, 403, "forbidden")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "origin" in names(answer, "vary")


@pytest.mark.parametrize("status", [200, 304, *ERRORS])
async def test_frontend_can_read_errors(open_to_frontend: Service, status: int) -> None:
    """Whatever part of the service they come from, and the headers with them."""
    service = open_to_frontend
    service.client.headers["Origin"] = FRONTEND
    provoke = {200: lambda each: each.client.get("/seats"), 304: not_modified} | ERRORS
    answer = await provoke[status](service)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == FRONTEND
    assert "origin" in names(answer, "vary")
    assert names(answer, "access-control-expose-headers") == {
        "allow", "etag", "idempotency-replayed", "link", "location", "ratelimit",
        "ratelimit-policy", "retry-after", "x-request-id",
    }  # fmt: skip
    assert answer.headers["x-request-id"]
    assert_protected(answer.headers)


async def test_stranger_cannot_read(open_to_frontend: Service) -> None:
    """Nor may a cache give one page's answer to another's, or one without origin to either."""
    client = open_to_frontend.client
    for headers in ({"Origin": STRANGER}, {}):
        answer = await client.get("/events/1/layout", headers=headers)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert "origin" in names(answer, "vary")
