"""Errors are problem documents, and nothing that a client sends is a 5xx or leaves a row."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.conftest import PASSWORD, Person, Service, problem_of

BODY_MAX = 64 * 1024
JSON = {"Content-Type": "application/json"}
BODIES = ["/auth/register", "/auth/login", "/bookings"]


async def rows(service: Service) -> list[int]:
    """How many users, sessions and bookings there are."""
    rows = await service.sql(
        "select count(*) from users union all select count(*) from sessions"
        " union all select count(*) from bookings"
    )
    return [row["count"] for row in rows]


async def post(person: Person, path: str, content: bytes, **headers: str) -> httpx.Response:
    """Send these bytes as JSON, unless the headers say otherwise."""
    return await person.call("POST", path, content=content, headers=JSON | headers)


@pytest.mark.parametrize("path", ["/nope", "/bookings/", "/auth", "/auth/login/", "/%00", "//"])
async def test_unknown_path(shared: Service, path: str) -> None:
    """404, without redirects and alias routes."""
    problem = problem_of(await shared.client.get(shared.url + path), 404, "not_found")
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/bookings", {"GET", "POST"}),
        ("DELETE", "/bookings", {"GET", "POST"}),
        ("POST", "/bookings/1", {"GET", "DELETE"}),
        ("GET", "/auth/login", {"POST"}),
        ("POST", "/seats", {"GET"}),
        ("PATCH", "/livez", {"GET"}),
        ("OPTIONS", "/seats", {"GET"}),
    ],
)
async def test_method_not_allowed(
    shared: Service, method: str, path: str, allowed: set[str]
) -> None:
    """405, and Allow names every method that the path takes."""
    answer = await shared.client.request(method, path)
    problem_of(answer, 405, "method_not_allowed")
    assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed


MALFORMED = {
    "nothing": b"",
    "space": b" ",
    "half": b'{"username": "ali',
    "two": b"{} {}",
    "word": b"nul",
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "bad UTF-8": b'{"username": "\xff\xfe"}',
    "UTF-8 in half": b'{"username": "\xc3"}',
    "bad escape": b'{"username": "\\x"}',
    "control character": b'{"username": "a\x00b"}',
    "deep": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "deep and closed": b"[" * 30_000 + b"]" * 30_000,
    "long number": b'{"seat_id": ' + b"9" * 50_000 + b"}",
}
WRONG = {
    "null": b"null",
    "string": b'"text"',
    "list": b"[]",
    "number": b"1",
    "NaN": b'{"seat_id": NaN, "username": NaN, "password": NaN}',
    "infinity": b'{"seat_id": Infinity, "username": -Infinity, "password": 1e999}',
    "large number": b'{"seat_id": ' + b"9" * 4000 + b"}",
    "surrogate name": b'{"\\ud800": 1}',
    "NUL name": b'{"\\u0000": 1}',
    "same name twice": b'{"seat_id": 1, "seat_id": "x"}',
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_malformed_json(shared: Service, ann: Person, what: str) -> None:
    """What is no JSON is 422, on every path that takes a body."""
    before = await rows(shared)
    for path in BODIES:
        answer = await post(ann, path, MALFORMED[what])
        assert answer.json()["code"] in ("malformed_body", "invalid_request")
        problem_of(answer, 422, answer.json()["code"])
    assert await rows(shared) == before


@pytest.mark.parametrize("what", WRONG)
async def test_wrong_json(shared: Service, ann: Person, what: str) -> None:
    """JSON of another shape is 422, on every path that takes a body."""
    before = await rows(shared)
    for path in BODIES:
        problem_of(await post(ann, path, WRONG[what]), 422, "invalid_request")
    assert await rows(shared) == before


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png", "x", ""],
)
async def test_wrong_content_type(shared: Service, ann: Person, content_type: str) -> None:
    """JSON is only what says that it is JSON."""
    before = await rows(shared)
    for path in BODIES:
        body = json.dumps({"username": "a-name", "password": PASSWORD, "seat_id": 1}).encode()
        answer = await post(ann, path, body, **{"Content-Type": content_type})
        problem_of(answer, 422, "invalid_request")
    assert await rows(shared) == before


@pytest.mark.parametrize("bad", ["\ud800", "x\udfff", "\ud800\ud800", "\x00", "al\x00ice"])
@pytest.mark.parametrize("field", ["username", "email", "name"])
async def test_register_with_text_that_cannot_be_stored(
    shared: Service, ann: Person, field: str, bad: str
) -> None:
    """Lone surrogates and NUL are 422."""
    before = await rows(shared)
    body = {"username": "some-name", "password": PASSWORD} | {field: bad}
    answer = await post(ann, "/auth/register", json.dumps(body).encode())
    problem_of(answer, 422, "invalid_request")
    assert await rows(shared) == before


@pytest.mark.parametrize("bad", ["\ud800", "long enough \udfff"])
async def test_passwords_that_are_no_text(shared: Service, ann: Person, bad: str) -> None:
    """A password must be encodable, to be hashed."""
    before = await rows(shared)
    for path in ("/auth/register", "/auth/login"):
        body = json.dumps({"username": ann.username + "2", "password": bad}).encode()
        problem_of(await post(ann, path, body), 422, "invalid_request")
    login = json.dumps({"username": bad, "password": PASSWORD}).encode()
    problem_of(await post(ann, "/auth/login", login), 422, "invalid_request")
    assert await rows(shared) == before


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/x-www-form-urlencoded", b""),
        ("application/x-www-form-urlencoded", b"username=a"),
        ("application/x-www-form-urlencoded", b"grant_type=x&username=a&password=b"),
        ("application/x-www-form-urlencoded", b"&" * 10_000),
        ("application/x-www-form-urlencoded", b"a=b&" * 10_000),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"--y\r\nContent-Disposition: form-data\r\n\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="username"; filename="a"\r\n\r\n'
            b'a\r\n--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nb\r\n--x--\r\n',
        ),
        ("application/json", b'{"username": "a", "password": "b"}'),
    ],
)
async def test_bad_form(shared: Service, content_type: str, content: bytes) -> None:
    """The one path that takes a form refuses what is none."""
    headers = {"Content-Type": content_type}
    answer = await shared.client.post("/auth/token", content=content, headers=headers)
    assert answer.json()["code"] in ("malformed_body", "invalid_request")
    problem_of(answer, 422, answer.json()["code"])


@pytest.mark.parametrize(
    "content", [b"username=%ED%A0%80&password=%FF%FE", b"username=\xff&password=\xff"]
)
async def test_form_of_bad_text(shared: Service, content: bytes) -> None:
    """Broken encodings in a form are nobody's name."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await shared.client.post("/auth/token", content=content, headers=headers)
    assert answer.status_code in (401, 422)


async def in_chunks(content: bytes) -> AsyncIterator[bytes]:
    """So that no length is declared."""
    for start in range(0, len(content), 8192):
        yield content[start : start + 8192]


@pytest.mark.parametrize("size", [BODY_MAX + 1, 100_000, 1_000_000])
@pytest.mark.parametrize("path", [*BODIES, "/auth/token"])
async def test_large_body(shared: Service, ann: Person, path: str, size: int) -> None:
    """Over 64 KiB: 413, with a declared length and without, and nothing is done."""
    before = await rows(shared)
    content = b"[" * size
    kind = "x-www-form-urlencoded" if path == "/auth/token" else "json"
    headers = {"Content-Type": f"application/{kind}"}
    declared = await ann.call("POST", path, content=content, headers=headers)
    problem_of(declared, 413, "payload_too_large")
    chunked = await ann.call("POST", path, content=in_chunks(content), headers=headers)
    problem_of(chunked, 413, "payload_too_large")
    assert await rows(shared) == before


async def test_body_of_64_kib(shared: Service, ann: Person) -> None:
    """The limit itself is still fine, in both ways."""
    venue = await shared.add_event()
    for seat_id, wrap in ((venue.seats[0], bytes), (venue.seats[1], in_chunks)):
        content = json.dumps({"seat_id": seat_id}).encode().ljust(BODY_MAX)
        answer = await ann.call("POST", "/bookings", content=wrap(content), headers=JSON)
        assert answer.status_code == 201
    assert await shared.booked(venue) == venue.seats[:2]


@pytest.mark.parametrize("given", ["a", "A.z_0-9", "x" * 64])
async def test_request_id_is_kept(shared: Service, given: str) -> None:
    """A good one comes back, in the header and in a problem."""
    for path in ("/livez", "/nope"):
        answer = await shared.client.get(path, headers={"X-Request-Id": given})
        assert answer.headers["x-request-id"] == given
    assert problem_of(answer, 404, "not_found")["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "two words", "a\tb", "a%0d%0ab", "a/b", "ä", "{}"])
async def test_request_id_is_replaced(shared: Service, given: str) -> None:
    """Anything else is replaced by a new one each time."""
    headers = {b"X-Request-Id": given.encode()}
    first = await shared.client.get("/livez", headers=headers)
    second = await shared.client.get("/livez", headers=headers)
    made = {first.headers["x-request-id"], second.headers["x-request-id"]}
    assert len(made) == 2
    assert given not in made
    assert all(made)


async def test_every_answer_has_a_request_id(shared: Service, ann: Person) -> None:
    """Good ones and refusals alike."""
    for path in ("/livez", "/seats", "/me", "/docs", "/openapi.json", "/nope"):
        assert (await shared.client.get(path)).headers["x-request-id"]


async def test_unexpected_error(
    shared: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 without a word of the cause, which is in the log under the request's id."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(shared.state["seats"], "free", fail)
    answer = await shared.client.get("/seats", headers={"X-Request-Id": "find-me"})
    assert answer.status_code == 500
    assert "secret" not in answer.text + str(answer.headers)
    assert "Traceback" not in answer.text
    assert answer.json()["request_id"] == "find-me"
    [record] = [line for line in caplog.records if line.name.startswith("seatsvc.api")]
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert str(record.exc_info[1]) == "the secret cause"
    problem_of(answer, 500, "internal_error")


async def test_the_service_goes_on_after_an_error(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error is one request's, not its neighbours'."""
    with monkeypatch.context() as patch:
        patch.setattr(shared.state["seats"], "free", None)
        assert (await shared.client.get("/seats")).status_code == 500
    assert (await shared.client.get("/seats")).status_code == 200
