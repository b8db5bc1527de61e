"""A client of the stream, for the tests."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

PATIENCE_S = 10


@dataclass(frozen=True)
class Told:
    """One event of the stream."""

    name: str
    id: str
    data: dict[str, Any]


class Stream:
    """What a watcher is told, and how the hall looks to them."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()
        self.states: dict[int, str] = {}
        self.told: list[Told] = []

    async def next(self) -> Told:
        """The next event, which has been taken in. Raises StopAsyncIteration at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                line = await anext(self._lines)
                if not line and "data" in fields:
                    break
                name, _, value = line.partition(": ")
                fields[name] = value
        return self._take(Told(fields["event"], fields["id"], json.loads(fields["data"])))

    async def until(self, **states: str) -> None:
        """Listen until these places (`s<id>`) are in these states."""
        wanted = {int(name[1:]): state for name, state in states.items()}
        while wanted.items() - self.states.items():
            await self.next()

    def _take(self, told: Told) -> Told:
        self.told.append(told)
        assert told.id == told.data["version"]
        if told.name == "change":
            assert set(told.data) == {"event_id", "version", "counts", "seats"}
            self.states |= {seat["id"]: seat["state"] for seat in told.data["seats"]}
        else:
            assert told.name == "snapshot"
            states = "".join(section["states"] for section in told.data["sections"])
            first = min(self.states, default=0)
            self.states = dict(enumerate(states, first))
        return told


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, event_id: int, first_seat: int, last_id: str | None = None
) -> AsyncIterator[Stream]:
    """Watch an event, whose places have ids from `first_seat` on."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with client.stream("GET", f"/events/{event_id}/stream", headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        stream = Stream(answer)
        stream.states = {first_seat: "?"}
        yield stream
