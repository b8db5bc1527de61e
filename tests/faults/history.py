"""What is known after a run: every call as its client saw it, and the database as it was left."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

FOREVER = math.inf
REPEAT = ("busy", "idempotency_in_flight")


@dataclass(frozen=True, slots=True)
class Call:
    """One request and its answer. Times are in seconds of the machine's clock.

    `kind` is read, book, hold, cancel, release, or peek: a look at what is another's.
    """

    kind: str
    user: str
    started_at: float
    ended_at: float
    status: int  # 0: no answer
    code: str = ""  # of a refusal
    key: str = ""  # its Idempotency-Key
    seats: tuple[int, ...] = ()  # that it asks for
    target: str = ""  # the booking or hold that it names
    made: str = ""  # the booking or hold in its answer
    got: tuple[int, ...] = ()  # the seats in its answer
    owner: str = ""  # the user in its answer
    until: float = FOREVER  # when the hold in its answer expires
    free: frozenset[int] = frozenset()  # the seats that a read shows free
    body: bytes = b""  # of a 201
    retry_after: bool = False

    @property
    def open(self) -> bool:
        """Whether it did anything is unknown."""
        return self.status == 0 or self.status >= 500

    @property
    def refused(self) -> bool:
        """For good, as long as nothing changes."""
        return 400 <= self.status < 500 and self.code not in REPEAT

    @property
    def order(self) -> tuple[str, str]:
        """Calls with the same one are tries of the same thing."""
        return self.user, self.key


@dataclass(frozen=True, slots=True)
class Row:
    """A booking or a hold in the database."""

    id: str
    kind: str  # book or hold
    user: str
    key: str  # of its idempotency key; empty: it has none
    seats: tuple[int, ...]
    active: tuple[int, ...] = ()  # a booking's seats that no other booking can have
    cancelled: bool = False
    until: float = FOREVER  # a hold's expiry


@dataclass(frozen=True, slots=True)
class Dump:
    """What a run left, five idle seconds later."""

    rows: tuple[Row, ...] = ()
    locks: tuple[str, ...] = ()  # keys in Redis
    transactions: int = 0  # open ones
    borrowed: int = 0  # connections that did not return to their pool


@dataclass(frozen=True, slots=True)
class Rules:
    """What the event allows, and what befell it."""

    hall: frozenset[int]
    user_seats_max: int = 1_000_000
    user_bookings_max: int = 1_000_000  # in a day
    types: tuple[tuple[frozenset[int], int], ...] = ()  # of these places so many may be sold
    lock_ttl_s: float = 5.0
    locks_may_stay: bool = True  # until they expire, as after a fault of Redis or a killed worker
    heals: tuple[float, ...] = ()  # when faults ended


@dataclass(frozen=True, slots=True)
class Sale:
    """A booking or a hold, from when to when."""

    id: str
    kind: str
    user: str
    key: str
    seats: tuple[int, ...]
    start: float
    end: float


@dataclass
class Spans:
    """Stretches of time; the question is how far those that began earlier reach."""

    spans: Iterable[tuple[float, float]]
    starts: list[float] = field(init=False)
    reaches: list[float] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.spans)
        self.starts = [start for start, _ in ordered]
        self.reaches = list(accumulate((end for _, end in ordered), max))


@dataclass
class World:
    """The history, sorted by what the invariants ask for."""

    history: list[Call]
    dump: Dump
    rules: Rules
    tries: dict[tuple[str, str], list[Call]] = field(default_factory=dict)
    ends: dict[str, list[Call]] = field(default_factory=dict)
    made: dict[str, list[Call]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.history = sorted(self.history, key=lambda call: call.started_at)
        for call in self.history:
            if call.kind in ("book", "hold"):
                self.tries.setdefault(call.order, []).append(call)
            if call.kind in ("book", "cancel", "release") and call.target:
                self.ends.setdefault(call.target, []).append(call)
            if call.status == 201:
                self.made.setdefault(call.made, []).append(call)
        self.rows = {row.id: row for row in self.dump.rows}
        self.certain = [self._certain(tries) for tries in self.made.values()]
        self.possible = [self._possible(row) for row in self.dump.rows]
        self.possible += [sale for sale in self.certain if sale.id not in self.rows]

    @property
    def reads(self) -> list[Call]:
        """Those that were answered."""
        return [call for call in self.history if call.kind == "read" and call.status == 200]

    def _certain(self, tries: list[Call]) -> Sale:
        """It surely runs from its first answer to the first try to end it."""
        call = min(tries, key=lambda each: each.ended_at)
        ends = [each.started_at for each in self.ends.get(call.made, [])]
        end = min([*ends, call.until])
        return Sale(call.made, call.kind, call.user, call.key, call.got, call.ended_at, end)

    def _possible(self, row: Row) -> Sale:
        """It runs at most from its first try to the answer that it has ended."""
        order = row.user, row.key
        starts = [call.started_at for call in self.tries.get(order, [])]
        ends = [call for call in self.ends.get(row.id, []) if call.status in (200, 201, 204)]
        end = min([*(call.ended_at for call in ends), row.until])
        if row.cancelled and not ends:
            tries = [call.ended_at for call in self.ends.get(row.id, [])]
            end = max(tries, default=FOREVER)
        return Sale(row.id, row.kind, *order, row.seats, min(starts, default=-FOREVER), end)


def by_seat(sales: Iterable[Sale]) -> dict[int, list[Sale]]:
    """The sales of each seat."""
    seats: dict[int, list[Sale]] = {}
    for sale in sales:
        for seat in sale.seats:
            seats.setdefault(seat, []).append(sale)
    return seats
