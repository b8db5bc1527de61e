"""What admins do with accounts: list them, change roles, deactivate."""

import asyncio
from uuid import UUID, uuid4

import pytest

from tests.conftest import PASSWORD, Person, Service, problem_of
from tests.organizing import half_done

USER_FIELDS = {
    "id", "username", "email", "email_verified", "name", "locale", "role", "created_at",
}  # fmt: skip


async def admin_of(service: Service) -> Person:
    """A new admin."""
    return await service.sign_up(f"admin-{uuid4().hex}", "admin")


@pytest.fixture
async def root(shared: Service) -> Person:
    """An admin of the shared service."""
    return await admin_of(shared)


async def test_list_users(service: Service) -> None:
    """Everyone, by their names, whatever their case, by pages; exactly the contract's fields."""
    people = {name: await service.sign_up(name) for name in ("dora", "Bob", "carl")}
    root = await service.sign_up("Anna", "admin")
    seen, path = [], "/users?limit=3"
    while path:
        answer = await root.call("GET", path)
        seen += answer.json()["items"]
        path = answer.links.get("next", {}).get("url", "")
    assert [user["username"] for user in seen] == ["Anna", "Bob", "carl", "dora"]
    assert [set(user) for user in seen] == [USER_FIELDS] * 4
    assert seen[1] == (await people["Bob"].call("GET", "/me")).json()

    await root.call("PATCH", f"/users/{people['carl'].id}", json={"active": False})
    for query, names in {
        "role=admin": ["Anna"],
        "role=attendee": ["Bob", "carl", "dora"],
        "active=false": ["carl"],
        "active=true&role=attendee": ["Bob", "dora"],
    }.items():
        found = (await root.call("GET", f"/users?{query}")).json()["items"]
        assert [user["username"] for user in found] == names


@pytest.mark.parametrize("role", ["attendee", "organizer"])
async def test_only_admins(shared: Service, ann: Person, role: str) -> None:
    """403 for everyone else, 401 for nobody in particular."""
    person = await shared.sign_up(f"user-{uuid4().hex}", role)
    for method, path, body in (
        ("GET", "/users", None),
        ("PATCH", f"/users/{ann.id}", {"role": role}),
    ):
        problem_of(await person.call(method, path, json=body), 403, "forbidden")
        nobody = await shared.client.request(method, path, json=body)
        problem_of(nobody, 401, "not_authenticated")


async def test_promotion_counts_at_once(shared: Service, root: Person, ann: Person) -> None:
    """The session that the user has already may do what the new role may, and no more."""
    event = {"name": "Event", "capacity": 1}
    problem_of(await ann.call("POST", "/events", json=event), 403, "forbidden")
    answer = await root.call("PATCH", f"/users/{ann.id}", json={"role": "organizer"})
    assert (answer.status_code, answer.json()["role"]) == (200, "organizer")
    assert answer.json() == (await ann.call("GET", "/me")).json()
    made = await ann.call("POST", "/events", json=event)
    assert made.status_code == 201
    await root.call("PATCH", f"/users/{ann.id}", json={"role": "attendee"})
    problem_of(await ann.call("POST", "/events", json=event), 403, "forbidden")
    gone = await ann.call("PATCH", made.headers["location"], json={"name": "Mine"})
    problem_of(gone, 404, "not_found")


async def test_deactivation_logs_out(shared: Service, root: Person, ann: Person) -> None:
    """Its sessions end at once and stay so; a new login works only once it is active again."""
    path = f"/users/{ann.id}"
    assert (await root.call("PATCH", path, json={"active": False})).status_code == 200
    problem_of(await ann.call("GET", "/me"), 401, "invalid_token")
    rows = await shared.sql("select ended_at from sessions where user_id = $1", ann.id)
    assert [row for row in rows if row["ended_at"] is None] == []
    login = {"username": ann.username, "password": PASSWORD}
    problem_of(await shared.client.post("/auth/login", json=login), 401, "invalid_credentials")
    assert (await root.call("PATCH", path, json={"active": True})).status_code == 200
    problem_of(await ann.call("GET", "/me"), 401, "invalid_token")
    assert (await shared.client.post("/auth/login", json=login)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{}, {"role": "king"}, {"role": None}, {"active": None}, {"active": "no"}, {"name": "x"}],
)
async def test_refused_changes(root: Person, ann: Person, body: dict[str, object]) -> None:
    """422 for anything but a role and whether the account is active."""
    answer = await root.call("PATCH", f"/users/{ann.id}", json=body)
    problem_of(answer, 422, "invalid_request")


async def test_unknown_user(root: Person) -> None:
    """404; what is no id is 422, as is a cursor that somebody made up."""
    answer = await root.call("PATCH", f"/users/{uuid4()}", json={"active": False})
    problem_of(answer, 404, "not_found")
    answer = await root.call("PATCH", "/users/7", json={"active": False})
    problem_of(answer, 422, "invalid_request")
    for cursor in ("x", "WzFd", "WyJcdTAwMDAiXQ"):
        answer = await root.call("GET", "/users", params={"cursor": cursor})
        problem_of(answer, 422, "invalid_request")


@pytest.mark.parametrize("body", [{"role": "organizer"}, {"active": False}])
async def test_last_admin_stays(service: Service, body: dict[str, object]) -> None:
    """Nobody can lock everyone out; a deactivated admin does not count."""
    root, other = await admin_of(service), await admin_of(service)
    assert (await root.call("PATCH", f"/users/{other.id}", json={"active": False})).is_success
    answer = await root.call("PATCH", f"/users/{root.id}", json=body)
    problem_of(answer, 409, "last_admin")
    assert (await root.call("GET", "/users")).status_code == 200
    assert (await root.call("PATCH", f"/users/{other.id}", json={"active": True})).is_success
    assert (await root.call("PATCH", f"/users/{root.id}", json=body)).status_code == 200


async def test_two_admins_demote_each_other(service: Service) -> None:
    """Race: the second waits for the first, and is then the last."""
    first, second = await admin_of(service), await admin_of(service)
    async with half_done(service, "accounts", "change_user", UUID(first.id), "attendee", None):
        body = {"role": "attendee"}
        call = asyncio.create_task(first.call("PATCH", f"/users/{second.id}", json=body))
        await asyncio.sleep(0.3)
        assert not call.done()
    answer = await call
    # On a slow machine the call may only be looked at when its sender is no admin any more.
    assert (answer.status_code, answer.json()["code"]) in {(409, "last_admin"), (403, "forbidden")}
    rows = await service.sql("select id from users where role = 'admin' and active")
    assert [str(row["id"]) for row in rows] == [second.id]
