"""Halls in memory: which places are picked for a group, and which are listed."""

import secrets
from collections.abc import Iterator, Sequence
from itertools import accumulate, combinations, pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seatsvc.halls import Hall, Snapshot
from seatsvc.orders import SoldSeat, side_by_side
from seatsvc.sections import Section

FIRST = 1001
Plan = Sequence[Sequence[int] | int]

often = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def hall_of(plan: Plan, types: Sequence[int | None] = ()) -> Hall:
    """Sections A, B, …: a list gives the lengths of its rows, a number its places."""
    sections: list[Section] = []
    for n, part in enumerate(plan):
        start = sections[-1].end if sections else 0
        bounds = [] if isinstance(part, int) else list(accumulate(part, initial=start))
        end = start + part if isinstance(part, int) else bounds[-1]
        kind = types[n] if types else None
        sections.append(Section(chr(65 + n), start, end, not bounds, kind, bounds))
    return Hall(7, FIRST, sections)


def runs(hall: Hall, states: bytes, parts: list[Section]) -> Iterator[range]:
    """All runs of free places, each within one row."""
    for part in parts:
        for start, end in pairwise(part.row_starts):
            place = start
            while place < end:
                stop = place
                while stop < end and states[stop : stop + 1] == b"f":
                    stop += 1
                if stop > place:
                    yield range(place, stop)
                place = stop + 1


def without(states: bytes, places: tuple[int, ...]) -> bytes:
    """The states once these places are taken."""
    return Snapshot(states).updated((place, ord("b")) for place in places)


def singles(hall: Hall, states: bytes) -> set[int]:
    """Free seats without a free neighbour in their row."""
    return {run[0] for run in runs(hall, states, list(hall.sections)) if len(run) == 1}


def pick(hall: Hall, snapshot: Snapshot, quantity: int, parts: list[Section]) -> tuple[int, ...]:
    """The picked places, counted from the hall's first."""
    return tuple(seat_id - FIRST for seat_id in hall.pick(snapshot, parts, quantity))


ROWS = st.lists(st.integers(1, 9), min_size=1, max_size=4)
NUMBERED = st.lists(ROWS, min_size=1, max_size=3)
MIXED = st.lists(st.one_of(ROWS, st.integers(1, 12)), min_size=1, max_size=4)
QUANTITIES = st.integers(1, 8)


@st.composite
def halls(draw: st.DrawFn, plans: st.SearchStrategy[Plan] = MIXED) -> tuple[Hall, bytes]:
    """A hall and its states."""
    hall = hall_of(draw(plans))
    letters = st.sampled_from(draw(st.sampled_from([b"ffffffb", b"fffb", b"fbb", b"fhbx", b"f"])))
    size = hall.capacity
    return hall, bytes(draw(st.lists(letters, min_size=size, max_size=size)))


@often
@given(halls(), QUANTITIES, st.data())
def test_pick_gives_free_places_or_none(
    made: tuple[Hall, bytes], quantity: int, data: st.DataObject
) -> None:
    """As many as were asked for, free, and of the wanted sections; none only if there are fewer."""
    hall, states = made
    parts = data.draw(st.lists(st.sampled_from(hall.sections), unique_by=lambda part: part.name))
    parts.sort(key=lambda part: part.start)
    snapshot = Snapshot(states)
    places = pick(hall, snapshot, quantity, parts)
    assert len(set(places)) == len(places) == (quantity if places else 0)
    assert all(states[place : place + 1] == b"f" for place in places)
    assert all(any(part.start <= place < part.end for part in parts) for place in places)
    free = sum(states.count(b"f", part.start, part.end) for part in parts)
    assert bool(places) == (snapshot.free(parts) >= quantity) == (free >= quantity)
    assert snapshot.states == states


@often
@given(halls(NUMBERED), QUANTITIES)
@example((hall_of([[3, 9]]), b"ffffffffffff"), 5)
@example((hall_of([[2], [2]]), b"bfff"), 2)
def test_pick_is_side_by_side(made: tuple[Hall, bytes], quantity: int) -> None:
    """Whenever some row has so many free places in a run, and never across a row's end."""
    hall, states = made
    parts = list(hall.sections)
    long_enough = [run for run in runs(hall, states, parts) if len(run) >= quantity]
    for _ in range(8):  # among equally good places it is a matter of chance
        places = pick(hall, Snapshot(states), quantity, parts)
        together = any(set(places) <= set(run) for run in long_enough)
        assert together == bool(long_enough)
        if together:
            assert list(places) == list(range(places[0], places[0] + quantity))


@often
@given(halls(), QUANTITIES)
def test_pick_keeps_a_group_together(made: tuple[Hall, bytes], quantity: int) -> None:
    """In a mixed hall: in one row or in one area, if there is such."""
    hall, states = made
    groups = list(runs(hall, states, list(hall.sections)))
    groups += [range(part.start, part.end) for part in hall.sections if part.general_admission]
    groups = [group for group in groups if states.count(b"f", group[0], group[-1] + 1) >= quantity]
    places = pick(hall, Snapshot(states), quantity, list(hall.sections))
    assert any(set(places) <= set(group) for group in groups) == bool(groups)


@often
@given(halls(NUMBERED), QUANTITIES)
def test_pick_together_orphans_no_single_seat(made: tuple[Hall, bytes], quantity: int) -> None:
    """As long as the group can sit together in a way that leaves no single seat over."""
    hall, states = made
    before = singles(hall, states)
    ways = [
        tuple(run[n : n + quantity])
        for run in runs(hall, states, list(hall.sections))
        for n in range(len(run) - quantity + 1)
    ]
    if any(singles(hall, without(states, way)) <= before for way in ways):
        places = pick(hall, Snapshot(states), quantity, list(hall.sections))
        assert singles(hall, without(states, places)) <= before


@often
@given(halls(st.lists(ROWS, min_size=1, max_size=1)), st.integers(2, 5))
@example((hall_of([[10]]), b"ffbfffbfff"), 4)
@example((hall_of([[3, 3]]), b"bbfffb"), 3)
def test_pick_apart_orphans_no_single_seat(made: tuple[Hall, bytes], quantity: int) -> None:
    """As long as the group can be seated at all in a way that leaves no single seat over."""
    hall, states = made
    free = [place for place in range(hall.capacity) if states[place : place + 1] == b"f"][:12]
    states = states[: free[-1] + 1].ljust(hall.capacity, b"b") if free else states
    if any(len(run) >= quantity for run in runs(hall, states, list(hall.sections))):
        return
    before = singles(hall, states)
    ways = combinations(free, quantity)
    if any(singles(hall, without(states, way)) <= before for way in ways):
        places = pick(hall, Snapshot(states), quantity, list(hall.sections))
        assert singles(hall, without(states, places)) <= before


@often
@given(halls(), st.lists(QUANTITIES, min_size=1, max_size=20))
def test_picks_from_one_snapshot_never_overlap(
    made: tuple[Hall, bytes], quantities: list[int]
) -> None:
    """Until there are too few left; a new snapshot starts anew."""
    hall, states = made
    snapshot, parts, given_away = Snapshot(states), list(hall.sections), set[int]()
    free = states.count(b"f")
    for quantity in quantities:
        places = pick(hall, snapshot, quantity, parts)
        assert bool(places) == (free - len(given_away) >= quantity)
        assert not given_away & set(places)
        given_away |= set(places)
    assert bool(pick(hall, Snapshot(states), 1, parts)) == (free > 0)


def test_general_admission_goes_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a random place on, round the area's end but not out of it."""
    hall = hall_of([[4], 10, 6])
    monkeypatch.setattr(secrets, "randbelow", lambda _size: 8)
    snapshot, parts = Snapshot(b"f" * 20), [hall.sections[1]]
    assert set(pick(hall, snapshot, 4, parts)) == {12, 13, 4, 5}
    assert set(pick(hall, snapshot, 6, parts)) == set(range(6, 12))
    assert pick(hall, snapshot, 1, parts) == ()
    assert set(pick(hall, Snapshot(b"f" * 6 + b"b" * 14), 2, parts)) == {4, 5}


def test_picks_spread() -> None:
    """Buyers of two who know nothing of each other seldom meet, with numbers and without."""
    for hall in (hall_of([[20] * 10]), hall_of([200])):
        picks = {pick(hall, Snapshot(b"f" * 200), 2, list(hall.sections)) for _ in range(60)}
        assert len(picks) >= 12


@pytest.mark.parametrize("plan", [[[100] * 1000], [100_000], [[50] * 1000, 50_000]])
def test_a_large_hall(plan: Plan) -> None:
    """100,000 places: empty, nearly sold out, and full of gaps."""
    hall = hall_of(plan)
    parts = list(hall.sections)
    places = pick(hall, hall.untouched(), 50, parts)
    assert len(places) == 50
    last = Snapshot(b"b" * 99_998 + b"ff")
    assert set(pick(hall, last, 2, parts)) == {99_998, 99_999}
    assert pick(hall, last, 1, parts) == ()
    gaps = Snapshot(b"fbb" * 33_333 + b"f")
    places = pick(hall, gaps, 50, parts)
    assert len(set(places)) == 50
    assert {place % 3 for place in places} == {0}
    states = bytes(b"bf"[n % 7 > 1 and n % 11 > 0] for n in range(100_000))
    for quantity in range(1, 51):
        places = pick(hall, Snapshot(states), quantity, parts)
        assert {states[place : place + 1] for place in places} == {b"f"}
        assert len(set(places)) == quantity


@often
@given(halls(), st.none() | st.sampled_from("ABCDX"), st.integers(-3, 140), st.integers(1, 40))
def test_free_page(made: tuple[Hall, bytes], name: str | None, past: int, limit: int) -> None:
    """The free places after an id, in order, with the id to go on from if there are more."""
    hall, states = made
    after = FIRST + past
    expected = [
        (part, FIRST + place)
        for part in hall.sections
        for place in range(part.start, part.end)
        if states[place : place + 1] == b"f" and name in (None, part.name) and FIRST + place > after
    ]
    assert list(hall._free(states, name, after)) == expected
    snapshot = Snapshot(states)
    page = hall.free_page(snapshot, name, after, limit)
    assert page.items.count(b'"id":') == min(limit, len(expected))
    assert page.items == b",".join(hall._seat_json(*each) for each in expected[:limit])
    assert page.next_after == (expected[limit - 1][1] if len(expected) > limit else None)
    assert hall.free_page(snapshot, name, after, limit) is page


@often
@given(st.text("fhbx", min_size=1), st.integers(0, 2**63), st.integers(0, 2**64 - 1), st.binary())
def test_snapshot_comes_back_from_the_cache(
    states: str, server: int, xmin: int, generation: bytes
) -> None:
    """With its states, its server and its xmin; generation and expiry are the reader's to say."""
    packed = Snapshot(states.encode(), server, xmin, b"old", 1.0).pack()
    expected = Snapshot(states.encode(), server, xmin, generation, 2.0)
    assert Snapshot.unpack(packed, generation, 2.0) == expected


@often
@given(st.dictionaries(st.integers(0, 9), st.sampled_from("fhbx")))
def test_snapshot_updated(changes: dict[int, str]) -> None:
    """The changed places and no others; the snapshot itself stays as it was."""
    snapshot = Snapshot(b"fhbxfhbxff")
    updated = snapshot.updated((place, ord(state)) for place, state in changes.items())
    assert list(updated.decode()) == [changes.get(n, old) for n, old in enumerate("fhbxfhbxff")]
    assert snapshot.states == b"fhbxfhbxff"


def test_matching() -> None:
    """Sections by name and by ticket type; one without a type sells them all."""
    a, b, c = (hall := hall_of([[2], [2], 3], [1, 2, None])).sections
    assert hall.matching(None, None) == [a, b, c]
    assert hall.matching("B", None) == [b]
    assert hall.matching(None, 1) == [a, c]
    assert hall.matching("A", 2) == hall.matching("X", None) == []


def test_side_by_side() -> None:
    """One stretch of one row; for places without numbers there is no telling."""

    def seat(number: int, section: str = "A", row: str | None = "1") -> SoldSeat:
        return SoldSeat(number, section, row, None, None, 0)

    assert side_by_side([seat(4)])
    assert side_by_side([seat(4), seat(5), seat(6)])
    for others in ([seat(6)], [seat(5, row="2")], [seat(5, "B")], [seat(5), seat(7)]):
        assert side_by_side([seat(4), *others]) is False
    assert side_by_side([seat(4, row=None), seat(5, row=None)]) is None
    assert side_by_side([seat(4), seat(5, "B", None)]) is False
    assert side_by_side([seat(4, "B", None), seat(5)]) is False
