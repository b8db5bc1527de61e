"""The invariants that are about moments: what was true while a request was under way.

An order's seats are certainly its user's from the end of its 201 to the start of its cancel, and
perhaps so from the start of its first request to the end of its cancel's answer.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf

from seatsvc.load.hall import Hall
from seatsvc.load.history import FREED_S, WAITING, History, Order, Reply, Terms

# Where others may sell, hold, block and cancel, these are theirs to explain.
OTHERS_DOING = {
    "seat_held", "seat_blocked", "ticket_type_sold_out", "sales_closed", "event_cancelled",
}  # fmt: skip


def overlaps(orders: Sequence[Order]) -> Iterator[str | None]:
    """Seats that were certainly two orders' at once."""
    lives = defaultdict(list)
    for order in orders:
        if made := order.made:
            for seat in order.seats:
                lives[seat].append((made.ended, order.cancel_began, order.key))
    for seat, found in lives.items():
        until, owner = -inf, ""
        for begins, ends, key in sorted(found):
            both = f"seat {seat} was given to the keys {owner} and {key} at once"
            yield both if begins < until else None
            if ends > until:
                until, owner = ends, key


def over_limit(orders: Sequence[Order], per_user: int) -> Iterator[str | None]:
    """Users who certainly had more seats at some moment."""
    changes = defaultdict[str, list[tuple[float, int]]](list)
    for order in orders:
        if made := order.made:
            changes[order.user_id] += [(made.ended, order.quantity)]
            changes[order.user_id] += [(order.cancel_began, -order.quantity)]
    for user, found in changes.items():
        most = max(accumulate(change for _, change in sorted(found)))
        yield f"user {user} had {most} seats at once" if most > per_user else None


def stale(history: History, hall: Hall) -> Iterator[int]:
    """For each read, the seats that it showed free and that certainly were not, as bits."""
    changes: list[tuple[float, bool, int]] = []
    for order in history.orders:
        if made := order.made:
            bits = hall.bits(order.seats)
            changes += [(made.ended, True, bits), (order.cancel_began, False, bits)]
    changes.sort()
    leaving = [(when, bits) for when, taken, bits in changes if not taken and when < inf]
    taken_bits = place = 0
    for read in sorted(history.reads, key=lambda each: each.started):
        while place < len(changes) and changes[place][0] <= read.started:
            _, taken, bits = changes[place]
            taken_bits = taken_bits | bits if taken else taken_bits & ~bits
            place += 1
        meanwhile = 0
        for number in range(bisect_left(leaving, (read.started,)), len(leaving)):
            if leaving[number][0] > read.ended:
                break
            meanwhile |= leaving[number][1]
        yield read.free & taken_bits & ~meanwhile


class Possible:
    """How many of something there may have been at once, at some moment of a time."""

    def __init__(self, lives: Iterable[tuple[float, float, int]]) -> None:
        found = list(lives)
        self._begins, self._begun = _running((begins, count) for begins, _, count in found)
        self._ends, self._ended = _running((ends, count) for _, ends, count in found)

    def most(self, reply: Reply) -> int:
        """While this was answered, at most."""
        begun = self._begun[bisect_right(self._begins, reply.ended)]
        return begun - self._ended[bisect_left(self._ends, reply.started)]


def _running(counts: Iterable[tuple[float, int]]) -> tuple[list[float], list[int]]:
    ordered = sorted(counts)
    return [when for when, _ in ordered], [0, *accumulate(count for _, count in ordered)]


class Judge:
    """Knows what may have been whose, and tells what is wrong with a refusal."""

    def __init__(self, history: History, terms: Terms, others: Callable[[int], int]) -> None:
        self._terms, self._others = terms, others
        self._seats = defaultdict[int, list[Order]](list)
        seats = defaultdict[str, list[tuple[float, float, int]]](list)
        bookings = defaultdict[str, list[tuple[float, float, int]]](list)
        for order in history.orders:
            if order.made or not order.settled:
                life = order.began, order.cancelled_at
                seats[order.user_id].append((*life, order.quantity))
                bookings[order.user_id].append((*life, 1))
                for seat in order.seats:
                    self._seats[seat].append(order)
        self._user_seats = {user: Possible(lives) for user, lives in seats.items()}
        self._user_bookings = {user: Possible(lives) for user, lives in bookings.items()}
        self._all = Possible(
            (begins, ends + FREED_S, count)
            for lives in seats.values()
            for begins, ends, count in lives
        )

    def wrong(self, order: Order, reply: Reply) -> str | None:
        """What is wrong with this refusal."""
        code, ours = reply.code, self._terms.ours
        if code in WAITING:
            return self._wrong_wait(order, reply)
        if code == "seat_taken":
            return self._wrong_seat(order, reply)
        if not ours and code in OTHERS_DOING | {"user_limit_reached", "daily_limit_reached"}:
            return None
        if code == "sold_out":
            free = self._terms.capacity - self._all.most(reply)
            sold = free < order.quantity or not ours
            return None if sold else f"sold_out for {order.quantity}, with {free} places free"
        limit, counts, more = {
            "user_limit_reached": (self._terms.per_user, self._user_seats, order.quantity),
            "daily_limit_reached": (self._terms.per_day, self._user_bookings, 1),
        }.get(code, (None, {}, 0))
        if limit is None:
            return f"a sound order was answered {reply.status} {code}"
        has = counts[order.user_id].most(reply) if order.user_id in counts else 0
        return None if has + more > limit else f"{code} for {more} more, with {has} of {limit}"

    def _wrong_wait(self, order: Order, reply: Reply) -> str | None:
        if reply.retry_after_s is None:
            return f"{reply.code} without Retry-After"
        if reply.code == "idempotency_in_flight" and len(order.replies) == 1:
            return "idempotency_in_flight for a key that was sent once"
        return None

    def _wrong_seat(self, order: Order, reply: Reply) -> str | None:
        if order.seat_ids and not reply.blamed:
            return "seat_taken that names no seat"
        for seat in reply.blamed:
            if seat not in order.seat_ids and order.seat_ids:
                return f"seat_taken for seat {seat}, which was not asked for"
            if not self._others(seat) and not any(
                other is not order
                and other.began <= reply.ended
                and other.cancelled_at >= reply.started
                for other in self._seats[seat]
            ):
                return f"seat_taken for seat {seat}, which nobody has"
        return None


def refusals(history: History, terms: Terms, others: Callable[[int], int]) -> Iterator[str | None]:
    """What is wrong with the refusals. `others` tells whether a seat may be somebody else's."""
    judge = Judge(history, terms, others)
    for order in history.orders:
        for reply in order.replies:
            if reply.status not in (0, 201) and reply.status < 500:
                yield judge.wrong(order, reply)
        for number, reply in enumerate(order.cancels):
            done_before = reply.code == "already_cancelled" and number > 0
            fine = reply.status in (0, 200, 429) or reply.status >= 500 or done_before
            yield None if fine else f"a cancel was answered {reply.status} {reply.code}"
    for call in history.calls:
        if call.kind not in ("book", "repeat", "cancel") and not 429 <= call.status < 600:
            fine = call.status == 0 or (call.status in (200, 304) and not call.code)
            yield None if fine else f"{call.kind} was answered {call.outcome}"
