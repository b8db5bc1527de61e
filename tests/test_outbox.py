"""What people are written, and when, by a service that runs."""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from seatsvc.sessions import digest
from seatsvc.settings import Settings
from tests.conftest import PASSWORD, Person, Service, problem_of, serve, until
from tests.mailing import PUBLIC_URL, inbox, text, with_mails
from tests.organizing import create, half_booked, organizer, seats_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the mails go."""
    return tmp_path / "mails"


@pytest.fixture
async def mailed(test_settings: Settings, folder: Path) -> AsyncIterator[Service]:
    """A service that sends mails."""
    async with serve(with_mails(test_settings, f"file://{folder}")) as running:
        yield running


async def reader(service: Service, name: str, locale: str = "en") -> Person:
    """Someone with a verified address."""
    person = await service.sign_up(name)
    await service.sql(
        "update users set email = $2, email_verified = true, locale = $3 where id = $1",
        person.id, f"{name}@example.org", locale,
    )  # fmt: skip
    return person


async def settled(service: Service) -> bool:
    """Nothing waits."""
    return not await service.sql("select from outbox")


async def mails(service: Service, folder: Path) -> list[EmailMessage]:
    """All of them, once none waits any more."""
    await until(lambda: settled(service))
    return inbox(folder)


def subjects(found: list[EmailMessage]) -> list[tuple[str, str]]:
    """To whom, and what about."""
    return [(str(mail["To"]), str(mail["Subject"])) for mail in found]


async def test_booking(mailed: Service, folder: Path) -> None:
    """Its buyer is told, in their own language, at the address that they have."""
    anna = await reader(mailed, "anna", "de")
    booking = (await anna.book(1, 2)).json()
    [mail] = await mails(mailed, folder)
    assert (mail["To"], mail["From"]) == ("anna@example.org", "box@example.org")
    assert mail["Subject"] == "Ihre Buchung: Main hall"
    told = text(mail)
    assert "A, Reihe 1, Platz 1: 45,00\xa0€\nA, Reihe 1, Platz 2: 45,00\xa0€\n" in told
    assert "Summe: 90,00\xa0€" in told
    assert booking["id"] in told
    assert PUBLIC_URL in told


async def test_cancellation(mailed: Service, folder: Path) -> None:
    """Told after the booking."""
    marie = await reader(mailed, "marie", "fr")
    booking = (await marie.book(1)).json()
    await mails(mailed, folder)
    assert (await marie.call("DELETE", f"/bookings/{booking['id']}")).status_code == 200
    assert [subject for _, subject in subjects(await mails(mailed, folder))] == [
        "Votre réservation : Main hall",
        "Réservation annulée : Main hall",
    ]


async def test_confirmation_that_comes_too_late(mailed: Service, folder: Path) -> None:
    """What has been cancelled meanwhile is not confirmed."""
    ann = await reader(mailed, "ann")
    booking = (await ann.book(1)).json()
    await ann.call("DELETE", f"/bookings/{booking['id']}")
    before = await mails(mailed, folder)
    again = "insert into outbox (kind, user_id, booking_id) values ('booking_confirmed', $1, $2)"
    await mailed.sql(again, ann.id, booking["id"])
    assert len(await mails(mailed, folder)) == len(before)


async def test_cancelled_event(mailed: Service, folder: Path) -> None:
    """One mail to each buyer, however many bookings; none to who had cancelled."""
    owner = await organizer(mailed)
    event = await create(owner, name="Late Show")
    seats = await seats_of(mailed, event)
    people = [await reader(mailed, name) for name in ("ann", "ben", "cid")]
    for person, count in zip(people, (2, 1, 1), strict=True):
        for _ in range(count):
            booking = (await person.book(seats.pop())).json()
    await people[2].call("DELETE", f"/bookings/{booking['id']}")
    before = len(await mails(mailed, folder))
    assert (await owner.call("POST", f"/events/{event['id']}/cancel")).status_code == 200
    found = (await mails(mailed, folder))[before:]
    assert sorted(subjects(found)) == [
        ("ann@example.org", "Event cancelled: Late Show"),
        ("ben@example.org", "Event cancelled: Late Show"),
    ]


async def test_without_an_address(mailed: Service, alice_of: Person) -> None:
    """Nothing is written down."""
    before = await last_id(mailed)
    booking = (await alice_of.book(1)).json()
    await alice_of.call("DELETE", f"/bookings/{booking['id']}")
    assert await last_id(mailed) == before


@pytest.fixture
async def alice_of(mailed: Service) -> Person:
    """Someone whom no mail can reach."""
    return await mailed.sign_up("alice")


async def last_id(service: Service) -> int | None:
    """How many rows there ever were."""
    [row] = await service.sql("select last_value, is_called from outbox_id_seq")
    return row["last_value"] if row["is_called"] else None


async def test_refusals_and_replays(mailed: Service, folder: Path) -> None:
    """A refused booking is not told of; a repeated one is not told of again."""
    ann, ben = await reader(mailed, "ann"), await reader(mailed, "ben")
    first = await ann.book(1, key="once")
    problem_of(await ben.book(1), 409, "seat_taken")
    again = await ann.book(1, key="once")
    assert again.content == first.content
    problem_of(await ann.book(2), 409, "daily_limit_reached")
    assert subjects(await mails(mailed, folder)) == [("ann@example.org", "Your booking: Main hall")]


async def test_rollback(mailed: Service, folder: Path) -> None:
    """A booking that does not last to its commit is not told of."""
    ann = await reader(mailed, "ann")
    before = await last_id(mailed)
    with suppress(RuntimeError):
        async with half_booked(mailed, ann, {"id": 1}, 1):
            assert await last_id(mailed) != before
            raise RuntimeError
    assert not await mails(mailed, folder)


async def test_erased_user(mailed: Service, folder: Path) -> None:
    """What waits for them is gone, and so is what is dead."""
    ann = await reader(mailed, "ann")
    await mailed.sql(
        "insert into outbox (kind, user_id, next_try_at, dead_at)"
        " select 'reset_password', $1, now() + interval '1 h', dead_at"
        " from unnest(array[null, now()]) as dead_at",
        ann.id,
    )
    answer = await ann.call("DELETE", "/me", json={"password": PASSWORD})
    assert answer.status_code == 204
    assert await settled(mailed)
    assert not inbox(folder)


@pytest.mark.parametrize(
    ("kind", "purpose", "hours"), [("verify_email", "verify", 24), ("reset_password", "reset", 0.5)]
)
async def test_tokens_are_made_when_they_are_sent(
    mailed: Service, folder: Path, kind: str, purpose: str, hours: float
) -> None:
    """The database knows the hash; the link and the plain token of the mail are the same."""
    ann = await reader(mailed, "ann")
    await mailed.sql("insert into outbox (kind, user_id) values ($1, $2)", kind, ann.id)
    [mail] = await mails(mailed, folder)
    [linked] = re.findall(rf"^{PUBLIC_URL}/#/{purpose}\?token=([\w-]{{43}})$", text(mail), re.M)
    assert f"\n{linked}\n" in text(mail)
    [row] = await mailed.sql("select *, expires_at - now() as lasts from mail_tokens")
    assert row["token_hash"] == digest(linked)
    assert (str(row["user_id"]), row["purpose"]) == (ann.id, purpose)
    assert row["email"] == "ann@example.org"
    assert row["lasts"].total_seconds() == pytest.approx(hours * 3600, abs=30)
    everything = await everything_in(mailed)
    assert "ann@example.org" in everything
    assert linked not in everything
    assert linked.encode().hex() not in everything


async def everything_in(service: Service) -> str:
    """The whole database, as text."""
    tables = await service.sql("select tablename from pg_tables where schemaname = 'public'")
    parts: list[Any] = []
    for table in tables:
        query = "select coalesce(string_agg(t::text, ' '), '') as rows from {} t"
        parts += await service.sql(query.format(table["tablename"]))
    return " ".join(part["rows"] for part in parts)


async def test_changed_address(mailed: Service, folder: Path) -> None:
    """The former address is told, by a mail that names nobody; the new one is asked."""
    ann = await reader(mailed, "ann")
    answer = await ann.call("PATCH", "/me", json={"email": "new@example.org"})
    assert answer.status_code == 200
    found = await mails(mailed, folder)
    assert sorted(subjects(found)) == [
        ("ann@example.org", "Your e-mail address was changed"),
        ("new@example.org", "Please confirm your e-mail address"),
    ]
    assert {text(mail).splitlines()[0] for mail in found} == {"Hello,"}
    assert not [mail for mail in found if "new@" in text(mail)]
