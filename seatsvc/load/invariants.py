"""The service's promises, checked from outside: what was answered against what is there at the end.

A check yields a complaint for what is broken, and None for what holds, so that it is seen how much
there was to check.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from seatsvc.load import timeline
from seatsvc.load.hall import Hall
from seatsvc.load.history import Booking, Ending, History, Order, Terms

EXAMPLES_MAX = 5
Check = Iterator[str | None]


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of a run."""

    history: History
    ending: Ending
    terms: Terms
    hall: Hall

    def own(self) -> list[Booking]:
        """From the users' own lists."""
        return [booking for bookings in self.ending.own.values() for booking in bookings]

    def listed(self) -> list[Booking]:
        """From the event's list; of an event with others, only our users'."""
        listed = self.ending.listed or []
        return [each for each in listed if self.terms.ours or each.user_id in self.ending.own]

    def active(self) -> list[Booking]:
        """From all lists, each once."""
        every = {booking.id: booking for booking in [*self.own(), *self.listed()]}
        active = {booking.id for booking in [*self.own(), *self.listed()] if booking.active}
        return [every[name] for name in active]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one invariant."""

    name: str
    checked: int
    broken: int
    examples: list[str]


def check(case: Case) -> list[Finding]:
    """Check all invariants."""
    return [_find(name, one(case)) for name, one in CHECKS.items()]


def _find(name: str, found: Check) -> Finding:
    results = list(found)
    complaints = [each for each in results if each is not None]
    return Finding(name, len(results), len(complaints), list(islice(complaints, EXAMPLES_MAX)))


def oversell(case: Case) -> Check:
    """No seat is in two active bookings: in the lists, and in the answers at any moment."""
    holders = defaultdict(list)
    for booking in case.active():
        for seat in booking.seats:
            holders[seat].append(booking.id)
    for seat, names in holders.items():
        yield f"seat {seat} is in {' and '.join(names)}" if len(names) > 1 else None
    yield from timeline.overlaps(case.history.orders)
    total, capacity = len(holders), case.terms.capacity
    yield f"{total} places of {capacity} are booked" if total > capacity else None


def durable(case: Case) -> Check:
    """What was answered 201 is found again in all lists, until it is cancelled."""
    listed = {booking.id: booking for booking in case.listed()}
    for order in case.history.orders:
        if order.user_id in case.ending.own:
            own = {booking.id: booking for booking in case.ending.own[order.user_id]}
            yield from _kept(order, own, "its user's list")
        if case.ending.listed is not None:
            yield from _kept(order, listed, "the event's list")


def _kept(order: Order, found: dict[str, Booking], where: str) -> Check:
    made = order.booking
    if made is None:
        return
    booking = found.get(made.id)
    if booking is None:
        yield f"booking {made.id} was answered 201 and is not in {where}"
    elif not booking.active and not order.cancels:
        yield f"booking {made.id} is cancelled in {where}, and nobody cancelled it"
    elif booking.active and any(reply.status == 200 for reply in order.cancels):
        yield f"booking {made.id} is active in {where}, after its cancel was answered"
    else:
        yield None


def phantom(case: Case) -> Check:
    """Every booking in a list was answered, or the outcome of its order is unknown."""
    orders = case.history.orders
    answered = {reply.booking.id for each in orders for reply in each.replies if reply.booking}
    unknown = [order for order in orders if not order.settled]
    for booking in {each.id: each for each in [*case.own(), *case.listed()]}.values():
        possible = next((order for order in unknown if _may_be(booking, order)), None)
        if booking.id in answered | case.terms.earlier:
            yield None
        elif possible is not None:
            unknown.remove(possible)
            yield None
        else:
            yield f"booking {booking.id} of user {booking.user_id} was answered to nobody"


def _may_be(booking: Booking, order: Order) -> bool:
    same = booking.user_id == order.user_id and booking.quantity == order.quantity
    return same and order.seat_ids in ((), booking.seats)


def exactly_once(case: Case) -> Check:
    """All 201s of one key are the same, and a key that has one is refused no more."""
    keys: dict[str, str] = {}
    for order in case.history.orders:
        first = order.made
        for reply in order.replies if first else ():
            if reply.status == 201:
                same = first is not None and reply.body == first.body
                yield None if same else f"key {order.key} was answered 201 in two ways"
            elif first is not None and reply.started > first.ended and reply.definite:
                yield f"key {order.key} was answered 201, then {reply.status} {reply.code}"
        if first is not None and first.booking is not None:
            other = keys.setdefault(first.booking.id, order.key)
            twice = f"keys {order.key} and {other} have the same booking {first.booking.id}"
            yield twice if other != order.key else None


def stale(case: Case) -> Check:
    """A read that started after a 201 had ended does not show its seats free."""
    for bits in timeline.stale(case.history, case.hall):
        yield f"shown free after their 201: seats {case.hall.ids(bits)[:9]}" if bits else None


def freed(case: Case) -> Check:
    """Two seconds after the last cancel all that is not booked is free."""
    if not case.terms.ours:
        return
    booked = [seat for booking in case.active() for seat in booking.seats]
    lost = case.hall.bits(case.hall.seat_ids) & ~case.hall.bits(booked) & ~case.ending.free
    yield f"booked by nobody and not free: {case.hall.ids(lost)[:9]}" if lost else None
    free, expected = case.ending.counts.get("free"), case.terms.capacity - len(set(booked))
    yield f"{free} places are free, and {expected} are not booked" if free != expected else None


def limits(case: Case) -> Check:
    """Nobody has more than is allowed, at any moment."""
    terms = case.terms
    seats, bookings = Counter[str](), Counter[tuple[str, str]]()
    for booking in case.active():
        seats[booking.user_id] += len(booking.seats)
        bookings[booking.user_id, booking.day] += 1
    if terms.per_user is not None:
        for user, count in seats.items():
            yield f"user {user} has {count} seats" if count > terms.per_user else None
        yield from timeline.over_limit(case.history.orders, terms.per_user)
    if terms.per_day is not None:
        for (user, day), count in bookings.items():
            yield f"user {user}: {count} bookings on {day}" if count > terms.per_day else None


def all_or_nothing(case: Case) -> Check:
    """A booking has exactly the seats that were asked for and answered."""
    answered: dict[str, Booking] = {}
    for order in case.history.orders:
        made = order.made
        if made is not None and made.booking is None:
            yield f"key {order.key} was answered 201 without a booking"
        elif made is not None and made.booking is not None:
            booking = answered[made.booking.id] = made.booking
            count = {len(set(booking.seats)), booking.quantity, order.quantity}
            right = len(count) == 1 and order.seat_ids in ((), booking.seats)
            asked = order.seat_ids or order.quantity
            yield None if right else f"asked for {asked}, got {booking.seats}: {booking.id}"
    for found in [*case.own(), *case.listed()]:
        said = answered.get(found.id)
        same = said is None or (said.seats, said.total) == (found.seats, found.total)
        yield None if same else f"booking {found.id} is listed with other seats than answered"


def server_errors(case: Case) -> Check:
    """No 5xx but 503 with Retry-After, and repeating the key settles what became of an order."""
    for call in case.history.calls:
        honest = (call.status, call.code) == (503, "unavailable") and call.retry_after_s is not None
        bad = call.status >= 500 and not honest
        yield f"{call.kind} was answered {call.outcome}" if bad else None
    for order in case.history.orders:
        yield None if order.settled else f"it stays unknown what became of key {order.key}"


def private(case: Case) -> Check:
    """Nobody's list has another's booking."""
    for user, bookings in case.ending.own.items():
        for booking in bookings:
            other = f"user {user} sees booking {booking.id} of user {booking.user_id}"
            yield None if booking.user_id == user else other


def sells(case: Case) -> Check:
    """Whoever wants a free seat gets one: there are none left in the end."""
    if case.terms.must_sell_out:
        free = case.ending.counts.get("free")
        yield f"{free} places were left to those who wanted them" if free else None


def report(case: Case) -> Check:
    """The event's report, its list and its availability say the same, and their parts add up."""
    if case.ending.report is None:
        return
    try:
        pairs = _sums(case, case.ending.report)
    except (KeyError, TypeError) as error:
        yield f"the report cannot be read: {error}"
        return
    for name, (one, other) in pairs.items():
        yield None if one == other else f"{name}: {one}, expected {other}"


def _sums(case: Case, said: dict[str, Any]) -> dict[str, tuple[object, object]]:
    """What must be equal."""
    states = ("free", "held", "booked", "blocked")
    active = [booking for booking in case.ending.listed or [] if booking.active]
    pairs: dict[str, tuple[object, object]] = {
        "capacity": (said["capacity"], sum(said[name] for name in states)),
        "booked": (said["booked"], sum(len(booking.seats) for booking in active)),
        "revenue": (said["revenue"], sum(booking.total for booking in active)),
        "bookings by hour": (_sum(said["bookings_per_hour"], "bookings"), len(active)),
        "seats by hour": (_sum(said["bookings_per_hour"], "seats"), said["booked"]),
    }
    for name in (*states, "revenue"):
        pairs[f"{name} by section"] = _sum(said["sections"], name), said[name]
    if case.terms.ours:
        own = sum(len(booking.seats) for booking in case.own() if booking.active)
        pairs["booked by ticket type"] = _sum(said["ticket_types"], "booked"), said["booked"]
        pairs["booked in the users' own lists"] = own, said["booked"]
        for name in states:
            pairs[f"{name} as shown"] = case.ending.counts.get(name), said[name]
    return pairs


def _sum(parts: list[dict[str, int]], name: str) -> int:
    return sum(part[name] for part in parts)


def refusals(case: Case) -> Check:
    """A refusal is true: the seat is or may be someone's, the limit is or may be used up."""
    free = case.ending.free
    others = case.terms.taken_before | (0 if case.terms.ours else ~free)
    yield from timeline.refusals(
        case.history, case.terms, lambda seat: case.hall.bits([seat]) & others
    )


CHECKS: dict[str, Callable[[Case], Check]] = {
    "no seat is sold twice": oversell,
    "every 201 is found again": durable,
    "no booking that nobody made": phantom,
    "one key, one booking": exactly_once,
    "no read shows a sold seat free": stale,
    "freed seats return": freed,
    "limits hold": limits,
    "all or nothing": all_or_nothing,
    "refusals are honest": refusals,
    "no 5xx but an honest 503": server_errors,
    "free seats can be booked": sells,
    "nobody sees another's booking": private,
    "the report adds up": report,
}
