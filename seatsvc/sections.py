"""The sections of a hall, and the best places in them for a group."""

import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

CANDIDATES_MAX = 32
RUNS_MAX = 1000
GAPS_MAX = 32
FREE_RUN = re.compile(rb"f+")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a hall: places `start` to `end`, counted from the hall's first."""

    name: str
    start: int
    end: int
    general_admission: bool
    ticket_type_id: int | None
    row_starts: Sequence[int]  # and at last `end`; empty for general admission

    def row_end(self, place: int) -> int:
        """Where the row of this place ends."""
        starts = self.row_starts
        return starts[bisect_right(starts, place)] if starts else self.end


def best_places(states: bytearray, sections: list[Section], quantity: int) -> list[int]:
    """Together without leaving a single place over; else together; else anywhere."""
    if all(states.find(b"f", part.start, part.end) < 0 for part in sections):
        return []  # most of a flash sale comes when all is sold
    clean: list[int] = []
    orphaning: list[int] = []
    for part in sections:
        if part.general_admission:
            if not clean and (places := _somewhere(states, part, quantity)):
                return places
            continue
        for start, length in _runs(states, part, quantity):
            ends = {start, start + length - quantity}
            (orphaning if length - quantity == 1 else clean).extend(ends)
            if len(clean) >= CANDIDATES_MAX:
                break
        if len(clean) >= CANDIDATES_MAX:
            break
    together = clean or orphaning[:CANDIDATES_MAX]
    if together:
        first = secrets.choice(together)
        return list(range(first, first + quantity))
    return _apart(states, sections, quantity)


def _runs(states: bytearray, part: Section, quantity: int) -> Iterator[tuple[int, int]]:
    """The runs of free places of a row that are long enough: where they start, how long."""
    place, pattern = part.start, b"f" * quantity
    while (place := states.find(pattern, place, part.end)) >= 0:
        end = _run_end(states, place, part.row_end(place))
        if end - place >= quantity:
            yield place, end - place
        place = end


def _run_end(states: bytearray, place: int, limit: int) -> int:
    match = FREE_RUN.match(states, place, limit)
    return match.end() if match else place


def _somewhere(states: bytearray, part: Section, quantity: int) -> list[int]:
    """Free places of a general-admission area, from a random one on, round its end."""
    start = part.start + secrets.randbelow(part.end - part.start)
    places = _free_from(states, start, part.end, quantity)
    if len(places) < quantity:
        places += _free_from(states, part.start, start, quantity - len(places))
    return places if len(places) == quantity else []


def _free_from(states: bytearray, place: int, end: int, most: int) -> list[int]:
    places: list[int] = []
    while len(places) < most and (place := states.find(b"f", place, end)) >= 0:
        places.append(place)
        place += 1
    return places


def _apart(states: bytearray, sections: list[Section], quantity: int) -> list[int]:
    """Within one section if it has enough, else anywhere."""
    for part in sections:
        if states.count(b"f", part.start, part.end) >= quantity:
            return _from_gaps(states, [part], quantity)
    return _from_gaps(states, sections, quantity)


def _from_gaps(states: bytearray, sections: list[Section], quantity: int) -> list[int]:
    """In as few pieces as possible that leave no single place over; if need be, any pieces."""
    runs = chain.from_iterable(_runs(states, part, 1) for part in sections)
    gaps = sorted(islice(runs, RUNS_MAX), key=lambda run: -run[1])
    plans: dict[int, list[tuple[int, int]]] = {0: []}
    too_many = [(0, 0)] * (quantity + 2)
    for start, length in gaps[:GAPS_MAX] + gaps[GAPS_MAX:][-1:]:  # and the shortest
        for taken, plan in list(plans.items()):
            for piece in range(1, min(length, quantity - taken) + 1):
                better = len(plan) + 1 < len(plans.get(taken + piece, too_many))
                if length - piece != 1 and better:
                    plans[taken + piece] = [*plan, (start, piece)]
    if quantity in plans:
        places = [
            place for start, piece in plans[quantity] for place in range(start, start + piece)
        ]
    else:
        places = [place for start, length in gaps for place in range(start, start + length)]
    return sorted(places[:quantity]) if len(places) >= quantity else []
