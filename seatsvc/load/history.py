"""What was sent and what came back: all that the invariants are checked against."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

from seatsvc.load.client import Answer

FREED_S = 2.0  # in which a cancelled seat comes back
WAITING = {"busy", "idempotency_in_flight", "rate_limited"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request of any kind, and how it was answered."""

    kind: str
    started: float
    ended: float
    status: int
    code: str
    retry_after_s: float | None = None

    @property
    def outcome(self) -> str:
        """Such as `201`, `409 seat_taken` or `connection_lost`."""
        return " ".join(part for part in (str(self.status or ""), self.code) if part)


@dataclass(frozen=True, slots=True)
class Booking:
    """What the service says of one."""

    id: str
    user_id: str
    active: bool
    seats: tuple[int, ...]
    quantity: int
    total: int  # minor units
    day: str  # on which it was made

    @staticmethod
    def of(document: Any) -> "Booking | None":
        """None where the document is no booking."""
        try:
            seats = tuple(sorted(int(seat["id"]) for seat in document["seats"]))
            active = document["status"] == "active"
            ids = str(document["id"]), str(document["user_id"])
            amounts = int(document["quantity"]), int(document["total"])
            return Booking(*ids, active, seats, *amounts, str(document["created_at"])[:10])
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to an order or a cancel."""

    started: float
    ended: float
    status: int
    code: str
    retry_after_s: float | None = None
    booking: Booking | None = None
    blamed: tuple[int, ...] = ()  # the seats that a refusal calls taken
    body: bytes = b""  # of a 201, since all of them are the same

    @staticmethod
    def of(answer: Answer) -> "Reply":
        """What counts of an answer."""
        fixed = answer.started, answer.ended, answer.status, answer.code, answer.retry_after_s
        if answer.status in (200, 201):
            return Reply(*fixed, booking=Booking.of(answer.json()), body=answer.body)
        return Reply(*fixed, blamed=tuple(_taken(answer)) if answer.status == 409 else ())

    @property
    def definite(self) -> bool:
        """Does it say what became of the order, however often it was sent?"""
        return 0 < self.status < 500 and self.code not in WAITING

    @property
    def unknown(self) -> bool:
        """May the order be made nevertheless?"""
        return not 0 < self.status < 500 or self.code == "idempotency_in_flight"


def _taken(answer: Answer) -> Iterator[int]:
    document = answer.json()
    seats = document.get("seats") if isinstance(document, dict) else None
    for seat in seats if isinstance(seats, list) else []:
        if isinstance(seat, dict) and seat.get("reason") == "seat_taken" and "id" in seat:
            yield int(seat["id"])


@dataclass(slots=True)
class Order:
    """What one user wants under one Idempotency-Key, and all that was answered to it."""

    user_id: str
    key: str
    quantity: int
    seat_ids: tuple[int, ...] = ()  # none: the service chooses
    replies: list[Reply] = field(default_factory=list)
    cancels: list[Reply] = field(default_factory=list)
    began: float = inf  # when it was sent first
    cancel_began: float = inf

    @property
    def made(self) -> Reply | None:
        """The 201 that came first."""
        return min(self._made(), key=lambda reply: reply.ended, default=None)

    def _made(self) -> Iterable[Reply]:
        return (reply for reply in self.replies if reply.status == 201)

    @property
    def booking(self) -> Booking | None:
        """As it was answered."""
        made = self.made
        return made.booking if made else None

    @property
    def settled(self) -> bool:
        """Is it known what became of it?"""
        definite = any(reply.definite for reply in self.replies)
        return definite or not any(reply.unknown for reply in self.replies)

    @property
    def cancelled_at(self) -> float:
        """When it was known that its seats are free again."""
        done = (reply.ended for reply in self.cancels if reply.status == 200)
        return min(done, default=inf)

    @property
    def seats(self) -> tuple[int, ...]:
        """Those that it has; those that it may have, where that is not known; else none."""
        if booking := self.booking:
            return booking.seats
        return () if self.settled and not self.made else self.seat_ids


@dataclass(frozen=True, slots=True)
class Read:
    """What a read showed as free, as bits of the hall."""

    started: float
    ended: float
    free: int


@dataclass(slots=True)
class History:
    """Everything in the order in which it ended."""

    calls: list[Call] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    def add(self, kind: str, answer: Answer) -> None:
        """Count it."""
        fixed = answer.started, answer.ended, answer.status, answer.code, answer.retry_after_s
        self.calls.append(Call(kind, *fixed))


@dataclass(frozen=True, slots=True)
class Ending:
    """What the service says when all is over. None: not for us to see."""

    own: dict[str, list[Booking]]  # each user's own list
    listed: list[Booking] | None  # the event's, as its organizer sees it
    report: dict[str, Any] | None
    counts: dict[str, int]  # of the availability
    free: int  # seats shown free then, as bits of the hall


@dataclass(frozen=True, slots=True)
class Terms:
    """What held for the event, and what was there before we came."""

    capacity: int
    per_user: int | None = None  # seats
    per_day: int | None = None  # bookings
    ours: bool = True  # nobody else books there
    earlier: frozenset[str] = frozenset()  # bookings of our users
    must_sell_out: bool = False
    taken_before: int = 0  # seats, as bits of the hall
