"""Nobody but its owner can tell that a thing exists; nobody calls without a session that lives."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.calls import Call, Document, Operation, World
from tests.conftest import PASSWORD, Person, Service, problem_of
from tests.organizing import organizer
from tests.wire import digest, send

ABSENT_ID = str(2**40)
ABSENT_UUID = "0b8f2c1e-3c69-4f9e-9d53-0d4c9c1f4d11"
# Every operation with an id in its path or its body belongs to one of these. Owned: another user's
# is as absent. Public: anyone may read it. For admins: others are told 403 whatever the id is.
OWNED = {
    "update_event", "delete_event", "cancel_event", "create_ticket_type", "update_ticket_type",
    "delete_ticket_type", "list_event_bookings", "get_report", "block_seats", "unblock_seats",
    "get_hold", "release_hold", "extend_hold", "get_booking", "cancel_booking", "create_booking",
}  # fmt: skip
PUBLIC = {
    "get_event", "list_ticket_types", "get_layout", "get_availability", "stream_event",
    "list_seats",
    # Anyone may hold seats that are on sale, and names only events and seats.
    "create_hold",
    # My own bookings of an event: for a stranger's event, none.
    "list_bookings",
}  # fmt: skip
FOR_ADMINS = {"update_user", "retry_mail"}
# What a stranger may ask for, where the document's example names something else.
BODIES: dict[str, Any] = {"create_booking": {"hold_id": ABSENT_UUID}}


@pytest.fixture(scope="module")
async def document(shared: Service) -> Document:
    """What the service says that it takes."""
    return await Document.of(shared)


@pytest.fixture(scope="module")
async def theirs(shared: Service) -> World:
    """One of each thing, and all an organizer's."""
    return await World.create(shared, await organizer(shared))


def takes_id(operation: Operation) -> bool:
    """Does a call name a thing by its id? The form's `client_id` names none of ours."""
    names = {str(name) for slot in operation.slots for name in slot.at} - {"client_id"}
    return any(name.endswith(("_id", "_ids")) for name in names)


async def test_every_operation_has_its_place(document: Document) -> None:
    """A new one with an id says here whose it is."""
    named = {operation.id for operation in document.operations if takes_id(operation)}
    assert named == OWNED | PUBLIC | FOR_ADMINS
    assert len(named) == len(OWNED) + len(PUBLIC) + len(FOR_ADMINS)


def pair_of_calls(operation: Operation, theirs: World, caller: Person) -> tuple[Call, Call]:
    """For what is another's, and for what nobody has."""
    absent = {name: ABSENT_UUID if "-" in one else ABSENT_ID for name, one in theirs.ids.items()}
    body = BODIES.get(operation.id, operation.body)
    calls = []
    for ids in (theirs.ids, absent):
        text = json.dumps(body).replace(ABSENT_UUID, ids["hold_id"])
        call = World(caller, ids).call(operation)
        calls.append(replace(call, content=text.encode()))
    return calls[0], calls[1]


async def answers(service: Service, calls: tuple[Call, Call]) -> list[tuple[int, dict[str, Any]]]:
    """Status and problem of both, but for the request's id and the thing's own."""
    found = []
    for call, answer in sorted(await send(service, calls), key=lambda pair: pair[0] is calls[1]):
        problem = answer.json()
        del problem["request_id"]
        for part in call.url.split("/"):
            problem["detail"] = problem["detail"].replace(f" {part},", " …,")
        assert answer.status_code in call.statuses
        found.append((answer.status_code, problem))
    return found


@pytest.mark.parametrize("role", ["attendee", "organizer"])
@pytest.mark.parametrize(
    ("operation_id", "refusal"),
    [
        *((operation_id, (404, "not_found")) for operation_id in sorted(OWNED)),
        *((operation_id, (403, "forbidden")) for operation_id in sorted(FOR_ADMINS)),
    ],
)
async def test_what_is_anothers(
    shared: Service,
    document: Document,
    theirs: World,
    operation_id: str,
    refusal: tuple[int, str],
    role: str,
) -> None:
    """404, or 403 for what is for admins, with the very words of what does not exist, and
    nothing happens to it."""
    stranger = await organizer(shared, role)
    [operation] = (each for each in document.operations if each.id == operation_id)
    before = await digest(shared)
    others, absent = await answers(shared, pair_of_calls(operation, theirs, stranger))
    assert others == absent
    assert (others[0], others[1]["code"]) == refusal
    assert await digest(shared) == before


async def test_owners_may(shared: Service, document: Document) -> None:
    """What strangers may not, or the tests above would prove nothing."""
    for operation in document.operations:
        if operation.id in OWNED - {"create_booking", "block_seats", "unblock_seats"}:
            mine = await World.create(shared, await organizer(shared))
            [(_, answer)] = await send(shared, [mine.call(operation)])
            assert answer.status_code in (200, 201, 204, 409), operation.id
            assert answer.status_code != 409 or "delete" in operation.id


# Anyone may call these. The list is short enough to be read.
OPEN = {
    "register", "login", "token", "refresh", "request_password_reset", "confirm_password_reset",
    "verify_email", "list_events", "get_event", "list_ticket_types", "list_seats", "get_layout",
    "get_availability", "stream_event", "livez", "readyz", "health", "get_metrics",
}  # fmt: skip


async def test_open_operations(document: Document) -> None:
    """All others say in the document that they need a token."""
    assert {operation.id for operation in document.operations if not operation.secured} == OPEN


async def with_headers(
    service: Service, document: Document, theirs: World, *headers: tuple[bytes, bytes]
) -> list[Any]:
    """The answers of all operations that need a token, to calls with these headers for one."""
    calls = []
    for operation in document.operations:
        if operation.secured:
            call = theirs.call(operation)
            others = tuple(each for each in call.headers if each[0] != b"Authorization")
            calls.append(replace(call, headers=others + headers))
    before = await digest(service)
    found = [answer for _, answer in await send(service, calls)]
    assert await digest(service) == before
    assert len(found) == len(document.operations) - len(OPEN)
    return found


async def test_without_a_token(shared: Service, document: Document, theirs: World) -> None:
    """401 not_authenticated, which says how to authenticate."""
    for answer in await with_headers(shared, document, theirs):
        problem_of(answer, 401, "not_authenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_with_an_ended_session(shared: Service, document: Document, theirs: World) -> None:
    """401 invalid_token, at once and everywhere."""
    person = await shared.newcomer()
    assert (await person.call("POST", "/auth/logout")).status_code == 204
    token = (b"Authorization", person.headers["Authorization"].encode())
    for answer in await with_headers(shared, document, theirs, token):
        problem_of(answer, 401, "invalid_token")


BAD_TOKENS = [
    "", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "bearer null", "Basic YTpi", "Token x",
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "Bearer \xff", "Bearer " + "x" * 8000,
]  # fmt: skip


@pytest.mark.parametrize("token", BAD_TOKENS, ids=range(len(BAD_TOKENS)))
async def test_with_a_bad_token(
    shared: Service, document: Document, theirs: World, token: str
) -> None:
    """401 invalid_token, never an answer as for nobody."""
    header = (b"Authorization", token.encode("latin-1"))
    for answer in await with_headers(shared, document, theirs, header):
        problem_of(answer, 401, "invalid_token")


async def test_of_a_deactivated_user(shared: Service, document: Document, theirs: World) -> None:
    """401 invalid_token, and no way to a new one."""
    person, admin = await shared.newcomer(), await organizer(shared, "admin")
    answer = await admin.call("PATCH", f"/users/{person.id}", json={"active": False})
    assert answer.status_code == 200
    token = (b"Authorization", person.headers["Authorization"].encode())
    for answer in await with_headers(shared, document, theirs, token):
        problem_of(answer, 401, "invalid_token")
    body = {"username": person.username, "password": PASSWORD}
    problem_of(await shared.client.post("/auth/login", json=body), 401, "invalid_credentials")
