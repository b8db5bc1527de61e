"""Halls and what is free in them: the layout, and the availability behind its cache.

The cache protocol: a reader takes an entry only if it was filled for the event's present
generation, which every write changes; one reader fills, holding a token, and its entry is stored
only if no write came between and the token still lives. A process keeps its own copy of an entry
no longer than Redis does, and asks for the generation each time.
"""

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import asyncpg

from seatsvc import db
from seatsvc.errors import MixedEvents, NotFound
from seatsvc.lanes import Lane
from seatsvc.locks import GENERATION_TTL_MS, entry_key, generation_key
from seatsvc.scripts import Redis, RedisDown, Script
from seatsvc.settings import Settings

READ = Script("read")
STORE = Script("store")
SQL = db.queries("seats")

FILL_TTL_MS = 250
FILL_WAIT_S = 0.050
FILL_POLL_S = 0.005
STALE_MARGIN_S = 0.100
HALLS_MAX = 256
PAGES_MAX = 64


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a hall; its places have consecutive ids."""

    name: str
    first_seat_id: int
    places: int
    general_admission: bool
    ticket_type_id: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of each place of a hall at one moment: f free, h held, b booked, x blocked.

    It includes every transaction before `xmin` of the server start `server`.
    """

    states: bytes
    server: int = 0
    xmin: int = 0
    generation: bytes = b""
    expires_at: float = 0.0  # seconds on the event loop's clock
    pages: dict[object, "Page"] = field(default_factory=dict)

    def pack(self) -> bytes:
        """As the cache keeps it."""
        return b"%d %d %s" % (self.server, self.xmin, self.states)

    @staticmethod
    def unpack(body: bytes, generation: bytes, expires_at: float) -> "Snapshot":
        """From the cache."""
        server, xmin, states = body.split(b" ", 2)
        return Snapshot(states, int(server), int(xmin), generation, expires_at)


@dataclass(frozen=True, slots=True)
class Page:
    """Free seats as JSON objects, and the id after which the next page starts."""

    items: bytes
    next_after: int | None


class Hall:
    """One event's places: their layout, which is for ever, and the last snapshot seen here."""

    def __init__(
        self, place: asyncpg.Record, sections: list[Section], numbered: dict[int, bytes]
    ) -> None:
        self.event_id: int = place["event_id"]
        self.first_seat_id: int = place["first_seat_id"]
        self.capacity: int = place["capacity"]
        self.sections = sections
        self.snapshot = self.untouched()
        self._numbered = numbered

    def __contains__(self, seat_id: int) -> bool:
        return self.first_seat_id <= seat_id < self.first_seat_id + self.capacity

    def untouched(self) -> Snapshot:
        """All places free: what the hall was when it was created."""
        return Snapshot(b"f" * self.capacity)

    def free_page(self, snapshot: Snapshot, section: str | None, after: int, limit: int) -> Page:
        """The first free places with ids over `after`, remembered with the snapshot."""
        key = (section, after, limit)
        page = snapshot.pages.get(key)
        if page is None:
            page = self._render(snapshot, section, after, limit)
            if len(snapshot.pages) < PAGES_MAX:
                snapshot.pages[key] = page
        return page

    def _render(self, snapshot: Snapshot, section: str | None, after: int, limit: int) -> Page:
        free = list(islice(self._free(snapshot, section, after), limit + 1))
        shown = free[:limit]
        items = b",".join(self._seat_json(part, seat_id) for part, seat_id in shown)
        return Page(items, shown[-1][1] if len(free) > limit else None)

    def _free(
        self, snapshot: Snapshot, section: str | None, after: int
    ) -> Iterator[tuple[Section, int]]:
        for part in self.sections:
            if section not in (None, part.name):
                continue
            end = part.first_seat_id + part.places - self.first_seat_id
            place = max(part.first_seat_id, after + 1) - self.first_seat_id
            while (place := snapshot.states.find(b"f", place, end)) >= 0:
                yield part, self.first_seat_id + place
                place += 1

    def _seat_json(self, part: Section, seat_id: int) -> bytes:
        return (
            self._numbered.get(seat_id)
            or json.dumps(
                {
                    "id": seat_id,
                    "event_id": self.event_id,
                    "section": part.name,
                    "row": None,
                    "number": None,
                    "ticket_type_id": part.ticket_type_id,
                    "accessible": False,
                },
                separators=(",", ":"),
            ).encode()
        )


class Seats:
    """Finds halls and answers what is free in them."""

    def __init__(self, database: db.Database, redis: Redis, settings: Settings) -> None:
        self._db = database
        self._redis = redis
        self._cache_ttl_ms = settings.cache_ttl_ms
        self._halls: OrderedDict[int, Hall] = OrderedDict()
        self._looks: dict[int, Lane[Hall, Snapshot]] = {}
        self._load = Lane(self._load_each)

    @property
    def stale_s(self) -> float:
        """How long a cache that missed an invalidation may still show what was before."""
        return (self._cache_ttl_ms + FILL_TTL_MS) / 1000 + STALE_MARGIN_S

    async def free(self, event_id: int, section: str | None, after: int, limit: int) -> Page:
        """A page of free seats, as of no earlier than this call.

        Raises NotFound.
        """
        hall = await self.hall(event_id)
        snapshot = await self.availability(hall)
        return hall.free_page(snapshot, section, after, limit)

    async def availability(self, hall: Hall) -> Snapshot:
        """The states as of no earlier than this call; readers that meet share one look."""
        look = self._looks.get(hall.event_id)
        if look is None:
            look = self._looks[hall.event_id] = Lane(self._look_once)
        return await look(hall)

    async def hall(self, event_id: int) -> Hall:
        """The event's hall.

        Raises NotFound.
        """
        hall = self._halls.get(event_id)
        if hall is None:
            hall = await self._load(("find_hall", event_id))
        if hall is None:
            raise NotFound(f"There is no event {event_id}.")
        return hall

    async def hall_of(self, seat_ids: tuple[int, ...]) -> Hall:
        """The hall that holds all these seats.

        Raises NotFound for seats that are nowhere, MixedEvents when they are in several halls.
        """
        halls = [await self._hall_of_seat(seat_id) for seat_id in seat_ids]
        if nowhere := [i for i, hall in zip(seat_ids, halls, strict=True) if hall is None]:
            blame = [{"id": seat_id, "reason": "not_found"} for seat_id in nowhere]
            raise NotFound(f"There is no seat {nowhere[0]}.", seats=blame)
        found = {hall.event_id: hall for hall in halls if hall is not None}
        if len(found) > 1:
            raise MixedEvents()
        return next(iter(found.values()))

    async def _hall_of_seat(self, seat_id: int) -> Hall | None:
        for hall in reversed(self._halls.values()):
            if seat_id in hall:
                return hall
        return await self._load(("find_hall_of_seat", seat_id))

    async def _load_each(self, wanted: list[tuple[str, int]]) -> list[Hall | None]:
        loaded = {each: await self._load_hall(*each) for each in set(wanted)}
        return [loaded[each] for each in wanted]

    async def _load_hall(self, query: str, wanted: int) -> Hall | None:
        place = await self._db.fetchrow(SQL[query], wanted)
        if place is None:
            return None
        event_id: int = place["event_id"]
        if event_id in self._halls:
            return self._halls[event_id]
        rows = await self._db.fetch(SQL["get_sections"], event_id)
        numbered = await self._db.fetch(SQL["get_numbered_seats"], event_id)
        seats = {row["id"]: row["json"].encode() for row in numbered}
        self._halls[event_id] = hall = Hall(place, [Section(**row) for row in rows], seats)
        self._forget_oldest()
        return hall

    def _forget_oldest(self) -> None:
        while len(self._halls) > HALLS_MAX:
            event_id, _ = self._halls.popitem(last=False)
            self._looks.pop(event_id, None)

    async def _look_once(self, halls: list[Hall]) -> list[Snapshot]:
        snapshot = await self._look(halls[-1])
        return [snapshot] * len(halls)

    async def _look(self, hall: Hall) -> Snapshot:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FILL_WAIT_S
        token = secrets.token_hex(8)
        try:
            while True:
                asked_at, copy = loop.time(), hall.snapshot
                known = copy.generation if asked_at < copy.expires_at else b""
                match await self._redis.run(
                    READ, self._keys(hall), known, token, FILL_TTL_MS, GENERATION_TTL_MS
                ):
                    case [b"same"]:
                        return copy
                    case [b"entry", generation, body, ttl_ms]:
                        hall.snapshot = Snapshot.unpack(body, generation, asked_at + ttl_ms / 1000)
                        return hall.snapshot
                    case [b"fill", generation]:
                        return await self._fill(hall, generation, token)
                if loop.time() > deadline:
                    break
                await asyncio.sleep(FILL_POLL_S)
        except RedisDown:
            pass
        return await self._read(hall)

    async def _fill(self, hall: Hall, generation: bytes, token: str) -> Snapshot:
        snapshot = await self._read(hall, generation)
        ttl_ms = int((snapshot.expires_at - asyncio.get_running_loop().time()) * 1000)
        if ttl_ms > 0:
            with suppress(RedisDown):
                body = snapshot.pack()
                await self._redis.run(STORE, self._keys(hall), generation, token, body, ttl_ms)
        return snapshot

    async def _read(self, hall: Hall, generation: bytes = b"") -> Snapshot:
        """From PostgreSQL: what changed since the snapshot we have."""
        started_at, base = asyncio.get_running_loop().time(), hall.snapshot
        row = await self._changed(hall, base.xmin)
        if base.xmin and (row["server"] != base.server or row["xmin"] < base.xmin):
            base = hall.untouched()
            row = await self._changed(hall, base.xmin)
        states = bytearray(base.states)
        for seat_id, state in zip(row["ids"], row["states"].encode(), strict=True):
            states[seat_id - hall.first_seat_id] = state
        ttl_s = self._cache_ttl_ms / 1000
        if row["expires_in_s"] is not None:
            ttl_s = min(ttl_s, row["expires_in_s"])
        hall.snapshot = Snapshot(
            bytes(states), row["server"], row["xmin"], generation, started_at + ttl_s
        )
        return hall.snapshot

    async def _changed(self, hall: Hall, since: int) -> asyncpg.Record:
        row = await self._db.fetchrow(SQL["get_changed_states"], hall.event_id, since)
        if row is None or not row["present"]:
            self._halls.pop(hall.event_id, None)
            raise NotFound(f"There is no event {hall.event_id}.")
        return row

    @staticmethod
    def _keys(hall: Hall) -> list[str]:
        event_id = hall.event_id
        return [generation_key(event_id), entry_key(event_id), f"{{{event_id}}}:fill"]
