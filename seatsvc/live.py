"""Live availability: what changes in an event, for all who watch it.

One task for each watched event looks when Redis says that something was written, and tells what is
new. Watchers share what was told, and each remembers only how far it has come: a slow one costs
nothing, and one that has missed too much starts again from a snapshot.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from seatsvc import patience
from seatsvc.errors import NotFound, Unavailable
from seatsvc.halls import Hall, Snapshot
from seatsvc.lanes import Lane
from seatsvc.locks import generation_key
from seatsvc.scripts import Redis, Subscription
from seatsvc.seats import Seats

WATCHERS_MAX = 5000
KEPT_MAX = 100  # changes, for those who come back or are slow
SEATS_MAX = 2000  # in a change; beyond them a snapshot is shorter
# Redis may be away, or a message of it get lost.
LOOK_AGAIN_S = 1.0
SILENCE_S = 15.0
# A crowd is told less often, so that the worker has time for its bookings.
TOLD_PER_S = 16_500
REST_MAX_S = 0.12
AT_ONCE = 10  # watchers; then whatever else waits has its turn
BREATH_S = 0.001  # until we look again whether others still wait for answers
COMMENT = b":\n\n"
CHUNK = 4096


class Watch:
    """One watcher's way through what is told of an event."""

    def __init__(self, broadcast: "Broadcast", last_id: str | None) -> None:
        self._broadcast = broadcast
        self._heard = broadcast.number_of(last_id)

    async def next(self) -> bytes:
        """What is new, as Server-Sent Events; a comment after a silence; empty at the end."""
        broadcast = self._broadcast
        if self._heard == broadcast.number and not broadcast.ended:
            await broadcast.news()
        if broadcast.ended:
            return b""
        text = broadcast.since(self._heard)
        self._heard = broadcast.number
        return text or COMMENT

    def close(self) -> None:
        """Watch no longer."""
        self._broadcast.watchers -= 1


class Broadcast:
    """Tells of one event."""

    def __init__(self, seats: Seats, hall: Hall) -> None:
        self._seats = seats
        self._hall = hall
        # Each look begins after the one before has ended: what is told never goes back in time.
        self._look: Lane[None, None] = Lane(self._look_once, calls_max=1, waiting_max=WATCHERS_MAX)
        self._snapshot = hall.untouched()
        # Each change with the version that it led to; of the first, only the version counts.
        self._kept: deque[tuple[str, bytes]] = deque([("", b"")], maxlen=1 + KEPT_MAX)
        self._due = asyncio.Event()
        self._waiting: deque[asyncio.Future[None]] = deque()  # for news
        self._untold = False
        self.number = 0  # of changes so far
        self.watchers = 0
        self.ended = False

    async def look(self) -> None:
        """Know the states as of no earlier than this call.

        Raises NotFound, Unavailable.
        """
        await self._look(None)

    def look_soon(self) -> None:
        """Something was written, or may have been."""
        self._due.set()

    def end(self) -> None:
        """Let every watcher go."""
        self.ended = True
        self._due.set()
        self._wake(len(self._waiting))

    async def news(self) -> None:
        """Wait until there is something new, or nothing was for a while."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def number_of(self, version: str | None) -> int | None:
        """The last change that led to this version; None if it is not known any more."""
        for back, (known, _) in enumerate(reversed(self._kept)):
            if known == version:
                return self.number - back
        return None

    def since(self, number: int | None) -> bytes:
        """The changes after this one, or else how things are."""
        behind = len(self._kept) if number is None else self.number - number
        if behind >= len(self._kept):
            return self._as_snapshot()
        return b"".join(self._kept[-back][1] for back in range(behind, 0, -1))

    async def run(self) -> None:
        """Tell until nobody is left to be told, or the event is gone."""
        patience.lift()
        clock = asyncio.get_running_loop().time
        told_at = clock()
        while self.watchers and not self.ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._due.wait()
            self._due.clear()
            with suppress(Unavailable):
                await self.look()
            if self._untold or clock() - told_at >= SILENCE_S:
                told_at, self._untold = clock(), False
                await self._tell()

    async def _tell(self) -> None:
        """Wake who waits for news, and rest as long as they are many.

        The rest is taken whenever others wait for their answers, and what is left of it at the end.
        """
        clock = asyncio.get_running_loop().time
        rest_s = min(REST_MAX_S, self.watchers / TOLD_PER_S)
        for _ in range(0, len(self._waiting), AT_ONCE):
            self._wake(AT_ONCE)
            await asyncio.sleep(0)
            while patience.unanswered and rest_s > 0:
                paused_at = clock()
                await asyncio.sleep(BREATH_S)
                rest_s -= clock() - paused_at
        await asyncio.sleep(rest_s)

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)

    async def _look_once(self, waiting: list[None]) -> list[None]:
        snapshot = await self._seats.look(self._hall)
        before, self._snapshot = self._snapshot, snapshot
        version = self._hall.counts(snapshot).version
        if self._kept[-1][0] == "":
            self._kept[-1] = (version, b"")
        elif snapshot.states != before.states:
            self._kept.append((version, self._as_change(before)))
            self.number += 1
            self._untold = True
            self._due.set()
        return waiting

    def _as_snapshot(self) -> bytes:
        return self._as_event("snapshot", self._hall.availability(self._snapshot))

    def _as_change(self, before: Snapshot) -> bytes:
        states, counts = self._snapshot.states, self._hall.counts(self._snapshot)
        places = list(_changed(before.states, states))
        if len(places) > SEATS_MAX:
            return self._as_snapshot()
        first = self._hall.first_seat_id
        body = {
            "event_id": self._hall.event_id,
            "version": counts.version,
            "counts": counts.by_state(),
            "seats": [{"id": first + place, "state": chr(states[place])} for place in places],
        }
        return self._as_event("change", json.dumps(body, separators=(",", ":")).encode())

    def _as_event(self, name: str, data: bytes) -> bytes:
        version = self._hall.counts(self._snapshot).version
        return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), version.encode(), data)


def _changed(before: bytes, after: bytes) -> Iterator[int]:
    for start in range(0, len(after), CHUNK):
        old, new = before[start : start + CHUNK], after[start : start + CHUNK]
        if old != new:
            yield from (start + i for i, state in enumerate(new) if old[i] != state)


class Live:
    """Who watches which event."""

    def __init__(self, seats: Seats, redis: Redis) -> None:
        self._seats = seats
        self._subscription = Subscription(redis, self._heard)
        self._broadcasts: dict[str, Broadcast] = {}  # by the name under which Redis tells of it
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    @property
    def watchers(self) -> int:
        """How many watch."""
        return sum(broadcast.watchers for broadcast in self._broadcasts.values())

    async def watch(self, event_id: int, last_id: str | None = None) -> Watch:
        """Watch an event, from the version that `last_id` names on if it is still known.

        Raises NotFound, Unavailable when too many watch already.
        """
        if self._ended or self.watchers >= WATCHERS_MAX:
            raise Unavailable("Too many watch already. Ask for the availability instead.")
        broadcast = self._broadcast(await self._seats.hall(event_id))
        broadcast.watchers += 1
        try:
            await broadcast.look()
        except BaseException:
            broadcast.watchers -= 1
            raise
        return Watch(broadcast, last_id)

    def end(self) -> None:
        """Let all watchers go: the process is about to stop."""
        self._ended = True
        for broadcast in self._broadcasts.values():
            broadcast.end()

    async def close(self) -> None:
        """End, and hear nothing more."""
        self.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._subscription.close()

    def _broadcast(self, hall: Hall) -> Broadcast:
        name = generation_key(hall.event_id)
        broadcast = self._broadcasts.get(name)
        if broadcast is None or broadcast.ended:
            broadcast = self._broadcasts[name] = Broadcast(self._seats, hall)
            task = asyncio.create_task(self._run(name, broadcast))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return broadcast

    async def _run(self, name: str, broadcast: Broadcast) -> None:
        try:
            await self._subscription.add(name)
            broadcast.look_soon()  # what was written before we began to hear of it
            with suppress(NotFound):
                await broadcast.run()
        finally:
            broadcast.end()
            if self._broadcasts.get(name) is broadcast:
                del self._broadcasts[name]
                await self._subscription.remove(name)

    def _heard(self, name: str) -> None:
        if broadcast := self._broadcasts.get(name):
            broadcast.look_soon()
