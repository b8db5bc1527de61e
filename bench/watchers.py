"""Many who watch one event, as a process of their own: `python -m bench.watchers URL EVENT_ID`.

So that reading what they are told does not delay whoever measures. Says how it goes in lines of
JSON on standard output, and ends when its standard input does.
"""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.client import build
from seatsvc import local

WATCHERS = 2000
READERS = 100  # of them, who really read: the others only count
BEGIN_S = 15


@dataclass
class Watcher(asyncio.Protocol):
    """One open stream."""

    request: bytes
    reads: bool
    seen_at: dict[int, float] = field(default_factory=dict)  # a seat, and when it was told of
    events: int = 0
    lost: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Some events: a change and its seats come in one piece, or nearly always do."""
        self.events += data.count(b"event: ")
        if self.reads and b"event: change" in data:
            now = monotonic()
            for part in data.split(b'{"id":')[1:]:
                self.seen_at.setdefault(int(part[: part.index(b",")]), now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Should not happen."""
        self.lost = True


async def watch(url: str, event_id: int) -> None:
    """Open all streams, say so, and tell in the end what was seen."""
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    request = build("GET", f"/events/{event_id}/stream")
    watchers = [Watcher(request, number < READERS) for number in range(WATCHERS)]
    for each in watchers:
        await loop.create_connection(
            partial(_itself, each), address.hostname or "", address.port or 80
        )
    for _ in range(10 * BEGIN_S):
        await asyncio.sleep(0.1)
        if all(each.events for each in watchers):
            break
    print(json.dumps({"begun": sum(each.events > 0 for each in watchers)}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    seen = [each.seen_at for each in watchers if each.reads]
    print(json.dumps({"lost": sum(each.lost for each in watchers), "seen_at": seen}), flush=True)


def _itself(watcher: Watcher) -> Watcher:
    return watcher


if __name__ == "__main__":
    local.die_with_parent()
    uvloop.run(watch(sys.argv[1], int(sys.argv[2])))
