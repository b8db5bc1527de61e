"""The checker of the fault suite: a good history passes, and one that breaks an invariant fails."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.faults.checker import check
from tests.faults.history import Call, Dump, Row, Rules

HALL = frozenset({1, 2, 3})


@dataclass
class Run:
    """A history to be built, and what is left after it."""

    calls: list[Call] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    dump: Dump = field(default_factory=Dump)
    rules: Rules = field(default_factory=lambda: Rules(HALL))

    def call(self, kind: str, user: str, start: float, status: int, **more: Any) -> None:
        """One that takes a second, if nothing else is said."""
        self.calls.append(Call(kind, user, start, more.pop("end", start + 1), status, **more))

    def sell(self, made: str, user: str, start: float, *seats: int, **more: Any) -> None:
        """A booking or a hold that is answered, and in the database."""
        kind, key = more.pop("kind", "book"), more.pop("key", f"key of {made}")
        sold = {"made": made, "seats": seats, "got": seats, "owner": user, "body": made.encode()}
        self.call(kind, user, start, 201, key=key, **(sold | more))
        active = seats if kind == "book" else ()
        until = {"until": more["until"]} if "until" in more else {}
        self.rows[made] = Row(made, kind, user, key, seats, active, **until)

    def cancel(self, made: str, user: str, start: float, status: int = 200) -> None:
        """A booking of this run."""
        self.call("cancel", user, start, status, target=made, end=start + 0.5)
        self.rows[made] = replace(self.rows[made], active=(), cancelled=True)

    def read(self, start: float, *free: int) -> None:
        """A reader is shown these seats."""
        self.call("read", "", start, 200, end=start + 0.1, free=frozenset(free))

    def broken(self) -> set[int]:
        """The invariants that the checker says are broken."""
        rows = tuple(self.rows.values())
        return {
            each.invariant for each in check(self.calls, replace(self.dump, rows=rows), self.rules)
        }


def a_good_run() -> Run:
    """Sales, a cancellation, a hold that is booked and one that expires, refusals, lost answers."""
    run = Run(rules=Rules(HALL, user_seats_max=2, types=((HALL, 3),), heals=(12.0,)))
    run.read(0, 1, 2, 3)
    run.sell("b1", "ann", 1, 1)
    run.call("book", "ben", 1.5, 409, code="busy", key="k1", seats=(1,))
    run.call("book", "ben", 3, 409, code="seat_taken", key="k2", seats=(1, 2))
    run.read(3, 2, 3)
    run.call("peek", "ben", 3, 404, code="not_found", target="b1")
    run.sell("h1", "ben", 4, 2, kind="hold", until=20.0)
    run.read(5.5, 3)
    run.sell("b2", "ben", 6, 2, target="h1")
    run.cancel("b1", "ann", 7)
    run.read(7.2, 3)
    run.read(10, 1, 3)
    run.call("book", "cyd", 10, 0, key="k3", seats=(1,))
    run.call("book", "cyd", 11, 503, code="unavailable", key="k3", seats=(1,), retry_after=True)
    run.sell("b3", "cyd", 13, 1, key="k3")
    run.call("book", "cyd", 15, 201, key="k3", made="b3", seats=(1,), got=(1,), body=b"b3")
    run.sell("h2", "dan", 15, 3, kind="hold", until=20.0)
    run.read(19)
    run.read(20.5)
    run.read(23, 3)
    return run


def test_good_history() -> None:
    run = a_good_run()
    assert not check(run.calls, replace(run.dump, rows=tuple(run.rows.values())), run.rules)


def two_sales(run: Run) -> None:
    """Of one seat."""
    run.sell("b8", "eve", 30, 3)
    run.sell("b9", "fay", 40, 3)
    run.rows.pop("b8")


def two_rows(run: Run) -> None:
    """Of one seat, of which only one was answered."""
    run.sell("b8", "eve", 30, 3)
    run.call("book", "fay", 30, 0, key="k9", seats=(3,))
    run.rows["b9"] = Row("b9", "book", "fay", "k9", (3,), (3,))


def booking_during_a_hold(run: Run) -> None:
    """It was sold while it was held."""
    run.sell("h8", "eve", 30, 3, kind="hold", until=50.0)
    run.sell("b9", "fay", 40, 3)


def a_lost_booking(run: Run) -> None:
    run.rows.pop("b2")


def a_lost_cancellation(run: Run) -> None:
    run.rows["b1"] = replace(run.rows["b1"], cancelled=False, active=(1,))


def an_unasked_cancellation(run: Run) -> None:
    run.rows["b2"] = replace(run.rows["b2"], cancelled=True, active=())


def a_row_of_nobody(run: Run) -> None:
    run.rows["b9"] = Row("b9", "book", "eve", "k9", (3,), (3,))


def a_row_after_a_refusal(run: Run) -> None:
    run.rows["b9"] = Row("b9", "book", "ben", "k2", (1, 2), (), cancelled=True)


def a_row_without_a_key(run: Run) -> None:
    run.rows["b2"] = replace(run.rows["b2"], key="")


def a_key_with_two_answers(run: Run) -> None:
    run.call("book", "ben", 30, 201, key="key of b2", made="b2", seats=(2,), got=(2,), body=b"?")


def a_key_with_two_bookings(run: Run) -> None:
    run.rows["b9"] = replace(run.rows["b2"], id="b9", seats=(2,), active=())


def a_key_that_is_forgotten(run: Run) -> None:
    run.call("book", "ben", 30, 409, key="key of b2", code="seat_taken", seats=(2,))


def a_stale_read(run: Run) -> None:
    run.read(30, 1, 3)


def a_stale_read_of_a_hold(run: Run) -> None:
    run.read(18, 3)


def a_seat_that_stays_away(run: Run) -> None:
    """Its booking was cancelled long ago."""
    run.read(9.6, 3)


def a_hold_that_stays(run: Run) -> None:
    """It has expired."""
    run.read(22.1)


def too_many_seats(run: Run) -> None:
    run.sell("b9", "ben", 30, 3)
    run.sell("b8", "ben", 40, 1)


def too_many_bookings(run: Run) -> None:
    run.rules = replace(run.rules, user_bookings_max=1)
    run.sell("b9", "ben", 30, 3)


def too_many_of_a_type(run: Run) -> None:
    run.rules = replace(run.rules, types=((frozenset({1, 2}), 1),))


def half_an_order(run: Run) -> None:
    run.call("book", "eve", 30, 201, key="k9", made="b9", seats=(1, 3), got=(3,))
    run.rows["b9"] = Row("b9", "book", "eve", "k9", (3,), (3,))


def half_a_row(run: Run) -> None:
    run.rows["b2"] = replace(run.rows["b2"], active=())


def taken_by_nobody(run: Run) -> None:
    run.call("book", "eve", 30, 409, key="k9", code="seat_taken", seats=(3,))


def taken_by_itself(run: Run) -> None:
    """A lost answer, then a refusal for the very seat that was got."""
    run.call("book", "eve", 30, 0, key="k9", seats=(3,))
    run.call("book", "eve", 33, 409, key="k9", code="seat_taken", seats=(3,))
    run.rows["b9"] = Row("b9", "book", "eve", "k9", (3,), (3,))


def busy_with_nobody(run: Run) -> None:
    run.call("book", "eve", 40, 409, key="k9", code="busy", seats=(3,))


def busy_after_an_answer(run: Run) -> None:
    """Which is wrong unless locks may stay."""
    run.rules = replace(run.rules, locks_may_stay=False)
    run.call("book", "eve", 17, 409, key="k9", code="busy", seats=(3,))


def a_crash(run: Run) -> None:
    run.call("read", "eve", 30, 500, code="internal_error")


def no_word_of_when(run: Run) -> None:
    run.call("read", "eve", 30, 503, code="unavailable")


def never_settled(run: Run) -> None:
    run.call("book", "eve", 30, 0, key="k9", seats=(3,))


def a_long_silence(run: Run) -> None:
    run.rules = replace(run.rules, heals=(30.0,))


def a_lock(run: Run) -> None:
    run.dump = Dump(locks=("{1}:lock:1",))


def a_transaction(run: Run) -> None:
    run.dump = Dump(transactions=1)


def a_connection(run: Run) -> None:
    run.dump = Dump(borrowed=1)


def a_curious_user(run: Run) -> None:
    run.call("peek", "eve", 30, 200, target="b1")


def a_strange_owner(run: Run) -> None:
    run.call("book", "eve", 30, 201, key="k9", made="b2", seats=(2,), got=(2,), owner="ben")


@pytest.mark.parametrize(
    ("invariant", "harm"),
    [
        (1, two_sales), (1, two_rows), (1, booking_during_a_hold),
        (2, a_lost_booking), (2, a_lost_cancellation), (2, an_unasked_cancellation),
        (3, a_row_of_nobody), (3, a_row_after_a_refusal), (3, a_row_without_a_key),
        (4, a_key_with_two_answers), (4, a_key_with_two_bookings), (4, a_key_that_is_forgotten),
        (5, a_stale_read), (5, a_stale_read_of_a_hold),
        (6, a_seat_that_stays_away), (6, a_hold_that_stays),
        (7, too_many_seats), (7, too_many_bookings), (7, too_many_of_a_type),
        (8, half_an_order), (8, half_a_row),
        (9, taken_by_nobody), (9, taken_by_itself), (9, busy_with_nobody),
        (9, busy_after_an_answer), (9, a_crash), (9, no_word_of_when), (9, never_settled),
        (10, a_long_silence),
        (11, a_lock), (11, a_transaction), (11, a_connection),
        (12, a_curious_user), (12, a_strange_owner),
    ],
)  # fmt: skip
def test_broken_history(invariant: int, harm: Callable[[Run], None]) -> None:
    """The good run with one thing more, or less."""
    run = a_good_run()
    harm(run)
    assert invariant in run.broken()
