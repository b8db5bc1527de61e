"""Requests that are wrong as a whole: doubled parts, broken text, other kinds of content."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import pytest

from tests import bad_values as bad
from tests.calls import MARK, Document, Operation, Place, World, put
from tests.conftest import Service
from tests.wire import all_refused

INVALID = {"invalid_request", "malformed_body"}
# 20 ways to name a seat twice.
DOUBLED_SEATS = [
    [1] * 2, [1] * 3, [1] * 50, [1, 2, 1], [1, 1, 2], [2, 1, 1], [1, 2, 1, 2], [2, 2, 1, 1],
    [*range(1, 50), 1], [*range(1, 50), 49], [80, 79, 80], [81, 81], [10**9] * 2, [2**63 - 1] * 2,
    [2**62, 1, 2**62], [1, 2, 3, 4, 5, 5], [5, 4, 3, 2, 1, 5], [7, 8, 7], [9, 9, 9, 1], [3, 1, 3],
]  # fmt: skip
SEAT: dict[str, Any] = {"name": "Seat", "price": 1, "currency": "EUR"}
ROW: dict[str, Any] = {"name": "1", "seats": 2}
PART: dict[str, Any] = {"name": "A", "rows": [ROW]}
# 20 halls with a name that does not tell two things apart.
DOUBLED_NAMES: list[dict[str, Any]] = [
    {"sections": [PART, PART]},
    {"sections": [PART, PART, PART]},
    {"sections": [PART, {"name": "A", "places": 1}]},
    {"sections": [{"name": "A", "places": 1}, {"name": "A", "places": 2}]},
    {"sections": [PART, {"name": " A", "places": 1}]},
    {"sections": [PART, {"name": "A ", "places": 1}]},
    {"sections": [PART, {"name": "B", "places": 1}, {"name": "A", "places": 1}]},
    {"sections": [{"name": "A", "rows": [ROW, ROW]}]},
    {"sections": [{"name": "A", "rows": [ROW, ROW, ROW]}]},
    {"sections": [{"name": "A", "rows": [ROW, {"name": "1", "seats": ["x"]}]}]},
    {"sections": [{"name": "A", "rows": [ROW, {"name": " 1 ", "seats": 1}]}]},
    {"sections": [{"name": "A", "rows": [ROW, {"name": "2", "seats": 1}, ROW]}]},
    {"sections": [{"name": "A", "rows": [{"name": "1", "seats": ["1", "1"]}]}]},
    {"sections": [{"name": "A", "rows": [{"name": "1", "seats": ["1", "2", "1"]}]}]},
    {"sections": [{"name": "A", "rows": [{"name": "1", "seats": ["1", " 1"]}]}]},
    {"sections": [{"name": "A", "rows": [{"name": "1", "seats": ["1", "1 ", "2"]}]}]},
    {"sections": [{"name": "A", "rows": [{"name": "1", "seats": ["a"] * 100}]}]},
    {"capacity": 1, "ticket_types": [SEAT, SEAT]},
    {"capacity": 1, "ticket_types": [SEAT, SEAT | {"price": 2}]},
    {"capacity": 1, "ticket_types": [SEAT, SEAT | {"name": " Seat "}]},
]


@pytest.fixture
async def world(shared: Service) -> World:
    """One of each thing, and all an admin's."""
    return await World.create(shared)


@pytest.fixture(scope="module")
async def document(shared: Service) -> Document:
    """What the service says that it takes."""
    return await Document.of(shared)


def with_json(document: Document) -> Iterator[Operation]:
    """The operations that take it."""
    return (operation for operation in document.operations if operation.takes_json)


async def test_fields_twice(shared: Service, world: World, document: Document) -> None:
    """A field with the same value twice, with two values, or in another spelling of its name."""
    calls = []
    for operation in with_json(document):
        call = world.call(operation)
        for name, value in operation.body.items():
            escaped = "".join(f"\\u{ord(letter):04x}" for letter in name)
            for again in (f'"{name}": {json.dumps(value)}', f'"{name}": 2', f'"{escaped}": null'):
                body = call.content.replace(b"{", b"{%s, " % again.encode(), 1)
                calls.append(replace(call, what=f"{operation.id}: {again}", content=body))
    assert len(calls) > 60
    await all_refused(shared, calls, INVALID)


async def test_parameters_twice(shared: Service, world: World, document: Document) -> None:
    """Known ones and others, equal or not, whichever way they are spelled."""
    calls = []
    for operation in document.operations:
        call = world.call(operation)
        names = [str(slot.at[0]) for slot in operation.slots_of("query")]
        for name in [*names, "x"]:
            for pair in (f"{name}=1&{name}=1", f"{name}=1&%{ord(name[0]):x}{name[1:]}=2"):
                query = replace(call, what=f"{operation.id}: {pair}", url=f"{call.url}?{pair}")
                calls.append(query)
    await all_refused(shared, calls, INVALID)


async def test_headers_twice(shared: Service, world: World, document: Document) -> None:
    """Those that say who calls, what is sent and which request it is."""
    calls = []
    for operation in document.operations:
        call = world.call(operation)
        for name in (b"Authorization", b"authorization", b"Content-Type", b"IDEMPOTENCY-KEY"):
            first = (name, dict(call.headers).get(name, b"a"))
            for second in (first, (name, b"Bearer x")):
                others = [each for each in call.headers if each[0].lower() != name.lower()]
                headers = (first, *others, second)
                calls.append(replace(call, what=f"{operation.id}: {name!r}", headers=headers))
    await all_refused(shared, calls, INVALID)


async def test_seats_twice(shared: Service, world: World, document: Document) -> None:
    """In a hold as in a booking, wherever the second one is."""
    assert len(DOUBLED_SEATS) >= 20
    calls = [
        world.call(operation, slot, json.dumps(seats))
        for operation in with_json(document)
        for slot in operation.slots_of("body")
        if slot.at == ("seat_ids",) and "uniqueItems" in slot.schema
        for seats in DOUBLED_SEATS
    ]
    assert len(calls) == 2 * len(DOUBLED_SEATS)
    await all_refused(shared, calls, INVALID)


async def test_names_twice(shared: Service, world: World, document: Document) -> None:
    """Sections, rows, labels and ticket types must be told apart."""
    assert len(DOUBLED_NAMES) >= 20
    [operation] = (each for each in document.operations if each.id == "create_event")
    call = world.call(operation)
    bodies = [json.dumps({"name": "Event", **hall}) for hall in DOUBLED_NAMES]
    calls = [replace(call, what=body, content=body.encode()) for body in bodies]
    await all_refused(shared, calls, {"invalid_request"})


def objects(body: Any, at: Place = ()) -> Iterator[Place]:
    """Where there are objects in it."""
    if isinstance(body, dict):
        yield at
    for name, value in body.items() if isinstance(body, dict) else enumerate(body):
        if isinstance(value, dict | list):
            yield from objects(value, (*at, name))


async def test_unknown_fields(shared: Service, world: World, document: Document) -> None:
    """In each object of each body: nobody smuggles in a role, an owner or a price."""
    assert len(set(bad.UNKNOWN_NAMES)) >= 20
    calls, turn = [], cycle(bad.UNKNOWN_NAMES)
    for operation in with_json(document):
        call, known = world.call(operation), {slot.at for slot in operation.slots_of("body")}
        for at in objects(operation.body):
            for name in islice(turn, 10):
                if (*at, name) not in known:
                    body = json.dumps(put(operation.body, (*at, name), "admin")).encode()
                    calls.append(replace(call, what=f"{operation.id}: {name}", content=body))
    await all_refused(shared, calls, INVALID)


async def test_bad_utf8(shared: Service, world: World, document: Document) -> None:
    """Broken sequences within text, and whole bodies in other encodings."""
    assert len(set(bad.BAD_UTF8)) >= 20
    calls = []
    for operation in with_json(document):
        call, slots = world.call(operation), operation.slots_of("body")
        for n, broken in enumerate(bad.BAD_UTF8):
            body = json.dumps(put(operation.body, slots[n % len(slots)].at, MARK)).encode()
            body = body.replace(MARK.encode(), b"a%sb" % broken)
            calls.append(replace(call, what=f"{operation.id}: {broken!r}", content=body))
        for encoding in bad.ENCODINGS:
            body = call.content.decode().encode(encoding)
            calls.append(replace(call, what=f"{operation.id}: {encoding}", content=body))
    await all_refused(shared, calls, {"malformed_body"})


async def test_content_types(shared: Service, world: World, document: Document) -> None:
    """JSON is only what says that it is JSON; a form is only what says that it is one."""
    assert len(set(bad.CONTENT_TYPES)) >= 20
    calls = []
    for operation in document.operations:
        call, own = world.call(operation), operation.media_type
        forms = ["application/x-www-form-urlencoded"] if operation.takes_json else []
        jsons = [] if operation.takes_json else ["application/json", "application/x+json"]
        for kind in [*bad.CONTENT_TYPES, *forms, *jsons] if own else []:
            others = [each for each in call.headers if each[0] != b"Content-Type"]
            headers = (*others, (b"Content-Type", kind.encode()))
            calls.append(replace(call, what=f"{operation.id}: {kind}", headers=headers))
    await all_refused(shared, calls, INVALID)


async def test_bad_idempotency_keys(shared: Service, world: World, document: Document) -> None:
    """1 to 64 visible ASCII characters, or nothing is done."""
    assert len(set(bad.BAD_KEYS)) >= 20
    calls = []
    for operation in document.operations:
        for slot in operation.slots_of("header"):
            for key in bad.BAD_KEYS if slot.at == ("Idempotency-Key",) else []:
                call = world.call(operation)
                headers = (*call.headers, (b"Idempotency-Key", key))
                calls.append(replace(call, what=f"{operation.id}: {key!r}", headers=headers))
    assert len(calls) >= 2 * len(bad.BAD_KEYS)
    await all_refused(shared, calls, INVALID)


NO_HTTP = [
    b"\x01", b"\x1f", b"\x7f", b"a\0b", b"a\x08", b"\x1b[0m", b"a\rb", b"\x0b", b"\x0c", b"\x0e",
]  # fmt: skip


async def test_no_http(shared: Service, world: World, document: Document) -> None:
    """Control characters in a header make it none, before anything else is looked at."""
    [operation] = (each for each in document.operations if each.id == "create_booking")
    call = world.call(operation)
    keys = [replace(call, headers=(*call.headers, (b"Idempotency-Key", key))) for key in NO_HTTP]
    await all_refused(shared, keys, {"malformed_request"}, anywhere=frozenset({400}))


FORMS = [
    b"", b"&", b"=", b"username", b"username=", b"username=a", b"password=b", b"username&password",
    b"username=a&password", b"username=&password=", b"username=a&password=&grant_type=password",
    b"username=a&username=b&password=c", b"username=a&password=b&password=b", b"a=b&" * 9000,
    b"grant_type=x&username=a&password=b", b"grant_type=&username=a&password=b&grant_type=x",
    b"{}", b'{"username": "a", "password": "b"}', b"username[]=a&password[]=b", b"&" * 60_000,
    b"USERNAME=a&PASSWORD=b", b"username%00=a&password=b", b"grant_type=p&username=a&password=b",
    b"username=a&password=b&x=1", b"username=a&password=b&scope=&scope=",
]  # fmt: skip


async def test_bad_forms(shared: Service, world: World, document: Document) -> None:
    """The one form is as strict as the bodies."""
    assert len(set(FORMS)) >= 20
    [operation] = (each for each in document.operations if each.id == "token")
    call = world.call(operation)
    calls = [replace(call, what=str(content[:80]), content=content) for content in FORMS]
    await all_refused(shared, calls, INVALID)
