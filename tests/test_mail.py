"""Mails as their readers see them, in each language."""

import json
import re
import string
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from babel import Locale

import seatsvc
from seatsvc.mail import Letter, deliverable, price, write
from seatsvc.texts import LANGUAGES, known, texts
from tests.mailing import PUBLIC_URL, parse, text

KINDS = (
    *("verify_email", "email_changed", "reset_password"),
    *("booking_confirmed", "booking_cancelled", "event_cancelled"),
)
BOOKING = UUID("394e7718-f12c-4a88-b385-068244b83b4a")
NOW = datetime(2027, 4, 1, 10, 0, tzinfo=UTC)
LETTER = Letter(
    id=7, kind="booking_confirmed", user_id=UUID(int=1), created_at=NOW, sent_at=NOW,
    address="ann@example.org", locale="en", name="Ann", booking_id=BOOKING, total=9050,
    currency="EUR", event="Late Show", venue="Main hall",
    starts_at=datetime(2027, 5, 1, 19, 30, tzinfo=UTC), token="sesame",
)  # fmt: skip


def seat(number: int, **more: Any) -> dict[str, Any]:
    """A numbered one."""
    common = {"id": number, "section": "A", "row": "3", "ticket_type_id": 1, "price": 4525}
    return common | {"number": str(number)} | more


def place(number: int, **more: Any) -> dict[str, Any]:
    """One without a number."""
    return seat(number, section="Floor", row=None) | {"number": None} | more


def sent(letter: Letter, *seats: dict[str, Any], **changes: Any) -> EmailMessage:
    """The mail, after its journey."""
    letter = replace(letter, seats=json.dumps(seats or [seat(1), seat(2)]), **changes)
    return parse(write(letter, "box@example.org", PUBLIC_URL).as_bytes())


def text_of(letter: Letter, *seats: dict[str, Any], **changes: Any) -> str:
    """Its text, with plain spaces."""
    return plain(sent(letter, *seats, **changes))


def plain(mail: EmailMessage) -> str:
    """The text, with plain spaces."""
    return re.sub("[\u202f\xa0]", " ", text(mail))


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each text's key, and the names of its placeholders."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key, {name for _, name, _, _ in string.Formatter().parse(value) if name}


def test_languages_are_the_files() -> None:
    """One file, one language."""
    files = (Path(seatsvc.__path__[0]) / "languages").iterdir()
    assert sorted(LANGUAGES) == sorted(file.stem for file in files)
    assert {"en", "de", "es", "fr"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_are_alike(language: str) -> None:
    """No text and no placeholder is missing in one, and Babel knows the language."""
    assert dict(leaves(texts(language, "mail"))) == dict(leaves(texts("en", "mail")))
    assert Locale.parse(language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_each_language(kind: str, language: str) -> None:
    """All that its reader has to know, and nothing left unfilled."""
    mail = sent(LETTER, kind=kind, locale=language)
    body = plain(mail)
    assert mail["Content-Language"] == language
    assert mail["Subject"]
    assert not {"{", "}", "None"} & set(body.split())
    assert "Ann" in body.splitlines()[0]
    assert body.strip().endswith(PUBLIC_URL)
    told = {
        "verify_email": [f"{PUBLIC_URL}/#/verify?token=sesame", "\nsesame\n"],
        "email_changed": [],
        "reset_password": [f"{PUBLIC_URL}/#/reset?token=sesame", "\nsesame\n"],
        "event_cancelled": ["Late Show\nMain hall\n", "2027", "UTC"],
    }
    for part in told.get(kind, ["Late Show\nMain hall\n", "UTC", " 3, ", "90", str(BOOKING)]):
        assert part in body
    if kind not in ("verify_email", "reset_password"):
        assert "sesame" not in body


def test_headers() -> None:
    """Of a machine, dated, and known again."""
    mail = sent(LETTER)
    assert mail["From"] == "box@example.org"
    assert mail["To"] == "ann@example.org"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime == NOW
    assert mail["Message-ID"].endswith("@example.org>")


def test_message_id_is_the_rows() -> None:
    """Sent again, it is the same; of another row, or of a row of another database, it is not."""
    later = replace(LETTER, sent_at=NOW + timedelta(hours=1), token="another")
    others = [replace(LETTER, id=8), replace(LETTER, created_at=NOW + timedelta(seconds=1))]
    first, again, *different = (sent(each)["Message-ID"] for each in (LETTER, later, *others))
    assert first == again
    assert len({first, *different}) == 3


def test_times_are_utc() -> None:
    """Wherever the database thinks that it is."""
    there = LETTER.starts_at and LETTER.starts_at.astimezone(timezone(timedelta(hours=9)))
    assert "Saturday, May 1, 2027, 7:30 PM (UTC)" in text_of(LETTER, starts_at=there)
    assert "Samstag, 1. Mai 2027, 19:30 Uhr (UTC)" in text_of(LETTER, starts_at=there, locale="de")


@pytest.mark.parametrize(
    ("amount", "currency", "language", "expected"),
    [
        (123450, "EUR", "en", "€1,234.50"),
        (123450, "EUR", "de", "1.234,50 €"),
        (1200, "JPY", "en", "¥1,200"),
        (1200, "JPY", "fr", "1 200 JPY"),
        (12345, "KWD", "de", "12,345 KWD"),
        (123450, "RSD", "en", "RSD1,234.50"),
        (1500, "IQD", "en", "IQD1.500"),
        (999, "XXX", "en", "¤9.99"),
    ],
)
def test_money(amount: int, currency: str, language: str, expected: str) -> None:
    """ISO 4217 says how many digits a currency has, whatever shops are used to."""
    written = price(amount, currency, Locale.parse(language))
    assert written.replace("\u202f", " ").replace("\xa0", " ") == expected


def test_seats_and_places() -> None:
    """Seats line by line, places without numbers together, each with what it costs."""
    seats = [seat(1), seat(2, price=0), place(3), place(4), place(5, price=1000)]
    lines = text_of(LETTER, *seats, total=14575).splitlines()
    start = lines.index("A, row 3, seat 1: €45.25")
    assert lines[start : start + 5] == [
        "A, row 3, seat 1: €45.25",
        "A, row 3, seat 2: free",
        "2 \u00d7 Floor: €45.25 each",
        "1 \u00d7 Floor: €10.00",
        "Total: €145.75",
    ]


def test_fifty_seats() -> None:
    """None is left out."""
    text = text_of(LETTER, *(seat(number) for number in range(1, 51)), total=50 * 4525)
    assert sum(line.startswith("A, row 3, seat ") for line in text.splitlines()) == 50
    assert "Total: €2,262.50" in text


def test_free_of_charge() -> None:
    """Free tickets are said to be so; where there are no prices at all, nothing is said."""
    free = text_of(LETTER, place(1, price=0), place(2, price=0), total=0)
    assert "2 \u00d7 Floor: free" in free
    assert "Total: free" in free
    without = text_of(LETTER, seat(1, price=0), total=0, currency=None)
    assert "A, row 3, seat 1\n" in without
    assert "free" not in without.partition("seat 1")[2]
    assert "Total" not in without


def test_event_without_a_date_or_venue() -> None:
    """There is no empty line in their place."""
    text = text_of(LETTER, venue=None, starts_at=None)
    assert "\n\nLate Show\n\nA, row 3" in text


@pytest.mark.parametrize(
    "name", ['"Al" O\'Neil', "Zoë 🎭 👨\u200d👩\u200d👧", "名前 {token} %s <b>"]
)
def test_names_stay_as_they_are(name: str) -> None:
    """In headers and in the text, whatever they are written with."""
    mail = sent(LETTER, name=name, event=name)
    assert mail["Subject"] == f"Your booking: {name}"
    assert plain(mail).startswith(f"Hello {name},\n")
    assert "sesame" not in mail.get_content()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\x85", "\u2028", "\x0b", "\x1e"])
def test_no_name_starts_a_line(ending: str) -> None:
    """Neither a header nor a paragraph of its own, however it came into the database."""
    name = f"Show{ending}Bcc: eve@example.org{ending}{ending}Dear friend"
    mail = sent(LETTER, seat(1, section=name), name=name, event=name, venue=name)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "Your booking: " + name.replace("\r", " ").replace("\n", " ").replace(
        ending, " "
    )
    assert not [line for line in mail.get_content().splitlines() if line.startswith("Dear")]


@pytest.mark.parametrize(
    "address",
    ["ann@example.org\nBcc: eve@example.org", "ann@example.org, eve@example.org", "<ann>", ""],
)
def test_one_address(address: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"."):
        sent(LETTER, address=address)


def test_addresses_of_other_alphabets() -> None:
    """A domain has a name in ASCII; what stands before the @ has none."""
    assert deliverable("ann@bücher.example.org") == "ann@xn--bcher-kva.example.org"
    assert deliverable("jörg@example.org") == "jörg@example.org"


def test_strangers_are_not_written_to_by_name() -> None:
    """An address that was never verified may be anyone's: its mails hold no text of the user's."""
    text = text_of(LETTER, kind="verify_email", name=None)
    assert text.startswith("Hello,\n")


def test_unknown_language() -> None:
    """Falls back to English."""
    assert known("tlh") == known(None) == "en"
    assert sent(LETTER, locale="tlh")["Subject"] == "Your booking: Late Show"
