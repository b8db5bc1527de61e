"""Calls the service over connections that stay open, and writes down what each call was told."""

import asyncio
import json
import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import time
from typing import Any

from tests.connection import Answer, Wire
from tests.faults.history import FOREVER, Call

PATIENCE_S = 10.0
KEEP_S = 2.0
LOST = Answer(0, {}, b"")
CHANCE = random.Random()


@dataclass(frozen=True, slots=True)
class User:
    """A buyer, logged in."""

    id: str
    token: str


@dataclass(frozen=True, slots=True)
class Hall:
    """The event that is sold, and its seats in the layout's order."""

    event_id: int
    seats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a call is for."""

    kind: str
    user: User
    seats: tuple[int, ...] = ()
    target: str = ""
    key: str = ""


@dataclass
class Caller:
    """Clients of the workers at these addresses; each call goes to any one of them."""

    urls: list[str]
    hall: Hall
    history: list[Call] = field(default_factory=list)
    idle: dict[str, list[tuple[float, Wire]]] = field(default_factory=dict)

    async def call(self, wish: Wish, url: str | None = None) -> Call:
        """Ask, wait, and write it down."""
        started_at = time()
        try:
            answer = await self._ask(url or CHANCE.choice(self.urls), self._request(wish))
        except asyncio.CancelledError:
            self.history.append(self._noted(wish, started_at, LOST))
            raise
        call = self._noted(wish, started_at, answer)
        self.history.append(call)
        return call

    async def get(self, path: str, url: str) -> Answer:
        """Any public call, not written down; status 0 when nothing answers."""
        return await self._ask(url, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def health(self, url: str) -> dict[str, Any]:
        """What the worker says of itself."""
        document: dict[str, Any] = json.loads((await self.get("/health", url)).body)
        return document

    def hang_up(self) -> None:
        """Close all connections."""
        for wires in self.idle.values():
            for _, wire in wires:
                wire.writer.transport.abort()
            wires.clear()

    async def _ask(self, url: str, request: bytes) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE_S):
                wire = await self._wire(url)
        except (OSError, TimeoutError):
            return LOST
        try:
            await wire.send(request)
            answer = await wire.answer(PATIENCE_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            wire.writer.transport.abort()
            return LOST
        except asyncio.CancelledError:
            wire.writer.transport.abort()
            raise
        if answer.headers.get("connection") == "close":
            wire.writer.transport.abort()
        else:
            self.idle.setdefault(url, []).append((time(), wire))
        return answer

    async def _wire(self, url: str) -> Wire:
        idle = self.idle.get(url, [])
        while idle:
            used_at, wire = idle.pop()
            # Older ones the server may close at this very moment.
            if time() < used_at + KEEP_S and not wire.reader.at_eof():
                return wire
            wire.writer.transport.abort()
        host, _, port = url.removeprefix("http://").partition(":")
        return Wire(*await asyncio.open_connection(host, int(port)))

    def _request(self, wish: Wish) -> bytes:
        method, path, body = self._line(wish)
        content = json.dumps(body).encode() if body else b""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {wish.user.token}",
            *([f"Content-Length: {len(content)}", "Content-Type: application/json"] * bool(body)),
            *([f"Idempotency-Key: {wish.key}"] * bool(wish.key)),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + content

    def _line(self, wish: Wish) -> tuple[str, str, dict[str, Any]]:
        event_id = self.hall.event_id
        match wish.kind:
            case "read" if wish.target == "seats":
                return "GET", f"/seats?event_id={event_id}", {}
            case "read":
                return "GET", f"/events/{event_id}/availability", {}
            case "book" if wish.target:
                return "POST", "/bookings", {"hold_id": wish.target}
            case "book":
                return "POST", "/bookings", {"seat_ids": wish.seats}
            case "hold":
                return "POST", "/holds", {"seat_ids": wish.seats}
            case "release":
                return "DELETE", f"/holds/{wish.target}", {}
            case "cancel":
                return "DELETE", f"/bookings/{wish.target}", {}
        return "GET", f"/bookings/{wish.target}", {}

    def _noted(self, wish: Wish, started_at: float, answer: Answer) -> Call:
        more: dict[str, Any] = {}
        if answer.status == 200 and wish.kind == "read":
            more = {"free": self._free(json.loads(answer.body))}
        elif answer.status in (200, 201):
            more = _sold(json.loads(answer.body))
            if answer.status == 201:
                more["body"] = answer.body
        elif answer.status >= 400:
            with suppress(ValueError):
                more = {"code": json.loads(answer.body)["code"]}
        return Call(
            wish.kind,
            wish.user.id,
            started_at,
            time(),
            answer.status,
            key=wish.key,
            seats=wish.seats,
            target=wish.target if wish.kind != "read" else "",
            retry_after="retry-after" in answer.headers,
            **more,
        )

    def _free(self, document: dict[str, Any]) -> frozenset[int]:
        if "items" in document:
            return frozenset(seat["id"] for seat in document["items"])
        states = "".join(section["states"] for section in document["sections"])
        pairs = zip(self.hall.seats, states, strict=True)
        return frozenset(seat for seat, state in pairs if state == "f")


def _sold(document: dict[str, Any]) -> dict[str, Any]:
    expires_at = document.get("expires_at")
    return {
        "made": document["id"],
        "got": tuple(seat["id"] for seat in document["seats"]),
        "owner": document.get("user_id", ""),
        "until": datetime.fromisoformat(expires_at).timestamp() if expires_at else FOREVER,
    }
