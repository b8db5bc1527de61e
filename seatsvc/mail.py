"""Mails: from what the database says to a message, in the reader's language."""

import re
from collections import Counter
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any
from uuid import UUID

import asyncpg
from babel import Locale
from babel.dates import format_date, format_time
from email_validator import validate_email

from seatsvc.orders import sold_seats
from seatsvc.texts import known, texts

# ISO 4217's minor units where they are not two. Babel has CLDR's, which follow what is usual in
# shops: there a dinar of Serbia has none, and the price would be off by a hundred.
MINOR_DIGITS = {
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
}
# Control characters, line separators, what turns the reading direction, the byte order mark.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
PATHS = {"verify_email": "verify", "reset_password": "reset"}  # within the page


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail is made of, as it was when it was read.

    `name` is None where the address may be a stranger's: whoever registers it must not be able to
    write to them.
    """

    id: int
    kind: str
    user_id: UUID
    created_at: datetime
    sent_at: datetime
    address: str
    locale: str
    name: str | None = None
    booking_id: UUID | None = None
    seats: str | None = None  # JSON
    total: int | None = None  # minor units
    currency: str | None = None
    event: str | None = None
    venue: str | None = None
    starts_at: datetime | None = None
    token: str | None = None

    @staticmethod
    def from_row(row: asyncpg.Record, token: str | None) -> "Letter":
        """The columns of the same names."""
        return Letter(**row, token=token)


def write(letter: Letter, sender: str, public_url: str) -> EmailMessage:
    """The mail. One written twice has the same Message-ID, by which readers may know it again.

    The sender is a deliverable address. Raises ValueError for an impossible address.
    """
    language = known(letter.locale)
    words = texts(language, "mail")
    values = _values(letter, words["words"], Locale.parse(language), public_url)
    message = EmailMessage(SMTP)
    message["From"] = sender
    message["To"] = deliverable(letter.address)
    message["Subject"] = words[letter.kind]["subject"].format_map(values)
    message["Date"] = letter.sent_at
    message["Message-ID"] = _message_id(letter, sender)
    message["Auto-Submitted"] = "auto-generated"
    body = words[letter.kind]["text"].format_map(values).strip()
    parts = [_greeting(letter, words), body, words["closing"].format(url=public_url)]
    message.set_content("\n\n".join(parts) + "\n", cte="quoted-printable")
    message["Content-Language"] = language
    return message


def deliverable(address: str) -> str:
    """The address as mail servers take it: its domain in ASCII, if its name is.

    Raises ValueError.
    """
    valid = validate_email(address, check_deliverability=False)
    return valid.ascii_email or valid.normalized


def price(amount: int, currency: str, locale: Locale) -> str:
    """An amount in minor units, as people write it."""
    digits = MINOR_DIGITS.get(currency, 2)
    pattern = copy(locale.currency_formats["standard"])
    pattern.frac_prec = (digits, digits)
    value = Decimal(amount).scaleb(-digits)
    return str(pattern.apply(value, locale, currency=currency, currency_digits=False))


def _values(
    letter: Letter, words: dict[str, str], locale: Locale, public_url: str
) -> dict[str, str]:
    return {
        "title": _line(letter.event or ""),
        "event": _event(letter, words, locale),
        "places": _places(letter, words, locale),
        "booking_id": str(letter.booking_id),
        # Behind a "#", where no server and no proxy gets to see it.
        "link": f"{public_url}/#/{PATHS.get(letter.kind)}?token={letter.token}",
        "token": str(letter.token),
    }


def _greeting(letter: Letter, words: dict[str, Any]) -> str:
    if letter.name is None:
        return str(words["greeting_unnamed"])
    return str(words["greeting"].format(name=_line(letter.name)))


def _event(letter: Letter, words: dict[str, str], locale: Locale) -> str:
    lines = [letter.event, letter.venue]
    if letter.starts_at:
        date = format_date(letter.starts_at.astimezone(UTC), "full", locale=locale)
        time = format_time(letter.starts_at, "short", tzinfo=UTC, locale=locale)
        lines.append(words["when"].format(date=date, time=time))
    return "\n".join(_line(line) for line in lines if line)


def _places(letter: Letter, words: dict[str, str], locale: Locale) -> str:
    """A line for each seat; for places without numbers, how many there are."""
    seats = sold_seats(letter.seats) if letter.seats else []
    counted = Counter((seat.section, seat.row, seat.number, seat.price) for seat in seats)
    lines = []
    for (section, row, number, amount), count in counted.items():
        values = {"section": _line(section), "row": _line(row), "number": _line(number)}
        place = words["places" if row is None else "seat"].format(count=count, **values)
        form = "priced_each" if count > 1 and amount else "priced"
        paid = _paid(amount, letter.currency, words, locale)
        lines.append(words[form].format(place=place, price=paid) if paid else place)
    if paid := _paid(letter.total or 0, letter.currency, words, locale):
        lines.append(words["total"].format(price=paid))
    return "\n".join(lines)


def _paid(amount: int, currency: str | None, words: dict[str, str], locale: Locale) -> str | None:
    """None where nothing has a price."""
    if currency is None:
        return None
    return price(amount, currency, locale) if amount else words["free"]


def _line(text: str | None) -> str:
    """Without anything that could start a line of its own."""
    return UNSEEN.sub(" ", text or "")


def _message_id(letter: Letter, sender: str) -> str:
    """Always the same for a row of the outbox, and another for any other, in whichever database."""
    domain = sender.rpartition("@")[2]
    return f"<{letter.id}.{letter.created_at:%Y%m%d%H%M%S%f}@{domain}>"
