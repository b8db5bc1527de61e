"""One's own account: the profile, the address, and the end of it."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from seatsvc.errors import InvalidToken
from seatsvc.orders import Choice
from seatsvc.rates import MAIL
from seatsvc.settings import Settings
from tests.conftest import PASSWORD, Person, Service, buyer, problem_of, serve
from tests.test_passwords import give_address, login, mailed


async def patch(person: Person, **body: object) -> httpx.Response:
    """Change the profile."""
    return await person.call("PATCH", "/me", json=body)


async def verify(service: Service, token: str) -> httpx.Response:
    """Verify an address."""
    return await service.client.post("/auth/verify-email", json={"token": token})


async def delete(person: Person, password: str = PASSWORD) -> httpx.Response:
    """Close the account."""
    return await person.call("DELETE", "/me", json={"password": password})


async def test_change_profile(shared: Service, ann: Person) -> None:
    """What is named is changed, the rest stays; null takes it away."""
    before = (await ann.call("GET", "/me")).json()
    answer = await patch(ann, name="Ännchen", locale="de")
    assert answer.status_code == 200
    assert answer.json() == before | {"name": "Ännchen", "locale": "de"}
    assert (await patch(ann, name=None)).json() == before | {"locale": "de"}
    assert (await ann.call("GET", "/me")).json() == before | {"locale": "de"}


@pytest.mark.parametrize(
    "body",
    [
        {}, {"role": "admin"}, {"username": "other"}, {"locale": "xx"}, {"locale": None},
        {"email": "no address"}, {"name": ""}, {"name": 7}, {"email_verified": True},
        {"name": "line\nbreak"}, {"password": "a new password"},
    ],
    ids=str,
)  # fmt: skip
async def test_refused_changes(shared: Service, ann: Person, body: dict[str, object]) -> None:
    """Nobody makes themselves an admin, or their address verified."""
    before = (await ann.call("GET", "/me")).json()
    problem_of(await ann.call("PATCH", "/me", json=body), 422, "invalid_request")
    assert (await ann.call("GET", "/me")).json() == before


async def test_new_address_is_not_verified(shared: Service, ann: Person) -> None:
    """Mails sent to the former one count no more; the same address again changes nothing."""
    await give_address(shared, ann)
    token = await mailed(shared, ann, "verify")
    assert (await verify(shared, token)).status_code == 204
    new = f"New-{uuid4().hex}@example.org"
    later = await mailed(shared, ann, "verify", age="1 minute")
    user = (await patch(ann, email=new)).json()
    assert (user["email"], user["email_verified"]) == (new.lower(), False)
    problem_of(await verify(shared, later), 401, "invalid_token")
    await shared.sql("update users set email_verified = true where id = $1", UUID(ann.id))
    assert (await patch(ann, email=new.upper())).json()["email_verified"] is True
    assert (await patch(ann, email=None)).json()["email_verified"] is False


async def test_address_of_somebody_else(shared: Service, ann: Person, ben: Person) -> None:
    """One address, one account."""
    email = await give_address(shared, ben)
    problem_of(await patch(ann, email=email.upper()), 409, "email_taken")
    assert (await ann.call("GET", "/me")).json()["email"] is None


async def test_verification(shared: Service, ann: Person) -> None:
    """Once, and within its time."""
    await give_address(shared, ann)
    old = await mailed(shared, ann, "verify", age="31 minutes")
    wrong = await mailed(shared, ann, "reset")
    token = await mailed(shared, ann, "verify")
    for dead in (old, wrong, "x" * 43):
        problem_of(await verify(shared, dead), 401, "invalid_token")
    assert (await ann.call("GET", "/me")).json()["email_verified"] is False
    answers = await asyncio.gather(*(verify(shared, token) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [204, 401, 401, 401, 401]
    assert (await ann.call("GET", "/me")).json()["email_verified"] is True


async def test_verification_needs_an_address(shared: Service, ann: Person) -> None:
    """And says so; with one it is accepted, verified or not."""
    problem_of(await ann.call("POST", "/auth/verify-email-request"), 409, "no_email")
    await give_address(shared, ann)
    for _ in range(2):
        answer = await ann.call("POST", "/auth/verify-email-request")
        assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"), ("pt-BR, fr;q=0.5", "fr"), ("ES", "es"),
        ("tlh", "en"), ("", "en"), (",;q=,*", "en"),
    ],
)  # fmt: skip
async def test_language_at_sign_up(shared: Service, header: str, locale: str) -> None:
    """The first that the browser asks for and we speak."""
    body = {"username": f"user-{uuid4().hex}", "password": PASSWORD}
    headers = {"Accept-Language": header}
    answer = await shared.client.post("/auth/register", json=body, headers=headers)
    assert answer.json()["locale"] == locale


async def test_erasure(shared: Service, ann: Person) -> None:
    """Tokens and password are dead at once, and the name is free again."""
    await give_address(shared, ann)
    pair = (await login(shared, ann)).json()
    reset_token = await mailed(shared, ann)
    answer = await delete(ann)
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(await ann.call("GET", "/me"), 401, "invalid_token")
    problem_of(await login(shared, ann), 401, "invalid_credentials")
    body = {"refresh_token": pair["refresh_token"]}
    problem_of(await shared.client.post("/auth/refresh", json=body), 401, "invalid_token")
    body = {"token": reset_token, "new_password": "staple of the wrong horse"}
    answer = await shared.client.post("/auth/password-reset-confirm", json=body)
    problem_of(answer, 401, "invalid_token")
    body = {"username": ann.username, "password": PASSWORD}
    assert (await shared.client.post("/auth/register", json=body)).status_code == 201


async def test_erasure_leaves_no_personal_data(service: Service) -> None:
    """Nothing in any table tells who it was; the bookings remain, for the books."""
    alice = await service.sign_up("alice-the-person")
    await patch(alice, name="Alice the Person", email="alice-the-person@example.org")
    await patch(alice, email="alice-the-person@new.example.org")
    assert (await alice.book(1)).status_code == 201
    assert (await delete(alice)).status_code == 204
    tables = await service.sql("select tablename from pg_tables where schemaname = 'public'")
    everything = [await service.sql(f"table {table['tablename']}") for table in tables]
    assert "main hall" in str(everything).lower()
    assert "the" not in re.findall(r"alice\W(\w*)", str(everything).lower())
    assert len(await service.sql("select from bookings where user_id = $1", UUID(alice.id))) == 1


async def test_erasure_needs_the_password(shared: Service, ann: Person) -> None:
    """A stolen token is not enough."""
    problem_of(await delete(ann, "not my password"), 401, "invalid_credentials")
    assert (await ann.call("GET", "/me")).status_code == 200


async def test_erasure_cancels_what_is_to_come(shared: Service, ann: Person) -> None:
    """Its seats are free for others at once; what is over stays as it was. Holds end."""
    past = datetime.now(UTC) - timedelta(days=2)
    over = await shared.add_event(starts_at=past, ends_at=past + timedelta(hours=2))
    dated = await shared.add_event(starts_at=datetime.now(UTC) + timedelta(days=2))
    undated = await shared.add_event()
    for venue in (over, dated, undated):
        assert (await ann.book(venue.seats[0])).status_code == 201
        body = {"seat_ids": venue.seats[1:2]}
        assert (await ann.call("POST", "/holds", json=body)).status_code == 201
    assert (await delete(ann)).status_code == 204
    assert await shared.booked(over) == over.seats[:1]
    assert await shared.booked(dated) == await shared.booked(undated) == []
    for venue in (dated, undated):
        assert await shared.free(event_id=venue.event_id) == set(venue.seats)
    assert await shared.free(event_id=over.event_id) == set(over.seats[1:])


async def test_erasure_while_booking(shared: Service, ann: Person) -> None:
    """A race: whatever the order, a closed account keeps no booking and no hold."""
    venue = await shared.add_event(seats=30)

    async def hold(seat: int) -> httpx.Response:
        return await ann.call("POST", "/holds", json={"seat_id": seat})

    books = [ann.book(seat) for seat in venue.seats[:15]]
    holds = [hold(seat) for seat in venue.seats[15:]]
    answers = await asyncio.gather(*books[:7], *holds[:7], delete(ann), *books[7:], *holds[7:])
    codes = {answer.status_code for answer in answers}
    assert codes <= {201, 204, 401}, codes
    assert await shared.booked(venue) == []
    assert not await shared.sql(
        "select from holds where user_id = $1 and ended_at is null", UUID(ann.id)
    )
    assert await shared.free(event_id=venue.event_id) == set(venue.seats)


async def test_erased_account_books_nothing(shared: Service, ann: Person) -> None:
    """Not even for a request that got past its token just before: the database looks again."""
    venue = await shared.add_event()
    token, choice = buyer(shared, ann), Choice(seat_ids=(venue.seats[0],))
    await delete(ann)
    for key in (None, "key"):
        with pytest.raises(InvalidToken):
            await shared.state["bookings"].book(token, choice, key, "hash")
        with pytest.raises(InvalidToken):
            await shared.state["holds"].hold(token, choice, key, "hash")
    assert await shared.booked(venue) == []


async def test_last_admin_stays(service: Service) -> None:
    """There is always somebody who can make organizers."""
    root = await service.sign_up("root", "admin")
    problem_of(await delete(root), 409, "last_admin")
    assert (await root.call("GET", "/me")).json()["role"] == "admin"
    await service.sign_up("other", "admin")
    assert (await delete(root)).status_code == 204


async def test_erased_account_stays_erased(service: Service) -> None:
    """Admins do not see it any more, and cannot bring it back."""
    root, alice = await service.sign_up("root", "admin"), await service.sign_up("alice")
    assert (await delete(alice)).status_code == 204
    names = [user["username"] for user in (await root.call("GET", "/users")).json()["items"]]
    assert names == ["root"]
    answer = await root.call("PATCH", f"/users/{alice.id}", json={"active": True})
    problem_of(answer, 404, "not_found")


async def test_strangers_are_not_flooded_with_mails(test_settings: Settings) -> None:
    """Whoever names other people's addresses again and again is stopped; a name costs nothing."""
    async with serve(test_settings.model_copy(update={"rate_limits": "on"})) as house:
        person = await house.newcomer()
        codes = []
        for number in range(4):
            for email in (f"victim-{person.id}@example.org", None):
                answer = await patch(person, email=email, name=str(number))
                codes.append(answer.status_code)
        assert codes == [200] * MAIL.burst + [429] * (8 - MAIL.burst)
        assert (await patch(person, name="Ann")).status_code == 200
