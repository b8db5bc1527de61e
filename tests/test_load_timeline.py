"""What the load tester makes of moments: when a seat is certainly, and when perhaps, somebody's."""

from collections.abc import Sequence
from math import inf

import pytest

from seatsvc.load import timeline
from seatsvc.load.hall import Hall
from seatsvc.load.history import Booking, Call, History, Order, Read, Reply, Terms

HALL = {
    "event_id": 7,
    "sections": [
        {"general_admission": False, "rows": [{"seats": [{"id": 1}, {"id": 2}]}]},
        {"general_admission": True, "places": 3},
        {"general_admission": False, "rows": [{"seats": [{"id": 9}]}]},
    ],
}


def order(user: str, *seats: int, made: tuple[float, float] | None, cancel: float = inf) -> Order:
    """Booked in this time if at all, and cancelled then, which takes one second."""
    found = Order(user, f"{user}-{seats}-{made}", len(seats), seats, cancel_began=cancel)
    if made:
        found.began = made[0]
        booking = Booking("b", user, True, seats, len(seats), 0, "2026-11-21")
        found.replies.append(Reply(*made, 201, "", booking=booking))
    if cancel < inf:
        found.cancels.append(Reply(cancel, cancel + 1, 200, ""))
    return found


def refused(
    user: str, seat: int, at: float, code: str, retry_after_s: float | None = None
) -> Order:
    """Refused within this second."""
    found = Order(user, f"{user} at {at}", 1, (seat,), began=at)
    found.replies.append(Reply(at, at + 1, 409, code, retry_after_s, blamed=(seat,)))
    return found


def complaints(orders: Sequence[Order], terms: Terms) -> list[str]:
    """What is wrong with their refusals."""
    found = timeline.refusals(History(orders=[*orders]), terms, lambda _seat: 0)
    return [each for each in found if each]


def test_seat_that_is_sold_again_after_its_cancel() -> None:
    first, second = order("a", 1, made=(0, 1), cancel=5), order("b", 1, made=(5.5, 6))
    assert not any(timeline.overlaps([first, second]))


def test_seat_that_is_sold_again_before() -> None:
    first, second = order("a", 1, made=(0, 1), cancel=5), order("b", 1, made=(3, 4))
    assert any(timeline.overlaps([first, second]))
    assert any(timeline.overlaps([second, first]))


def test_seats_of_one_user_at_any_moment() -> None:
    orders = [order("a", 1, 2, made=(0, 1), cancel=5), order("a", 9, made=(2, 3))]
    assert any(timeline.over_limit(orders, 2))
    assert not any(timeline.over_limit(orders, 3))
    later = [orders[0], order("a", 9, made=(5, 6))]
    assert not any(timeline.over_limit(later, 2))


@pytest.mark.parametrize(
    ("started", "ended", "is_stale"),
    [(0.5, 1.5, False), (1.0, 1.5, True), (4, 4.9, True), (4, 5.5, False), (5.1, 9, False)],
)
def test_read_beside_a_booking(started: float, ended: float, is_stale: bool) -> None:
    """The seat is certainly sold from 1, when the 201 ended, to 5, when its cancel began."""
    hall = Hall(HALL)
    history = History(orders=[order("a", 2, made=(0, 1), cancel=5)])
    history.reads.append(Read(started, ended, hall.bits([1, 2])))
    [bits] = timeline.stale(history, hall)
    assert hall.ids(bits) == ([2] if is_stale else [])


def test_taken_seat() -> None:
    terms = Terms(capacity=3)
    owner = order("a", 1, made=(2, 3), cancel=5)
    for at in (1.5, 4, 5.5):  # before it was sent, the answer was not yet there: at 1.5 it may be
        assert not complaints([owner, refused("b", 1, at, "seat_taken")], terms)
    for at in (0.5, 6.5):
        assert complaints([owner, refused("b", 1, at, "seat_taken")], terms)
    assert complaints([owner, refused("b", 2, 4, "seat_taken")], terms)


def test_seat_whose_order_is_unknown_may_be_taken() -> None:
    lost = Order("a", "k", 1, (1,), began=0, replies=[Reply(0, 1, 0, "connection_lost")])
    assert not lost.settled
    assert not complaints([lost, refused("b", 1, 9, "seat_taken")], Terms(capacity=3))


def test_sold_out_and_limits() -> None:
    terms = Terms(capacity=2, per_user=1, per_day=1)
    sold = [order("a", 1, made=(0, 1)), order("b", 2, made=(0, 1), cancel=5)]
    for code in ("sold_out", "user_limit_reached", "daily_limit_reached"):
        assert not complaints([*sold, refused("b", 1, 3, code)], terms)
        assert complaints([*sold, refused("b", 1, 9, code)], terms), code
    # What is shown as free may lag two seconds behind a cancel; what a user has may not.
    assert not complaints([*sold, refused("b", 1, 7, "sold_out")], terms)
    assert complaints([*sold, refused("b", 1, 7, "user_limit_reached")], terms)


def test_busy_says_when_to_come_again() -> None:
    terms = Terms(capacity=2)
    assert complaints([refused("a", 1, 0, "busy")], terms)
    assert not complaints([refused("a", 1, 0, "busy", retry_after_s=1)], terms)


def test_answers_that_a_sound_call_never_gets() -> None:
    assert complaints([refused("a", 1, 0, "sales_closed")], Terms(capacity=2))
    assert not complaints([refused("a", 1, 0, "sales_closed")], Terms(capacity=2, ours=False))
    read = Call("seats", 0, 1, 404, "not_found")
    assert list(timeline.refusals(History(calls=[read]), Terms(2), lambda _seat: 0)) != [None]


def test_key_that_is_busy_after_a_lost_answer_is_not_settled() -> None:
    lost, busy = Reply(0, 1, 0, "connection_lost"), Reply(1, 2, 409, "busy")
    assert not Order("a", "k", 1, (1,), replies=[lost, busy]).settled
    assert Order("a", "k", 1, (1,), replies=[busy]).settled


def test_availability_skips_places_without_numbers() -> None:
    hall = Hall(HALL)
    states = b'"sections": [{"states": "fb"}, {"states": "fff"}, {"states": "f"}]'
    seen = hall.seen(b'{"counts": {"free": 5}, ' + states + b"}")
    assert (hall.ids(seen.free), seen.states) == ([1, 9], "fbf")


@pytest.mark.parametrize("body", [b"no", b"[]", b'{"counts": {}, "sections": [{"states": "f"}]}'])
def test_availability_that_does_not_fit(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Hall(HALL).seen(body)
