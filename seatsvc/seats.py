"""Which places are free: the availability behind its cache.

The cache protocol: a reader takes an entry only if it was filled for the event's present
generation, which every write changes; one reader fills, holding a token, and its entry is stored
only if no write came between and the token still lives. A process keeps its own copy of an entry
no longer than Redis does, and asks for the generation each time. With Sentinel a generation also
names the era, and counts only while all workers agree on the primary.
"""

import asyncio
import json
import secrets
from collections import OrderedDict
from contextlib import suppress
from uuid import UUID

import asyncpg

from seatsvc import db, metrics
from seatsvc.errors import BY_CODE, MixedEvents, NotFound
from seatsvc.halls import Counts, Hall, Page, Snapshot
from seatsvc.lanes import Lane
from seatsvc.locks import (
    FILL_TTL_MS,
    GENERATION_TTL_MS,
    Claim,
    SeatLocks,
    entry_key,
    generation_key,
)
from seatsvc.scripts import Redis, RedisDown, Script
from seatsvc.sections import Section
from seatsvc.settings import Settings

READ = Script("read")
STORE = Script("store")
SQL = db.queries("seats")

FILL_WAIT_S = 0.050
FILL_POLL_S = 0.005
HALLS_MAX = 256
SLOW_QUERY_S = 30


class Seats:
    """Finds halls and answers what is free in them."""

    def __init__(
        self, database: db.Database, redis: Redis, locks: SeatLocks, settings: Settings
    ) -> None:
        self._db = database
        self._redis = redis
        self._locks = locks
        self._cache_ttl_ms = settings.cache_ttl_ms
        self._halls: OrderedDict[int, Hall] = OrderedDict()
        self._looks: dict[int, Lane[Hall, Snapshot]] = {}
        self._load = Lane(self._load_each)

    @property
    def waiting(self) -> int:
        """How many readers wait for a look."""
        return sum(map(len, self._looks.values()))

    async def free(self, event_id: int, section: str | None, after: int, limit: int) -> Page:
        """A page of free seats, as of no earlier than this call.

        Raises NotFound.
        """
        hall = await self.hall(event_id)
        snapshot = await self.look(hall)
        if hall.numbered is None:
            rows = await self._db.fetch(SQL["get_numbered_seats"], *_range(hall))
            hall.numbered = {row["id"]: row["json"].encode() for row in rows}
        return hall.free_page(snapshot, section, after, limit)

    async def availability(self, event_id: int) -> tuple[bytes, str]:
        """All states as JSON, as of no earlier than this call, and their version.

        Raises NotFound.
        """
        hall = await self.hall(event_id)
        snapshot = await self.look(hall)
        return hall.availability(snapshot), hall.counts(snapshot).version

    async def counts(self, event_id: int) -> Counts:
        """How many places are in which state, as of no earlier than this call.

        Raises NotFound.
        """
        hall = await self.hall(event_id)
        return hall.counts(await self.look(hall))

    async def layout(self, event_id: int) -> bytes:
        """The whole plan as JSON. It never changes.

        Raises NotFound.
        """
        hall = await self.hall(event_id)
        await self.look(hall)  # an event that another worker deleted has no plan any more
        if hall.layout is None:
            row = await self._db.one(SQL["get_layout"], event_id)
            hall.layout = row["json"].encode()
        return hall.layout

    async def block(
        self, event_id: int, owner: UUID | None, seat_ids: list[int], *, off_sale: bool
    ) -> None:
        """Take house seats off sale, or put them back: all of them, or none.

        Without an owner, whoever's event it is. Raises NotFound, MixedEvents, SeatTaken,
        SeatHeld, Busy.
        """
        hall = await self.hall_of(tuple(seat_ids))
        mixed = hall.event_id != event_id
        wanted = [] if mixed else seat_ids  # with none of them: is it the owner's event?
        try:
            row = await self._db.fetchrow(SQL["block_seats"], event_id, owner, wanted, off_sale)
        finally:
            await self._locks.finish(Claim(event_id))
        if row is None:
            raise NotFound(f"There is no event {event_id}, or it is not yours.")
        if mixed:
            raise MixedEvents("These seats are not of this event.")
        if row["blame"]:
            seats = json.loads(row["blame"])
            raise BY_CODE[seats[0]["reason"]](seats=seats)

    async def look(self, hall: Hall) -> Snapshot:
        """The states as of no earlier than this call; readers that meet share one look."""
        look = self._looks.get(hall.event_id)
        if look is None:
            look = self._looks[hall.event_id] = Lane(self._look_once, crowd=64)
        return await look(hall)

    async def recent(self, hall: Hall) -> Snapshot:
        """The states of at most a cache's lifetime ago: a hint, for choosing places to try."""
        fresh = asyncio.get_running_loop().time() < hall.snapshot.expires_at
        return hall.snapshot if fresh else await self.look(hall)

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
        first = await self._hall_of_seat(seat_ids[0])
        if first and all(seat_id in first for seat_id in seat_ids):
            return first
        halls = [await self._hall_of_seat(seat_id) for seat_id in seat_ids]
        if nowhere := [i for i, hall in zip(seat_ids, halls, strict=True) if hall is None]:
            blame = [{"id": seat_id, "reason": "not_found"} for seat_id in nowhere]
            raise NotFound(f"There is no seat {nowhere[0]}.", seats=blame)
        raise MixedEvents()

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
        sections = await self._load_sections(event_id, place["first_seat_id"])
        self._halls[event_id] = hall = Hall(event_id, place["first_seat_id"], sections)
        self._forget_oldest()
        return hall

    async def _load_sections(self, event_id: int, first_seat_id: int) -> list[Section]:
        starts: dict[str, list[int]] = {}
        for row in await self._db.fetch(SQL["get_rows"], event_id):
            starts.setdefault(row["section"], []).append(row["first_seat_id"] - first_seat_id)
        sections = []
        for row in await self._db.fetch(SQL["get_sections"], event_id):
            start = row["first_seat_id"] - first_seat_id
            end = start + row["places"]
            rows = [*starts[row["name"]], end] if row["name"] in starts else []
            kind = row["general_admission"], row["ticket_type_id"]
            sections.append(Section(row["name"], start, end, *kind, rows))
        return sections

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
        token, era = secrets.token_hex(8), self._redis.era
        try:
            while True:
                asked_at, copy = loop.time(), hall.snapshot
                known = copy.generation if asked_at < copy.expires_at else b""
                match await self._redis.run_agreed(
                    era, READ, self._keys(hall), known, token, FILL_TTL_MS, GENERATION_TTL_MS, era
                ):
                    case [b"same"]:
                        metrics.looks("same").inc()
                        return copy
                    case [b"entry", generation, body, ttl_ms]:
                        metrics.looks("entry").inc()
                        hall.snapshot = Snapshot.unpack(body, generation, asked_at + ttl_ms / 1000)
                        return hall.snapshot
                    case [b"fill", generation]:
                        metrics.looks("fill").inc()
                        return await self._fill(hall, generation, token, era)
                metrics.looks("wait").inc()
                if loop.time() > deadline:
                    break
                await asyncio.sleep(FILL_POLL_S)
        except RedisDown:
            pass
        metrics.looks("database").inc()
        return await self._read(hall)

    async def _fill(self, hall: Hall, generation: bytes, token: str, era: str) -> Snapshot:
        snapshot = await self._read(hall, generation)
        ttl_ms = int((snapshot.expires_at - asyncio.get_running_loop().time()) * 1000)
        if ttl_ms > 0:
            with suppress(RedisDown):
                body = snapshot.pack()
                await self._redis.run(STORE, self._keys(hall), generation, token, body, ttl_ms, era)
        return snapshot

    async def _read(self, hall: Hall, generation: bytes = b"") -> Snapshot:
        """From PostgreSQL: what changed since the snapshot we have."""
        started_at, base = asyncio.get_running_loop().time(), hall.snapshot
        row = await self._changed(hall, base.horizon)
        if base.horizon and row["server"] != base.server:
            base = hall.untouched()
            row = await self._changed(hall, base.horizon)
        places = (seat_id - hall.first_seat_id for seat_id in row["ids"])
        states = base.updated(zip(places, row["states"].encode(), strict=True))
        ttl_s = self._cache_ttl_ms / 1000
        if row["expires_in_s"] is not None:
            ttl_s = min(ttl_s, row["expires_in_s"])
        hall.snapshot = Snapshot(
            states, row["server"], row["horizon"], generation, started_at + ttl_s
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


def _range(hall: Hall) -> tuple[int, int]:
    return hall.first_seat_id, hall.first_seat_id + hall.capacity - 1
