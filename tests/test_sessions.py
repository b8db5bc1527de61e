"""Sessions: renewed, ended, and refused everywhere at once."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import httpx

from seatsvc.settings import Settings
from tests.conftest import PASSWORD, Person, Service, problem_of, serve

Pair = dict[str, Any]


async def login(service: Service, person: Person) -> Pair:
    """A new session of the person's."""
    body = {"username": person.username, "password": PASSWORD}
    answer = await service.client.post("/auth/login", json=body)
    assert answer.status_code == 200, answer.text
    pair: Pair = answer.json()
    return pair


async def refresh(service: Service, pair: Pair) -> httpx.Response:
    """Spend the pair's refresh token."""
    body = {"refresh_token": pair["refresh_token"]}
    return await service.client.post("/auth/refresh", json=body)


async def me(service: Service, pair: Pair) -> httpx.Response:
    """What the pair's access token opens."""
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    return await service.client.get("/me", headers=headers)


async def logout(service: Service, pair: Pair) -> None:
    """End the pair's session."""
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    answer = await service.client.post("/auth/logout", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")


async def refused(service: Service, pair: Pair) -> None:
    """Neither token of the pair is worth anything."""
    problem_of(await me(service, pair), 401, "invalid_token")
    problem_of(await refresh(service, pair), 401, "invalid_token")


async def test_refresh_gives_a_new_pair(shared: Service, ann: Person) -> None:
    """Both tokens are new, and both are good; the session stays the same."""
    first = await login(shared, ann)
    answer = await refresh(shared, first)
    assert answer.status_code == 200
    second = answer.json()
    assert set(second) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert not {first["access_token"], first["refresh_token"]} & set(map(str, second.values()))
    assert (await me(shared, second)).json()["id"] == ann.id
    assert (await me(shared, first)).status_code == 200
    assert (await refresh(shared, second)).status_code == 200


async def test_spent_token_ends_the_session(shared: Service, ann: Person) -> None:
    """Whoever shows a spent token has stolen it, or was stolen from: nobody may go on with it."""
    first = await login(shared, ann)
    second = (await refresh(shared, first)).json()
    other = await login(shared, ann)
    problem_of(await refresh(shared, first), 401, "invalid_token")
    await refused(shared, second)
    await refused(shared, first)
    assert (await me(shared, other)).status_code == 200


async def test_one_refresh_token_ten_times_at_once(shared: Service, ann: Person) -> None:
    """A race for a refresh token: it is spent once, and the others are a theft."""
    first = await login(shared, ann)
    answers = await asyncio.gather(*(refresh(shared, first) for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 9}
    [won] = [answer.json() for answer in answers if answer.status_code == 200]
    await refused(shared, won)
    rows = await shared.sql(
        "select from refresh_tokens where session_id ="
        " (select session_id from refresh_tokens where token_hash = sha256($1))",
        first["refresh_token"].encode(),
    )
    assert len(rows) == 2


async def test_expired_refresh_token(shared: Service, ann: Person) -> None:
    """A session ends when its time is over, though its tokens were never used."""
    pair = await login(shared, ann)
    await shared.sql(
        "update sessions set expires_at = now() - interval '1 second' where user_id = $1",
        UUID(ann.id),
    )
    await refused(shared, pair)


async def test_refresh_does_not_prolong_the_session(shared: Service, ann: Person) -> None:
    """However often it is renewed, a session ends at the time set when it began."""
    pair = await login(shared, ann)
    await refresh(shared, pair)
    rows = await shared.sql(
        "select t.expires_at = s.expires_at as same from refresh_tokens t"
        " join sessions s on s.id = t.session_id where s.user_id = $1",
        UUID(ann.id),
    )
    assert all(row["same"] for row in rows)


async def test_made_up_refresh_tokens(shared: Service, ann: Person) -> None:
    """An access token is no refresh token, nor is a guess, nor the hash that the database has."""
    pair = await login(shared, ann)
    rows = await shared.sql("select encode(token_hash, 'hex') as hash from refresh_tokens limit 1")
    for guess in (pair["access_token"], "x" * 43, rows[0]["hash"]):
        body = {"refresh_token": guess[:256]}
        answer = await shared.client.post("/auth/refresh", json=body)
        problem_of(answer, 401, "invalid_token")
    assert (await me(shared, pair)).status_code == 200


async def test_logout_ends_this_session_only(shared: Service, ann: Person) -> None:
    """Both tokens of this session are dead at once; the user's other sessions live."""
    here, elsewhere = await login(shared, ann), await login(shared, ann)
    renewed = (await refresh(shared, here)).json()
    await logout(shared, here)
    await refused(shared, here)
    await refused(shared, renewed)
    assert (await me(shared, elsewhere)).status_code == 200
    assert (await refresh(shared, elsewhere)).status_code == 200


async def test_logout_counts_on_every_worker(service: Service, test_settings: Settings) -> None:
    """Another worker that knows the token already refuses it in the very next request."""
    alice = await service.sign_up("alice")
    pair = await login(service, alice)
    async with serve(test_settings) as other:
        assert (await me(other, pair)).status_code == 200
        await logout(service, pair)
        await refused(other, pair)


async def test_logged_out_client_books_nothing(shared: Service, ann: Person) -> None:
    """Not even with a key that it used before."""
    venue = await shared.add_event()
    assert (await ann.book(venue.seats[0], key="k")).status_code == 201
    await ann.call("POST", "/auth/logout")
    for seat, key in ((venue.seats[0], "k"), (venue.seats[1], "other")):
        problem_of(await ann.book(seat, key=key), 401, "invalid_token")
    assert await shared.booked(venue) == venue.seats[:1]


async def test_expired_sessions_are_forgotten(shared: Service, ann: Person) -> None:
    """With their refresh tokens; those that run are kept."""
    gone, kept = await login(shared, ann), await login(shared, ann)
    await shared.sql(
        "update sessions set expires_at = now() - interval '1 second' where id ="
        " (select session_id from refresh_tokens where token_hash = sha256($1))",
        gone["refresh_token"].encode(),
    )
    await shared.state["sessions"].forget()
    left = "select count(*) from refresh_tokens where token_hash = sha256($1)"
    assert (await shared.sql(left, gone["refresh_token"].encode()))[0]["count"] == 0
    assert (await shared.sql(left, kept["refresh_token"].encode()))[0]["count"] == 1
