"""What one connection does for one user: look, book, repeat, cancel. All of it goes on record."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from random import Random
from time import perf_counter
from uuid import UUID

from seatsvc.load.client import Answer, Connection
from seatsvc.load.hall import Hall, Seen
from seatsvc.load.history import Call, History, Order, Read, Reply
from seatsvc.load.people import User

SETTLE_S = 30  # after which an order whose outcome stays unknown is given up
WAIT_S = 0.2
TICK_S = 0.05


@dataclass(slots=True)
class Run:
    """What the buyers share."""

    hall: Hall
    history: History
    seats: int  # how many of them may be asked for by name
    ends_at: float = inf  # by the clock of perf_counter
    part_done: float = 0.0  # from 0 to 1
    must_sell_out: bool = False

    @property
    def over(self) -> bool:
        """Is the time up?"""
        return perf_counter() >= self.ends_at


class Buyer:
    """One connection, and the user for whom it speaks."""

    def __init__(self, run: Run, connection: Connection, user: User, random: Random) -> None:
        self.run, self.user, self.random = run, user, random
        self.orders: list[Order] = []  # those that it may cancel
        self._connection = connection
        self._etag, self._seen = "", Seen(0, "", {})

    async def ask(self, kind: str, path: str) -> Answer:
        """Read something of the event."""
        answer = await self._get(path)
        self.run.history.add(kind, answer)
        return answer

    async def _get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        answer = await self._connection.ask("GET", path, headers=headers)
        if answer.status == 0 or answer.status >= 429:
            await asyncio.sleep(answer.retry_after_s or WAIT_S)
        return answer

    async def look(self) -> Seen:
        """What is free now, by the event's availability; as last seen where that fails."""
        path = f"/events/{self.run.hall.event_id}/availability"
        headers = {"If-None-Match": self._etag} if self._etag else {}
        answer = await self._get(path, headers)
        if answer.status == 200:
            try:
                self._seen = self.run.hall.seen(answer.body)
            except ValueError:
                self._unreadable("availability", answer)
                return self._seen
            self._etag = answer.headers.get("etag", "")
        self.run.history.add("availability", answer)
        if answer.status in (200, 304):
            self._saw(answer, self._seen.free)
        return self._seen

    async def list_seats(self) -> None:
        """The free seats, or the first thousand of them."""
        path = f"/seats?event_id={self.run.hall.event_id}"
        answer = await self._get(path)
        try:
            free = self.run.hall.listed(answer.body) if answer.status == 200 else None
        except ValueError:
            self._unreadable("seats", answer)
            return
        self.run.history.add("seats", answer)
        if free is not None:
            self._saw(answer, free)

    def _saw(self, answer: Answer, free: int) -> None:
        self.run.history.reads.append(Read(answer.started, answer.ended, free))

    def _unreadable(self, kind: str, answer: Answer) -> None:
        times = answer.started, answer.ended
        self.run.history.calls.append(Call(kind, *times, answer.status, "unreadable"))

    def order(self, *seat_ids: int, quantity: int = 0) -> Order:
        """A new one: these seats, or so many of the best."""
        key = str(UUID(int=self.random.getrandbits(128), version=4))
        order = Order(self.user.id, key, quantity or len(seat_ids), tuple(sorted(seat_ids)))
        self.run.history.orders.append(order)
        return order

    async def book(self, *seat_ids: int, quantity: int = 0) -> Reply:
        """Order, until it is known what became of it."""
        order = self.order(*seat_ids, quantity=quantity)
        reply = await self.send(order, seat_ids)
        if order.made:
            self.orders.append(order)
            if self.random.random() < 0.1:
                await self.repeat(order, seat_ids)
        return reply

    async def send(self, order: Order, seat_ids: tuple[int, ...] = ()) -> Reply:
        """Send, and send again while it is not known what became of it."""
        give_up_at = perf_counter() + SETTLE_S
        reply = await self._send(order, seat_ids, "book")
        while not order.settled and perf_counter() < give_up_at:
            await _wait(order, reply.retry_after_s or WAIT_S)
            if not order.settled:
                reply = await self._send(order, seat_ids, "repeat")
        if reply.code == "rate_limited":
            await asyncio.sleep(reply.retry_after_s or WAIT_S)
        return reply

    async def repeat(self, order: Order, seat_ids: tuple[int, ...] = ()) -> None:
        """Send what is settled once more."""
        await self._send(order, seat_ids, "repeat")

    async def _send(self, order: Order, seat_ids: tuple[int, ...], kind: str) -> Reply:
        body: dict[str, object] = {"seat_ids": seat_ids or order.seat_ids}
        if not order.seat_ids:
            body = {"event_id": self.run.hall.event_id, "quantity": order.quantity}
        elif order.quantity == 1:
            body = {"seat_id": order.seat_ids[0]}
        order.began = min(order.began, perf_counter())
        answer = await self._connection.ask(
            "POST",
            "/bookings",
            token=self.user.access_token,
            body=body,
            headers={"Idempotency-Key": order.key},
        )
        self.run.history.add(kind, answer)
        reply = Reply.of(answer)
        order.replies.append(reply)
        return reply

    async def cancel(self, order: Order) -> None:
        """Cancel a booking that was answered."""
        made = order.made
        if made is None or made.booking is None:
            return
        give_up_at = perf_counter() + SETTLE_S
        while not order.cancels or (order.cancels[-1].unknown and perf_counter() < give_up_at):
            order.cancel_began = min(order.cancel_began, perf_counter())
            path = f"/bookings/{made.booking.id}"
            answer = await self._connection.ask("DELETE", path, token=self.user.access_token)
            self.run.history.add("cancel", answer)
            order.cancels.append(Reply.of(answer))
            if order.cancels[-1].unknown:
                await asyncio.sleep(order.cancels[-1].retry_after_s or WAIT_S)


async def _wait(order: Order, seconds: float) -> None:
    """So long, or until another connection hears what became of the order."""
    for _ in range(round(seconds / TICK_S)):
        if order.settled:
            return
        await asyncio.sleep(TICK_S)
