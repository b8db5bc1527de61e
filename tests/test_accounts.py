"""Sign-up and login."""

import asyncio
import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.conftest import PASSWORD, Service, problem_of

USER_FIELDS = {
    "id", "username", "email", "email_verified", "name", "locale", "role", "created_at",
}  # fmt: skip


def name() -> str:
    """A username that is free."""
    return f"User-{uuid4().hex}"


async def register(service: Service, username: str, **more: Any) -> httpx.Response:
    """Sign up."""
    body = {"username": username, "password": PASSWORD, **more}
    return await service.client.post("/auth/register", json=body)


async def login(service: Service, username: str, password: str = PASSWORD) -> httpx.Response:
    """Log in."""
    body = {"username": username, "password": password}
    return await service.client.post("/auth/login", json=body)


async def users(service: Service) -> int:
    """How many there are."""
    [row] = await service.sql("select count(*) as count from users")
    return int(row["count"])


async def test_register_answers_the_user(shared: Service) -> None:
    """201 with exactly the fields of the contract."""
    username = name()
    email = f"{username}@example.org".lower()
    answer = await register(shared, username, email=email, name="Ännchen O'Neil")
    assert answer.status_code == 201
    user = answer.json()
    assert set(user) == USER_FIELDS
    assert user["username"] == username
    assert user["email"] == email
    assert user["email_verified"] is False
    assert (user["name"], user["locale"], user["role"]) == ("Ännchen O'Neil", "en", "attendee")
    created_at = datetime.fromisoformat(user["created_at"])
    assert created_at.utcoffset() == timedelta()
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
    [row] = await shared.sql("select * from users where id = $1", UUID(user["id"]))
    assert (row["username"], row["email"], row["role"]) == (username, email, "attendee")


async def test_email_and_name_are_optional(shared: Service) -> None:
    """A username and a password are enough."""
    user = (await register(shared, name())).json()
    assert user["email"] is None
    assert user["name"] is None


@pytest.mark.parametrize(
    ("first", "second"),
    [("Carol", "cAROL"), ("Groß", "GROSS"), ("Zoë", "Zoe\N{COMBINING DIAERESIS}")],
)
async def test_username_taken(shared: Service, first: str, second: str) -> None:
    """A name that differs only in case or composition is the same name."""
    assert (await register(shared, first)).status_code == 201
    before = await users(shared)
    problem_of(await register(shared, second), 409, "username_taken")
    assert await users(shared) == before


async def test_email_taken(shared: Service) -> None:
    """An address belongs to one account, in any case."""
    assert (await register(shared, name(), email="Dora@Example.org")).status_code == 201
    before = await users(shared)
    problem_of(await register(shared, name(), email="dORA@eXAMPLE.ORG"), 409, "email_taken")
    assert await users(shared) == before


async def test_one_name_ten_times_at_once(shared: Service) -> None:
    """Ten sign-ups race for one name: one gets it."""
    username = name()
    answers = await asyncio.gather(*(register(shared, username) for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}
    rows = await shared.sql("select id from users where username = $1", username)
    [winner] = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert [str(row["id"]) for row in rows] == [winner]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "ab"), ("username", "a" * 65), ("username", ""), ("username", None),
        ("username", 12345), ("username", ["alice"]), ("username", "al ice"),
        ("username", "al@ice"), ("username", "al\x00ice"), ("username", "al\nice"),
        ("username", "alice\n"), ("username", "al\x7fice"), ("username", "al\u202eice"),
        ("password", "7 chars"), ("password", "x" * 73), ("password", "€" * 25),
        ("password", None), ("password", 1234567890),
        ("email", "alice"), ("email", "alice@"), ("email", "al\x00ice@example.org"),
        ("email", "alice@example.org\n"), ("email", "a" * 250 + "@example.org"),
        ("name", ""), ("name", "x" * 201), ("name", "Al\x00ice"), ("name", "Al\nice"),
        ("name", "Al\u202eice"), ("role", "admin"), ("active", True),
        ("id", "70f0a500-ce7a-445f-bcec-904015d1921a"),
    ],
)  # fmt: skip
async def test_registration_refused(shared: Service, field: str, value: object) -> None:
    """422 that names the field, and no account."""
    before = await users(shared)
    body = {"username": name(), "password": PASSWORD} | {field: value}
    answer = await shared.client.post("/auth/register", json=body)
    problem = problem_of(answer, 422, "invalid_request")
    assert [error["at"] for error in problem["errors"]] == [f"body.{field}"]
    assert await users(shared) == before


@pytest.mark.parametrize("field", ["username", "password"])
async def test_registration_needs_both(shared: Service, field: str) -> None:
    """Neither the name nor the password may be missing."""
    body = {"username": name(), "password": PASSWORD}
    del body[field]
    answer = await shared.client.post("/auth/register", json=body)
    problem = problem_of(answer, 422, "invalid_request")
    assert [error["at"] for error in problem["errors"]] == [f"body.{field}"]


@pytest.mark.parametrize("password", ["8 chars!", "x" * 72, "€" * 24, "¡ñandú! 🦤"])
async def test_passwords_that_fit(shared: Service, password: str) -> None:
    """8 characters to 72 bytes are taken whole: with another last character nobody gets in."""
    username = name()
    assert (await register(shared, username, password=password)).status_code == 201
    assert (await login(shared, username, password)).status_code == 200
    problem_of(await login(shared, username, password[:-1] + "?"), 401, "invalid_credentials")
    problem_of(await login(shared, username, password + "?"), 401, "invalid_credentials")


@pytest.mark.parametrize("length", [3, 64])
async def test_usernames_that_fit(shared: Service, length: int) -> None:
    """3 to 64 characters."""
    assert (await register(shared, "é" * length)).status_code == 201


async def test_login_by_name_or_address_in_any_case(shared: Service) -> None:
    """Each way gives a pair of tokens that works."""
    username = name()
    email = f"{username}@example.org"
    user = (await register(shared, username, email=email)).json()
    for given in (username, username.upper(), username.lower(), email, email.upper()):
        answer = await login(shared, given)
        assert answer.status_code == 200, given
        pair = answer.json()
        assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (pair["token_type"], pair["expires_in"]) == ("bearer", 900)
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        assert (await shared.client.get("/me", headers=headers)).json() == user


async def test_password_form(shared: Service) -> None:
    """The OAuth2 form logs in like the JSON body, and refuses like it."""
    username = name()
    await register(shared, username)
    form = {"grant_type": "password", "username": username.upper(), "password": PASSWORD}
    answer = await shared.client.post("/auth/token", data=form)
    assert answer.status_code == 200
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await shared.client.get("/me", headers=headers)).json()["username"] == username
    wrong = await shared.client.post("/auth/token", data=form | {"password": "wrong"})
    problem_of(wrong, 401, "invalid_credentials")


async def test_refused_logins_look_the_same(shared: Service) -> None:
    """An unknown user, a wrong password and a deactivated account get the same answer."""
    username, gone = name(), name()
    await register(shared, username)
    await register(shared, gone)
    await shared.sql("update users set active = false where username = $1", gone)
    answers = [
        await login(shared, name()),
        await login(shared, f"{name()}@example.org"),
        await login(shared, username, "wrong"),
        await login(shared, gone),
    ]
    problems = [problem_of(answer, 401, "invalid_credentials") for answer in answers]
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)
    assert len({problem.pop("request_id") for problem in problems}) == 4
    assert all(problem == problems[0] for problem in problems)


@pytest.mark.parametrize("login", ["al\x00ice", "al\x00ice@example.org"])
async def test_login_with_nul(shared: Service, login: str) -> None:
    """PostgreSQL cannot hold a NUL: nobody's name has one, and that is no error of ours."""
    body = {"username": login, "password": PASSWORD}
    as_json = await shared.client.post("/auth/login", json=body)
    assert as_json.status_code in (401, 422), as_json.text
    as_form = await shared.client.post("/auth/token", data=body)
    assert as_form.status_code in (401, 422), as_form.text


@pytest.mark.parametrize("more", [{"role": "admin"}, {"username": ""}, {"password": ""}])
async def test_login_refused(shared: Service, more: dict[str, str]) -> None:
    """Unknown and empty fields are 422."""
    body = {"username": "alice", "password": PASSWORD} | more
    problem_of(await shared.client.post("/auth/login", json=body), 422, "invalid_request")


async def test_secrets_are_stored_hashed(shared: Service) -> None:
    """Of a password there is its bcrypt hash only, of a refresh token its SHA-256."""
    username = name()
    user = (await register(shared, username)).json()
    pair = (await login(shared, username)).json()
    [row] = await shared.sql(
        "select u.password_hash, s.id, t.token_hash, u::text || s::text || t::text as everything"
        " from users u join sessions s on s.user_id = u.id"
        " join refresh_tokens t on t.session_id = s.id where u.id = $1",
        UUID(user["id"]),
    )
    assert row["password_hash"].startswith("$2b$04$")
    assert row["token_hash"] == hashlib.sha256(pair["refresh_token"].encode()).digest()
    for secret in (PASSWORD, pair["refresh_token"], pair["access_token"]):
        assert secret not in row["everything"]


async def test_secrets_stay_out_of_the_log(shared: Service, log: StringIO) -> None:
    """Neither passwords nor tokens are logged, whether the call succeeds or not."""
    username = name()
    await register(shared, username)
    await register(shared, username)
    await login(shared, username, PASSWORD + "!")
    pair = (await login(shared, username)).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    await shared.client.get("/me", headers=headers)
    assert "/auth/login" in log.getvalue()
    for secret in (PASSWORD, pair["refresh_token"], pair["access_token"]):
        assert secret not in log.getvalue()
