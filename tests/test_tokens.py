"""Access tokens: which ones open a door, and for how long."""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from seatsvc import local
from seatsvc.settings import Settings
from tests.conftest import SECRET, Person, Service, make_settings, problem_of, serve, until

CLAIMS = ["iss", "aud", "sub", "sid", "role", "iat", "exp", "jti"]
NEW_SECRET = "another-test-key-of-more-than-thirty-two-bytes"


@dataclass(frozen=True)
class Token:
    """A token's parts, to make others from."""

    claims: dict[str, Any]
    header: dict[str, Any]

    @staticmethod
    def of(person: Person) -> "Token":
        """The parts of the person's own token."""
        token = raw(person)
        claims = jwt.decode(token, options={"verify_signature": False})
        return Token(claims, jwt.get_unverified_header(token))

    def signed(
        self, *, without: str = "", secret: str = SECRET, alg: str = "HS256", **claims: Any
    ) -> str:
        """A token of these claims but for some changes."""
        kept = {name: value for name, value in (self.claims | claims).items() if name != without}
        return jwt.encode(kept, secret, alg, {"kid": self.header["kid"]})

    def with_header(self, **header: Any) -> str:
        """A token with another header, signed all the same."""
        algorithm = jwt.get_algorithm_by_name("HS256")
        message = f"{part(self.header | header)}.{part(self.claims)}"
        signature = algorithm.sign(message.encode(), SECRET.encode())
        return f"{message}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def part(value: Any) -> str:
    """As it stands in a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def raw(person: Person) -> str:
    """The person's token."""
    return person.headers["Authorization"].removeprefix("Bearer ")


async def me(service: Service, token: str) -> httpx.Response:
    """Who am I, with this token?"""
    return await service.client.get("/me", headers={"Authorization": f"Bearer {token}"})


def refused(answer: httpx.Response) -> None:
    """A 401 that says so in every way."""
    problem_of(answer, 401, "invalid_token")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_claims_and_header(ann: Person) -> None:
    """Exactly the documented ones; 15 minutes."""
    token = Token.of(ann)
    assert set(token.claims) == set(CLAIMS)
    assert token.claims["sub"] == ann.id
    assert token.claims["role"] == "attendee"
    assert token.claims["exp"] - token.claims["iat"] == 900
    assert token.header["alg"] == "HS256"
    assert token.header["kid"]


async def test_tokens_of_this_file_are_good(shared: Service, ann: Person) -> None:
    """What the refused ones below are made from is itself accepted."""
    token = Token.of(ann)
    for good in (raw(ann), token.signed(), token.with_header()):
        answer = await me(shared, good)
        assert answer.status_code == 200
        assert answer.json()["id"] == ann.id


async def test_no_token(shared: Service) -> None:
    """401 with its own code."""
    answer = await shared.client.get("/me")
    problem_of(answer, 401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Basic ", "Token ", "", "Bearer", "Bearer Bearer "])
async def test_wrong_scheme(shared: Service, ann: Person, scheme: str) -> None:
    """Only `Bearer` counts."""
    headers = {"Authorization": scheme + raw(ann)}
    refused(await shared.client.get("/me", headers=headers))


async def test_scheme_in_any_case(shared: Service, ann: Person) -> None:
    """HTTP's schemes know no case."""
    headers = {"Authorization": f"bEARER {raw(ann)}"}
    assert (await shared.client.get("/me", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        b"", b"Bearer", b"Bearer x", b"Bearer a.b.c", b"Bearer ..", b"Bearer a.b.c.d",
        b"Bearer \xff\xfe.\xff.\xff", b"Bearer \xc3\xa4", b"Bearer e30.e30.", b"Bearer bnVsbA.e30.",
        b"Bearer " + base64.urlsafe_b64encode(b"[" * 6000) + b".e30.e30",
        b"Bearer " + base64.urlsafe_b64encode(b"9" * 6000) + b".e30.e30",
        b"Bearer " + base64.urlsafe_b64encode(b'"\\ud800"') + b".e30.e30",
    ],
)  # fmt: skip
async def test_malformed_token(shared: Service, authorization: bytes) -> None:
    """Whatever is sent, it is a 401."""
    refused(await shared.client.get("/me", headers={b"Authorization": authorization}))


Forge = Callable[[Token], str]
FORGED: dict[str, Forge] = {
    "expired": lambda token: token.signed(exp=int(time.time()) - 1),
    "issued later": lambda token: token.signed(iat=int(time.time()) + 600),
    "other key": lambda token: token.signed(secret=NEW_SECRET),
    "no signature": lambda token: token.signed().rpartition(".")[0] + ".",
    "other claims": lambda token: ".".join([part(token.header), part(token.claims), "AAAA"]),
    "HS384": lambda token: token.signed(alg="HS384", secret=SECRET * 2),
    "HS512": lambda token: token.signed(alg="HS512", secret=SECRET * 2),
    "none": lambda token: f"{part(token.header | {'alg': 'none'})}.{part(token.claims)}.",
    "None": lambda token: f"{part(token.header | {'alg': 'None'})}.{part(token.claims)}.",
    "header says none": lambda token: token.with_header(alg="none"),
    "header says HS512": lambda token: token.with_header(alg="HS512"),
    "header says RS256": lambda token: token.with_header(alg="RS256"),
    "alg is a list": lambda token: token.with_header(alg=["HS256"]),
    "unknown kid": lambda token: token.with_header(kid="unknown"),
    "kid is null": lambda token: token.with_header(kid=None),
    "kid is a list": lambda token: token.with_header(kid=[]),
    "kid is an object": lambda token: token.with_header(kid={}),
    "unknown crit": lambda token: token.with_header(crit=["x"], x=1),
    "wrong iss": lambda token: token.signed(iss="other"),
    "wrong aud": lambda token: token.signed(aud="other"),
    "empty aud": lambda token: token.signed(aud=[]),
    "unknown session": lambda token: token.signed(sid=str(uuid4())),
    "sid is no UUID": lambda token: token.signed(sid="x"),
    "sid is a number": lambda token: token.signed(sid=1),
    "sid is null": lambda token: token.signed(sid=None),
    "exp is a string": lambda token: token.signed(exp="later"),
    "exp is infinite": lambda token: token.signed(exp=float("inf")),
    "sub is a number": lambda token: token.signed(sub=1),
    "sub of another": lambda token: token.signed(sub=str(uuid4())),
}


@pytest.mark.parametrize("how", FORGED)
async def test_forged_token(shared: Service, ann: Person, how: str) -> None:
    """One wrong thing is enough."""
    refused(await me(shared, FORGED[how](Token.of(ann))))


@pytest.mark.parametrize("claim", CLAIMS)
async def test_missing_claim(shared: Service, ann: Person, claim: str) -> None:
    """Every claim is required."""
    refused(await me(shared, Token.of(ann).signed(without=claim)))


async def test_missing_kid(shared: Service, ann: Person) -> None:
    """A token must say which key signed it."""
    refused(await me(shared, jwt.encode(Token.of(ann).claims, SECRET, "HS256")))


async def test_role_comes_from_the_database(shared: Service, ann: Person) -> None:
    """A token that claims a role does not give it."""
    answer = await me(shared, Token.of(ann).signed(role="admin"))
    assert answer.json()["role"] == "attendee"


async def test_token_expires_though_it_was_verified(shared: Service, ann: Person) -> None:
    """A token that the process remembers stops working when its time has come."""
    token = Token.of(ann).signed(exp=int(time.time()) + 2)
    assert (await me(shared, token)).status_code == 200

    async def is_refused() -> bool:
        return (await me(shared, token)).status_code != 200

    await until(is_refused)
    refused(await me(shared, token))


@pytest.mark.parametrize(
    "statement",
    [
        "update sessions set ended_at = now() where user_id::text = $1",
        "update sessions set expires_at = now() where user_id::text = $1",
        "update users set active = false where id::text = $1",
    ],
)
async def test_ended_session(shared: Service, ann: Person, ben: Person, statement: str) -> None:
    """Its tokens stop working at once; those of others go on."""
    assert (await me(shared, raw(ann))).status_code == 200
    await shared.sql(statement, ann.id)
    refused(await me(shared, raw(ann)))
    assert (await me(shared, raw(ben))).status_code == 200


async def test_ended_session_books_nothing(shared: Service, ann: Person) -> None:
    """Neither reads nor writes are possible."""
    venue = await shared.add_event()
    await shared.sql("update sessions set ended_at = now() where user_id::text = $1", ann.id)
    refused(await ann.book(*venue.seats))
    refused(await ann.call("GET", "/bookings"))
    assert await shared.booked(venue) == []


@asynccontextmanager
async def signing_with(
    servers: local.Servers, secret: str, *previous: str
) -> AsyncIterator[Service]:
    """The service on the same database, with other keys."""
    keys = {"jwt_secret": secret, "jwt_previous_secrets": previous}
    async with serve(make_settings(servers, "test", **keys)) as running:
        yield running


async def test_keys_rotate(servers: local.Servers, test_settings: Settings) -> None:
    """The old key's tokens live as long as it is named; new ones are signed with the new key."""
    async with serve(test_settings) as before:
        old = raw(await before.newcomer())
    async with signing_with(servers, NEW_SECRET, SECRET) as during:
        new = raw(await during.newcomer())
        assert (await me(during, old)).status_code == 200
        assert (await me(during, new)).status_code == 200
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    async with signing_with(servers, NEW_SECRET) as after:
        refused(await me(after, old))
        assert (await me(after, new)).status_code == 200
    async with signing_with(servers, SECRET) as back:
        assert (await me(back, old)).status_code == 200
        refused(await me(back, new))
