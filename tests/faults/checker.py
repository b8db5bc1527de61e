"""Replays a recorded history and the final database against the service's invariants.

Nothing is assumed about how the service works. What a client cannot know is never held against
the service: a call without an answer may have done what it asked, or not, at any time from its
start on.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import TypeVar

from tests.faults.history import Call, Dump, Rules, Sale, Spans, World, by_seat

FREED_S = 2.0
LIVE_S = 1.0  # after the lock's TTL
UNTOLD_S = 1.3  # a write of which Redis was not told is answered later than that; its locks stay
DAY_S = 86_400
CANCELLED = ("cancel", 200)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Violation:
    """What should not have happened."""

    invariant: int
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {TITLES[self.invariant]}: {self.what}"


def check(history: Sequence[Call], dump: Dump, rules: Rules) -> list[Violation]:
    """All violations of all invariants."""
    world = World(list(history), dump, rules)
    return [
        Violation(number, what) for number, (_, find) in INVARIANTS.items() for what in find(world)
    ]


def oversold(world: World) -> Iterator[str]:
    """Two sales of a seat that certainly ran at once, or two active rows."""
    for seat, sales in by_seat(world.certain).items():
        spans = sorted((sale.start, sale.end, sale.id) for sale in sales if sale.start < sale.end)
        for (_, end, one), (start, _, other) in pairwise(spans):
            if start < end:
                yield f"seat {seat} is sold to {one} and to {other}"
    active = Counter(seat for row in world.dump.rows for seat in row.active)
    yield from (f"seat {seat} has {n} active bookings" for seat, n in active.items() if n > 1)


def lost(world: World) -> Iterator[str]:
    """Sales that were answered, and are not in the database as they should be."""
    for made, calls in world.made.items():
        row = world.rows.get(made)
        ends = world.ends.get(made, [])
        if row is None:
            yield f"{made} was answered 201 and is not there"
        elif calls[0].kind == "book" and row.cancelled and not ends:
            yield f"{made} is cancelled, and nobody asked for that"
        elif not row.cancelled and any((call.kind, call.status) == CANCELLED for call in ends):
            yield f"{made} was cancelled and is active"


def phantoms(world: World) -> Iterator[str]:
    """Rows that no call can have made."""
    for row in world.dump.rows:
        tries = [call for call in world.tries.get((row.user, row.key), []) if call.kind == row.kind]
        if not any(call.open or call.made == row.id for call in tries):
            yield f"{row.kind} {row.id} of {row.user} is there, and nobody may have made it"


def repeated(world: World) -> Iterator[str]:
    """Keys that made two things, or whose answers differ."""
    keys = Counter((row.user, row.key) for row in world.dump.rows if row.key)
    yield from (f"{order} made {n} of them" for order, n in keys.items() if n > 1)
    for order, calls in world.tries.items():
        done = [call for call in calls if call.status == 201]
        if len({(call.made, call.body) for call in done}) > 1:
            yield f"{order} was answered differently"
        known_at = min((call.ended_at for call in done), default=None)
        if known_at is None:
            continue
        late = [call for call in calls if call.started_at > known_at and call.refused]
        yield from (f"{order} was answered 201, then {call.code}" for call in late)


def stale(world: World) -> Iterator[str]:
    """Reads that show a seat free which was sold before they began, and still is."""
    spans = _spans(world.certain)
    for read in world.reads:
        for seat in read.free:
            if seat in spans and _reach(spans[seat], read.started_at) >= read.ended_at:
                yield f"seat {seat} is sold, and shown free at {read.started_at:.3f}"


def withheld(world: World) -> Iterator[str]:
    """Reads that show a seat taken which has been free for two seconds."""
    spans = _spans(world.possible)
    for read in world.reads:
        for seat in world.rules.hall - read.free:
            reach = _reach(spans[seat], read.ended_at) if seat in spans else -1
            if reach + FREED_S < read.started_at:
                yield f"seat {seat} is free, and shown taken at {read.started_at:.3f}"


def beyond_limits(world: World) -> Iterator[str]:
    """More than a user, or a ticket type, may have at one moment."""
    rules = world.rules
    for user, sales in _grouped(world.certain, lambda sale: sale.user).items():
        if _peak((sale, len(sale.seats)) for sale in sales) > rules.user_seats_max:
            yield f"{user} has too many seats"
        booked = [sale for sale in sales if sale.kind == "book"]
        for each in _grouped(booked, lambda sale: sale.start // DAY_S).values():
            if _peak((sale, 1) for sale in each) > rules.user_bookings_max:
                yield f"{user} has too many bookings on one day"
    for places, quantity in rules.types:
        if _peak((sale, len(places.intersection(sale.seats))) for sale in world.certain) > quantity:
            yield f"more than {quantity} of a ticket type are sold"
    for user, rows in _grouped(world.dump.rows, lambda row: row.user).items():
        if sum(len(row.active) for row in rows) > rules.user_seats_max:
            yield f"{user} has too many seats in the database"


def in_parts(world: World) -> Iterator[str]:
    """Sales that have other seats than they should."""
    for call in world.history:
        if call.status == 201 and sorted(call.got) != sorted(call.seats):
            yield f"{call.made} asked for {call.seats} and got {call.got}"
    for row in world.dump.rows:
        if row.kind == "book" and sorted(row.active) != sorted([] if row.cancelled else row.seats):
            yield f"{row.id} has {row.active} of {row.seats}"
        asked = [sorted(call.seats) for call in world.tries.get((row.user, row.key), [])]
        if asked and sorted(row.seats) not in asked:
            yield f"{row.id} asked for {asked[0]} and has {row.seats}"


def dishonest(world: World) -> Iterator[str]:
    """Refusals that nothing explains, failures that say too much, and keys that never settle."""
    for call in world.history:
        if call.status >= 500 and (call.status != 503 or not call.retry_after):
            yield f"a {call.kind} was answered {call.status} {call.code}"
    yield from (f"{order} was never settled" for order in _unsettled(world))
    sales, calls = by_seat(world.possible), _rivals(world)
    for call in (call for call in world.history if call.seats):
        if call.code == "seat_taken" and not _taken(call, sales):
            yield f"{call.order} was told {call.seats} are taken, and they are not"
        if call.code == "busy" and not _met(call, calls, world.rules):
            yield f"{call.order} was told {call.seats} are busy, and nobody is there"


def dead(world: World) -> Iterator[str]:
    """A fault ended, and nothing could be booked in time."""
    ends = [call.ended_at for call in world.history if call.status == 201]
    limit_s = world.rules.lock_ttl_s + LIVE_S
    for healed_at in world.rules.heals:
        if not any(healed_at <= end <= healed_at + limit_s for end in ends):
            yield f"nothing was booked within {limit_s} s"


def leaks(world: World) -> Iterator[str]:
    """What a run should have given back."""
    dump = world.dump
    yield from (f"{lock} is still locked" for lock in dump.locks)
    if dump.transactions:
        yield f"{dump.transactions} transactions are open"
    if dump.borrowed:
        yield f"{dump.borrowed} connections did not return"


def exposed(world: World) -> Iterator[str]:
    """Somebody was shown another's booking or hold."""
    for call in world.history:
        if call.kind == "peek" and not call.open and (call.status, call.code) != (404, "not_found"):
            yield f"{call.user} looked at another's {call.target} and was answered {call.status}"
        if call.owner not in ("", call.user):
            yield f"{call.user} was given a booking of {call.owner}"


INVARIANTS: dict[int, tuple[str, Callable[[World], Iterator[str]]]] = {
    1: ("no oversell", oversold),
    2: ("durable", lost),
    3: ("no phantom", phantoms),
    4: ("exactly once", repeated),
    5: ("read after acknowledgement", stale),
    6: ("freed seats return", withheld),
    7: ("limits", beyond_limits),
    8: ("all or nothing", in_parts),
    9: ("honest refusals", dishonest),
    10: ("live", dead),
    11: ("no leaks", leaks),
    12: ("private", exposed),
}
TITLES = {number: title for number, (title, _) in INVARIANTS.items()}


def _spans(sales: Iterable[Sale]) -> dict[int, Spans]:
    return {
        seat: Spans((sale.start, sale.end) for sale in each)
        for seat, each in by_seat(sales).items()
    }


def _reach(spans: Spans, before: float) -> float:
    """The latest end of those that start before this moment."""
    count = bisect_left(spans.starts, before)
    return spans.reaches[count - 1] if count else -1


def _peak(sales: Iterable[tuple[Sale, int]]) -> int:
    """The most at any one moment; what ends as another begins counts no more."""
    runs = [(sale, n) for sale, n in sales if sale.start < sale.end]
    steps = sorted(step for sale, n in runs for step in ((sale.start, n), (sale.end, -n)))
    return max(accumulate(n for _, n in steps), default=0)


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _unsettled(world: World) -> Iterator[tuple[str, str]]:
    for order, calls in world.tries.items():
        settled = calls[-1].status == 201 or calls[-1].refused
        if any(call.open for call in calls) and not settled:
            yield order


def _rivals(world: World) -> dict[int, list[Call]]:
    calls: dict[int, list[Call]] = {}
    for call in chain.from_iterable(world.tries.values()):
        for seat in call.seats:
            calls.setdefault(seat, []).append(call)
    return calls


def _taken(call: Call, sales: dict[int, list[Sale]]) -> bool:
    """Another sale of one of its seats may have run meanwhile."""
    return any(
        (sale.user, sale.key) != call.order
        and sale.start <= call.ended_at
        and sale.end >= call.started_at
        for seat in call.seats
        for sale in sales.get(seat, ())
    )


def _met(call: Call, calls: dict[int, list[Call]], rules: Rules) -> bool:
    """Another call may have been at one of its seats meanwhile."""
    return any(
        rival is not call
        and rival.started_at <= call.ended_at
        and rival.ended_at + _lock_stays_s(rival, rules) >= call.started_at
        for seat in call.seats
        for rival in calls.get(seat, ())
    )


def _lock_stays_s(call: Call, rules: Rules) -> float:
    untold = call.open or call.ended_at - call.started_at >= UNTOLD_S
    return rules.lock_ttl_s if untold or rules.locks_may_stay else 0
