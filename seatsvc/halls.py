"""Halls in memory: the layout, which never changes, and snapshots of who has which place.

Everything here is plain computing on what was read elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from seatsvc.sections import Section, best_places

PAGES_MAX = 64
STATES = {"free": b"f", "held": b"h", "booked": b"b", "blocked": b"x"}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many places are in which state, and a name for exactly this availability."""

    free: int
    held: int
    booked: int
    blocked: int
    version: str

    def by_state(self) -> dict[str, int]:
        """The counts alone."""
        return {name: getattr(self, name) for name in STATES}


@dataclass(frozen=True, slots=True)
class Page:
    """Free seats as JSON objects, and the id after which the next page starts."""

    items: bytes
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of each place at one moment: f free, h held, b booked, x blocked.

    It includes every transaction before `horizon` of the server start `server`.
    """

    states: bytes
    server: int = 0
    horizon: int = 0
    generation: bytes = b""
    expires_at: float = 0.0  # seconds on the event loop's clock
    made: dict[object, object] = field(default_factory=dict)  # what was rendered from it

    def pack(self) -> bytes:
        """As the cache keeps it."""
        return b"%d %d %s" % (self.server, self.horizon, self.states)

    @staticmethod
    def unpack(body: bytes, generation: bytes, expires_at: float) -> "Snapshot":
        """From the cache."""
        server, horizon, states = body.split(b" ", 2)
        return Snapshot(states, int(server), int(horizon), generation, expires_at)

    def free(self, sections: list[Section]) -> int:
        """How many places of these sections are free."""
        return sum(self.states.count(b"f", part.start, part.end) for part in sections)

    def updated(self, changes: Iterator[tuple[int, int]]) -> bytes:
        """The states after these (place, state) changes."""
        states = bytearray(self.states)
        for place, state in changes:
            states[place] = state
        return bytes(states)


def count(states: bytes | bytearray, start: int = 0, end: int | None = None) -> dict[str, int]:
    """How many of the places are in which state."""
    return {name: states.count(state, start, end) for name, state in STATES.items()}


class Hall:
    """One event's places, and the last snapshot seen in this process."""

    def __init__(self, event_id: int, first_seat_id: int, sections: Sequence[Section]) -> None:
        self.event_id = event_id
        self.first_seat_id = first_seat_id
        self.sections = sections
        self.capacity = sections[-1].end
        self.snapshot = self.untouched()
        self.numbered: dict[int, bytes] | None = None  # each numbered seat's JSON, once needed
        self.layout: bytes | None = None  # likewise
        self._hint = bytearray(self.snapshot.states)
        self._hint_of = self.snapshot

    def __contains__(self, seat_id: int) -> bool:
        return self.first_seat_id <= seat_id < self.first_seat_id + self.capacity

    def untouched(self) -> Snapshot:
        """All places free: what the hall was when it was created."""
        return Snapshot(b"f" * self.capacity)

    def free_page(self, snapshot: Snapshot, section: str | None, after: int, limit: int) -> Page:
        """The first free places with ids over `after`."""
        key = ("page", section, after, limit)
        page = snapshot.made.get(key)
        if not isinstance(page, Page):
            page = self._render_page(snapshot, section, after, limit)
            if len(snapshot.made) < PAGES_MAX:
                snapshot.made[key] = page
        return page

    def availability(self, snapshot: Snapshot) -> bytes:
        """The whole hall's states as JSON."""
        body = snapshot.made.get("availability")
        if not isinstance(body, bytes):
            body = snapshot.made["availability"] = self._render_availability(snapshot)
        return body

    def counts(self, snapshot: Snapshot) -> Counts:
        """The hall's counts; equal versions mean equal states."""
        counts = snapshot.made.get("counts")
        if not isinstance(counts, Counts):
            version = hashlib.blake2b(snapshot.states, digest_size=8).hexdigest()
            counts = snapshot.made["counts"] = Counts(**count(snapshot.states), version=version)
        return counts

    def matching(self, section: str | None, ticket_type_id: int | None) -> list[Section]:
        """The sections of this name in which this ticket type is sold; None: whichever."""
        return [
            part
            for part in self.sections
            if section in (None, part.name)
            and (
                None in (ticket_type_id, part.ticket_type_id)
                or ticket_type_id == part.ticket_type_id
            )
        ]

    def pick(self, snapshot: Snapshot, sections: list[Section], quantity: int) -> tuple[int, ...]:
        """The best free places that nobody else in this process is being given; none: too few.

        Side by side if possible, and so that no single place is left over; among equally good
        ones at random, so that buyers who come together do not meet at the same seats.
        """
        if self._hint_of is not snapshot:
            self._hint, self._hint_of = bytearray(snapshot.states), snapshot
        places = best_places(self._hint, sections, quantity)
        for place in places:
            self._hint[place] = ord("p")
        return tuple(self.first_seat_id + place for place in places)

    def give_back(self, seat_ids: Iterable[int]) -> None:
        """Picked places that were not taken after all may be picked again."""
        for seat_id in seat_ids:
            place = seat_id - self.first_seat_id
            if self._hint[place] == ord("p"):
                self._hint[place] = ord("f")

    def is_in(self, part: Section, seat_ids: Iterable[int]) -> bool:
        """Is one of the seats in this section?"""
        return any(part.start <= seat_id - self.first_seat_id < part.end for seat_id in seat_ids)

    def _render_page(self, snapshot: Snapshot, section: str | None, after: int, limit: int) -> Page:
        free = list(islice(self._free(snapshot.states, section, after), limit + 1))
        items = b",".join(self._seat_json(part, seat_id) for part, seat_id in free[:limit])
        return Page(items, free[limit - 1][1] if len(free) > limit else None)

    def _free(self, states: bytes, name: str | None, after: int) -> Iterator[tuple[Section, int]]:
        for part in self.sections:
            if name not in (None, part.name):
                continue
            place = max(part.start, after + 1 - self.first_seat_id)
            while (place := states.find(b"f", place, part.end)) >= 0:
                yield part, self.first_seat_id + place
                place += 1

    def _seat_json(self, part: Section, seat_id: int) -> bytes:
        if not part.general_admission and self.numbered:
            return self.numbered[seat_id]
        seat = {
            "id": seat_id,
            "event_id": self.event_id,
            "section": part.name,
            "row": None,
            "number": None,
            "ticket_type_id": part.ticket_type_id,
            "accessible": False,
        }
        return json.dumps(seat, separators=(",", ":")).encode()

    def _render_availability(self, snapshot: Snapshot) -> bytes:
        states, counts = snapshot.states, self.counts(snapshot)
        body = {
            "event_id": self.event_id,
            "version": counts.version,
            "counts": count(states),
            "sections": [
                {
                    "name": part.name,
                    **count(states, part.start, part.end),
                    "states": states[part.start : part.end].decode(),
                }
                for part in self.sections
            ],
        }
        return json.dumps(body, separators=(",", ":")).encode()
