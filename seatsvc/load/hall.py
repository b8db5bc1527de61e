"""An event's places as its layout names them, and what a read shows of them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from seatsvc.load.client import LoadError

FREE_IS_ONE = str.maketrans("fhbx", "1000")


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the hall: its free places as bits, and the states of its numbered seats."""

    free: int
    states: str
    counts: dict[str, int]


class Hall:
    """Gives each place a bit: first the numbered seats, in order, then others as they appear.

    Raises LoadError where this is no layout.
    """

    def __init__(self, layout: Any) -> None:
        try:
            self.event_id = int(layout["event_id"])
            sections = layout["sections"]
            self.sizes = [len(list(_seat_ids(section))) for section in sections]
            self.seat_ids = [seat for section in sections for seat in _seat_ids(section)]
        except (KeyError, TypeError, ValueError):
            raise LoadError("The layout of the event cannot be read.") from None
        self._bits = {seat: 1 << n for n, seat in enumerate(self.seat_ids)}
        self.seen = lru_cache(64)(self._seen)
        self.listed = lru_cache(64)(self._listed)

    def bits(self, seats: Iterable[int]) -> int:
        """These places."""
        found = 0
        for seat in seats:
            found |= self._bits.setdefault(seat, 1 << len(self._bits))
        return found

    def ids(self, bits: int) -> list[int]:
        """The places of these bits."""
        return [seat for seat, bit in self._bits.items() if bits & bit]

    def pick(self, seen: Seen, random: Random) -> int | None:
        """A numbered seat that is free there, or None."""
        start = random.randrange(len(seen.states) or 1)
        place = seen.states.find("f", start)
        if place < 0:
            place = seen.states.find("f")
        return self.seat_ids[place] if place >= 0 else None

    def _seen(self, body: bytes) -> Seen:
        """What this availability shows. Places without numbers are in the counts only.

        Raises ValueError.
        """
        try:
            document = json.loads(body)
            counts = {name: int(count) for name, count in document["counts"].items()}
            pairs = zip(document["sections"], self.sizes, strict=True)
            states = "".join(section["states"] for section, size in pairs if size)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no availability: {error}") from error
        if len(states) != len(self.seat_ids):
            raise ValueError("the availability does not fit the layout")
        return Seen(int("0" + states[::-1].translate(FREE_IS_ONE), 2), states, counts)

    def _listed(self, body: bytes) -> int:
        """The bits of what this answer of `GET /seats` shows.

        Raises ValueError.
        """
        try:
            return self.bits(int(seat["id"]) for seat in json.loads(body)["items"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"no seats: {error}") from error


def _seat_ids(section: Any) -> Iterator[int]:
    if not section["general_admission"]:
        for row in section["rows"]:
            yield from (int(seat["id"]) for seat in row["seats"])
