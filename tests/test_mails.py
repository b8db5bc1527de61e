"""What admins see of the mails that could not be sent."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from seatsvc.settings import Settings
from tests.conftest import Person, Service, problem_of, serve, until
from tests.mailing import MailServer, mail_server, with_mails

FIELDS = {
    *("id", "kind", "user_id", "booking_id", "status", "attempts", "error"),
    *("created_at", "next_try_at", "dead_at"),
}


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    """One that takes everything."""
    async with mail_server() as running:
        yield running


@pytest.fixture
async def mailed(test_settings: Settings, server: MailServer) -> AsyncIterator[Service]:
    """A service that sends to it."""
    current = with_mails(test_settings, f"smtp://127.0.0.1:{server.port}")
    async with serve(current) as running:
        yield running


@pytest.fixture
async def admin(mailed: Service) -> Person:
    """Who may see them."""
    return await mailed.sign_up("root", "admin")


async def add(service: Service, user: Person, count: int, state: str) -> list[int]:
    """Mails that wait for an hour, or are dead; their ids, newest first."""
    rows = await service.sql(
        "insert into outbox (kind, user_id, email, attempts, error, next_try_at, dead_at)"
        " select 'email_changed', $1, 'old@example.org', 3, 'SMTPDataError 451',"
        " now() + interval '1 h', case when $3 = 'dead' then now() end"
        " from generate_series(1, $2) returning id",
        user.id, count, state,
    )  # fmt: skip
    return sorted((row["id"] for row in rows), reverse=True)


async def listed(admin: Person, **params: Any) -> dict[str, Any]:
    """A page."""
    answer = await admin.call("GET", "/mails", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def test_dead_and_waiting(mailed: Service, admin: Person) -> None:
    """Each in a list of its own; the dead unless asked otherwise; no address in either."""
    dead = await add(mailed, admin, 2, "dead")
    waiting = await add(mailed, admin, 1, "waiting")
    first = await listed(admin)
    assert first == await listed(admin, status="dead")
    assert [mail["id"] for mail in first["items"]] == dead
    [other] = (await listed(admin, status="waiting"))["items"]
    assert other["id"] == waiting[0]
    assert set(other) == FIELDS
    assert (other["status"], other["dead_at"]) == ("waiting", None)
    assert (other["kind"], other["user_id"], other["attempts"]) == ("email_changed", admin.id, 3)
    assert first["items"][0]["error"] == "SMTPDataError 451"
    assert "@" not in str(first) + str(other)


async def test_pages(mailed: Service, admin: Person) -> None:
    """Each mail once, newest first."""
    wanted = await add(mailed, admin, 5, "dead")
    seen, path = [], "/mails?limit=2"
    while path:
        answer = await admin.call("GET", path)
        seen += [mail["id"] for mail in answer.json()["items"]]
        path = answer.links.get("next", {}).get("url", "")
        assert bool(path) == bool(answer.json()["next_cursor"])
    assert seen == wanted


@pytest.mark.parametrize(
    "cursor", ["x", "WyJ4Il0", "WzBd", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5XQ", "e30"]
)
async def test_forged_cursor(mailed: Service, admin: Person, cursor: str) -> None:
    problem_of(await admin.call("GET", f"/mails?cursor={cursor}"), 422, "invalid_request")


@pytest.mark.parametrize("query", ["status=sent", "limit=0", "limit=101"])
async def test_bad_query(mailed: Service, admin: Person, query: str) -> None:
    problem_of(await admin.call("GET", f"/mails?{query}"), 422, "invalid_request")


@pytest.mark.parametrize("state", ["dead", "waiting"])
async def test_retry(mailed: Service, admin: Person, server: MailServer, state: str) -> None:
    """It is sent at once, whatever it waited for."""
    [mail_id] = await add(mailed, admin, 1, state)
    answer = await admin.call("POST", f"/mails/{mail_id}/retry")
    assert answer.status_code == 200, answer.text
    mail = answer.json()
    assert set(mail) == FIELDS
    assert (mail["id"], mail["status"], mail["attempts"]) == (mail_id, "waiting", 0)
    assert (mail["error"], mail["dead_at"]) == (None, None)

    async def sent() -> bool:
        return server.recipients == ["old@example.org"]

    await until(sent)


async def test_retry_of_nothing(mailed: Service, admin: Person) -> None:
    for mail_id in (1, 2**63 - 1):
        problem_of(await admin.call("POST", f"/mails/{mail_id}/retry"), 404, "not_found")
    problem_of(await admin.call("POST", "/mails/0/retry"), 422, "invalid_request")


@pytest.mark.parametrize("role", ["attendee", "organizer"])
async def test_not_for_others(mailed: Service, admin: Person, role: str) -> None:
    """Neither to look at, nor to send; the mail is left as it is."""
    person = await mailed.sign_up(f"u{uuid4().hex}", role)
    [mail_id] = await add(mailed, person, 1, "dead")
    for method, path in (("GET", "/mails"), ("POST", f"/mails/{mail_id}/retry")):
        problem_of(await person.call(method, path), 403, "forbidden")
        problem_of(await mailed.client.request(method, path), 401, "not_authenticated")
    assert [mail["id"] for mail in (await listed(admin))["items"]] == [mail_id]
