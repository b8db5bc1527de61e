"""Passwords: changed, forgotten, and too well known."""

import asyncio
import hashlib
from collections import Counter
from uuid import UUID

import bcrypt
import httpx
import pytest

from seatsvc import passwords, patience
from seatsvc.errors import Unavailable
from seatsvc.outbox import Outbox
from seatsvc.passwords import Hasher, common
from seatsvc.settings import Settings
from tests.conftest import PASSWORD, Person, Service, problem_of, serve

NEW = "staple of the wrong horse"


async def login(service: Service, person: Person, password: str = PASSWORD) -> httpx.Response:
    """Try to log in."""
    body = {"username": person.username, "password": password}
    return await service.client.post("/auth/login", json=body)


async def again(service: Service, person: Person) -> Person:
    """The same person in another session."""
    token = (await login(service, person)).json()["access_token"]
    return Person(service.client, {"Authorization": f"Bearer {token}"}, person.id, person.username)


async def change(person: Person, new: str = NEW, current: str = PASSWORD) -> httpx.Response:
    """Change the password."""
    body = {"current_password": current, "new_password": new}
    return await person.call("POST", "/auth/change-password", json=body)


async def mailed(
    service: Service, person: Person, purpose: str = "reset", *, age: str = "0 minutes"
) -> str:
    """A token as the outbox makes it when it sends a mail."""
    token = f"{purpose}-{person.id}-{age}"
    await service.sql(
        "insert into mail_tokens (token_hash, user_id, purpose, email, expires_at)"
        " select $1, id, $3, email, now() + interval '30 minutes' - $4::text::interval"
        " from users where id = $2",
        hashlib.sha256(token.encode()).digest(), UUID(person.id), purpose, age,
    )  # fmt: skip
    return token


async def reset(service: Service, token: str, new: str = NEW) -> httpx.Response:
    """Set a password by a mailed token."""
    body = {"token": token, "new_password": new}
    return await service.client.post("/auth/password-reset-confirm", json=body)


async def give_address(service: Service, person: Person) -> str:
    """An address for the person, as if it had been there from the start."""
    email = f"{person.username}@example.org"
    await service.sql("update users set email = $2 where id = $1", UUID(person.id), email)
    return email


async def test_change_ends_every_other_session(shared: Service, ann: Person) -> None:
    """This session goes on; the others are dead, and so is the former password."""
    other = await again(shared, ann)
    answer = await change(ann)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await ann.call("GET", "/me")).status_code == 200
    problem_of(await other.call("GET", "/me"), 401, "invalid_token")
    problem_of(await login(shared, ann), 401, "invalid_credentials")
    assert (await login(shared, ann, NEW)).status_code == 200


async def test_change_needs_the_present_password(shared: Service, ann: Person) -> None:
    """A stolen token is not enough; nothing changes."""
    problem_of(await change(ann, current="not my password"), 401, "invalid_credentials")
    assert (await login(shared, ann)).status_code == 200
    assert (await ann.call("GET", "/me")).status_code == 200


async def test_changed_twice_at_once(shared: Service, ann: Person) -> None:
    """A race of changes: the one that comes second no longer knows the present password."""
    news = [f"{NEW} {n}" for n in range(5)]
    answers = await asyncio.gather(*(change(ann, new) for new in news))
    assert Counter(answer.status_code for answer in answers) == {204: 1, 401: 4}
    good = [(await login(shared, ann, new)).status_code == 200 for new in news]
    assert good == [answer.status_code == 204 for answer in answers]


async def test_login_while_the_password_changes(shared: Service, ann: Person) -> None:
    """A race: no session begun with the former password outlives the change."""
    await asyncio.gather(change(ann), *(login(shared, ann) for _ in range(20)))
    alive = await shared.sql(
        "select from sessions where user_id = $1 and ended_at is null", UUID(ann.id)
    )
    assert len(alive) == 1


@pytest.mark.parametrize(
    "password", ["password1", "Password1", "12345678", "iloveyou", "QWERTYUIOP"]
)
async def test_common_passwords(shared: Service, ann: Person, password: str) -> None:
    """In whatever case; at sign-up, at a change, at a reset."""
    await give_address(shared, ann)
    body = {"username": f"{ann.username}-2", "password": password}
    answers = [
        await shared.client.post("/auth/register", json=body),
        await change(ann, password),
        await reset(shared, await mailed(shared, ann), password),
    ]
    for answer in answers:
        assert "common" in problem_of(answer, 422, "invalid_request")["detail"]
    assert (await login(shared, ann)).status_code == 200


async def test_password_is_not_the_name_or_the_address(shared: Service, ann: Person) -> None:
    """Whoever knows the name would know the password."""
    email = await give_address(shared, ann)
    name = "Somebody-Else"
    own = [
        await shared.client.post("/auth/register", json={"username": name, "password": password})
        for password in (name.upper(), f"{name}123", "Seatsvc-1", f"seatsvc{name}")
    ]
    answers = [
        *own,
        await change(ann, ann.username.upper()),
        await change(ann, email),
        await reset(shared, await mailed(shared, ann), email),
    ]
    for answer in answers:
        problem_of(answer, 422, "invalid_request")
    assert (await login(shared, ann)).status_code == 200


def test_the_list_of_common_passwords() -> None:
    """3,000 that our other rules would let pass."""
    assert len(common()) == 3000
    assert all(len(password) >= 8 and password == password.casefold() for password in common())


async def test_hashes_grow_with_the_cost(service: Service, test_settings: Settings) -> None:
    """The first login after the cost was raised makes a new hash; after it was lowered, none."""
    alice = await service.sign_up("alice")
    costs = []
    for cost in (6, 5):
        raised = test_settings.model_copy(update={"bcrypt_cost": cost})
        async with serve(raised) as other:
            assert (await login(other, alice)).status_code == 200
            assert (await login(other, alice)).status_code == 200
        [row] = await service.sql("select password_hash from users where username = 'alice'")
        assert bcrypt.checkpw(PASSWORD.encode(), row["password_hash"].encode())
        costs.append(int(row["password_hash"][4:6]))
    assert costs == [6, 6]


async def test_too_many_logins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that cannot be served in reasonable time are told so; then all is as before."""
    hasher, took_s = Hasher(cost=8), []
    for _ in range(5):
        await hasher.matches("x", None)
        took_s.append(hasher._took_s)
    monkeypatch.setattr(passwords, "HASH_S", 7 * min(took_s))
    work = [hasher.matches("x", None) for _ in range(500)]
    done = await asyncio.gather(*work, return_exceptions=True)
    kinds = Counter("no" if each is False else type(each).__name__ for each in done)
    assert kinds["no"] < passwords.WAITING_MAX  # some of those who got a place had to give it up
    monkeypatch.setattr(passwords, "HASH_S", 10)
    assert await hasher.matches("x", None) is False
    hasher.close()
    assert set(kinds) == {"no", "Unavailable"}


async def test_a_hash_that_nobody_waits_for_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps its thread until it is done, and no longer. It is given up only in a crowd."""
    hasher = Hasher(cost=10)
    monkeypatch.setattr(passwords, "HASH_S", 0.01)
    monkeypatch.setattr(passwords, "LOOK_S", 0.01)
    work = [hasher.matches("x", None) for _ in range(5 * passwords.THREADS)]
    assert not any(await asyncio.gather(*work))
    monkeypatch.setattr(patience, "unanswered", patience.FEW)
    work = [hasher.matches("x", None) for _ in range(2 * passwords.THREADS)]
    done = await asyncio.gather(*work, return_exceptions=True)
    assert any(isinstance(each, Unavailable) for each in done)
    monkeypatch.setattr(patience, "unanswered", 0)
    with pytest.raises(Unavailable):  # it is still near
        await asyncio.gather(*(hasher.matches("x", None) for _ in range(4)))
    monkeypatch.setattr(passwords, "CALM_S", 0)
    assert await asyncio.gather(*(hasher.matches("x", None) for _ in range(4))) == [False] * 4
    hasher.close()


async def test_a_login_that_finds_no_time_to_grow_its_hash(
    test_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is a login all the same."""

    async def crowded(*_: object) -> str:
        raise Unavailable

    async with serve(test_settings) as service:
        alice = await service.sign_up("alice")
    async with serve(test_settings.model_copy(update={"bcrypt_cost": 5})) as service:
        monkeypatch.setattr(Hasher, "hash", crowded)
        assert (await login(service, alice)).status_code == 200


async def test_reset(shared: Service, ann: Person) -> None:
    """Every session ends, the new password counts, the address is proved, the token is spent."""
    await give_address(shared, ann)
    token, second = await mailed(shared, ann), await mailed(shared, ann, age="1 minute")
    answer = await reset(shared, token)
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(await ann.call("GET", "/me"), 401, "invalid_token")
    problem_of(await login(shared, ann), 401, "invalid_credentials")
    pair = (await login(shared, ann, NEW)).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await shared.client.get("/me", headers=headers)).json()["email_verified"] is True
    for spent in (token, second):
        problem_of(await reset(shared, spent, f"{NEW} again"), 401, "invalid_token")
    assert (await login(shared, ann, NEW)).status_code == 200


async def test_reset_token_ten_times_at_once(shared: Service, ann: Person) -> None:
    """A race for a single-use token."""
    await give_address(shared, ann)
    token = await mailed(shared, ann)
    answers = await asyncio.gather(*(reset(shared, token, f"{NEW} {n}") for n in range(10)))
    assert Counter(answer.status_code for answer in answers) == {204: 1, 401: 9}


async def test_reset_tokens_that_do_not_count(shared: Service, ann: Person, ben: Person) -> None:
    """Expired, made for something else, for an address that is not the user's any more, guessed."""
    await give_address(shared, ann)
    await give_address(shared, ben)
    former = await mailed(shared, ben)
    await shared.sql("update users set email = null where id = $1", UUID(ben.id))
    dead = [
        await mailed(shared, ann, age="31 minutes"),
        await mailed(shared, ann, "verify"),
        former,
        "x" * 43,
    ]
    for token in dead:
        problem_of(await reset(shared, token), 401, "invalid_token")
    for person in (ann, ben):
        assert (await login(shared, person)).status_code == 200


async def test_change_ends_mailed_tokens(shared: Service, ann: Person) -> None:
    """Whoever could read an old mail gains nothing by it."""
    await give_address(shared, ann)
    token = await mailed(shared, ann)
    assert (await change(ann)).status_code == 204
    problem_of(await reset(shared, token), 401, "invalid_token")


@pytest.fixture
def no_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to the outbox stays there."""

    async def nothing(_: Outbox) -> int:
        return 0

    monkeypatch.setattr(Outbox, "dispatch", nothing)


@pytest.mark.usefixtures("no_dispatch")
async def test_reset_request_never_tells_who_is_here(shared: Service, ann: Person) -> None:
    """The same answer and the same work; only one of the rows has somebody to go to."""
    email = await give_address(shared, ann)
    rows = "select user_id from outbox where kind = 'reset_password' order by id desc limit 2"
    answers = []
    for address in (email.upper(), "nobody@example.org"):
        body = {"email": address}
        answers.append(await shared.client.post("/auth/password-reset-request", json=body))
    assert [(answer.status_code, answer.content) for answer in answers] == [(202, b"")] * 2
    assert [row["user_id"] for row in await shared.sql(rows)] == [None, UUID(ann.id)]


@pytest.mark.usefixtures("no_dispatch")
async def test_nobody_is_flooded_with_reset_mails(shared: Service, ann: Person) -> None:
    """Three that still count are enough; more requests are answered alike and send nothing."""
    email = await give_address(shared, ann)
    for age in ("0 minutes", "1 minute", "2 minutes"):
        await mailed(shared, ann, age=age)
    answer = await shared.client.post("/auth/password-reset-request", json={"email": email})
    assert answer.status_code == 202
    assert not await shared.sql("select from outbox where user_id = $1", UUID(ann.id))


@pytest.mark.usefixtures("no_dispatch")
async def test_dead_mails_block_nobody(shared: Service, ann: Person) -> None:
    """After a long outage of the mail server people can ask again."""
    email = await give_address(shared, ann)
    await shared.sql(
        "insert into outbox (kind, user_id, dead_at) select kind, $1, now()"
        " from unnest(array['verify_email', 'reset_password', 'reset_password', 'reset_password'])"
        " as kind",
        UUID(ann.id),
    )
    await shared.client.post("/auth/password-reset-request", json={"email": email})
    await ann.call("POST", "/auth/verify-email-request")
    rows = await shared.sql(
        "select kind from outbox where user_id = $1 and dead_at is null order by id", UUID(ann.id)
    )
    assert [row["kind"] for row in rows] == ["reset_password", "verify_email"]
