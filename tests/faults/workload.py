"""The recorded workload: so many requests a second, whatever becomes of them.

60 % look, 30 % book or hold, 10 % give back, on a few hot seats. Who gets no answer, or a 503,
tries again with the same key until it knows.
"""

import asyncio
from dataclasses import dataclass, field
from time import time
from uuid import uuid4

from tests.faults.caller import CHANCE, Caller, User, Wish
from tests.faults.history import Call

RATE = 200
AGAIN_S = 0.3
RETRY_AFTER_S = 1.0  # as a 503 says
SETTLE_S = 60.0
SEATS_MAX = 3
SAID = (200, 201, 204)
DONE = ("book", "hold", "cancel", "release")


@dataclass(frozen=True, slots=True)
class Sample:
    """A first try: when it was due, how long its client waited, and what it was told."""

    kind: str
    due_at: float
    waited_s: float
    status: int


@dataclass
class Workload:
    """Buyers at one hall."""

    caller: Caller
    users: list[User]
    samples: list[Sample] = field(default_factory=list)
    booked: list[Call] = field(default_factory=list)
    held: list[Call] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    stopped: bool = False

    async def run(self, seconds: float, rate: float = RATE) -> None:
        """Send each request when it is due; return when the last one is due."""
        started_at = time()
        for number in range(int(seconds * rate)):
            due_at = started_at + number / rate
            if (early_s := due_at - time()) > 0:
                await asyncio.sleep(early_s)
            if self.stopped:
                return
            task = asyncio.create_task(self._serve(self.wish(), due_at))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def finish(self) -> None:
        """Wait until every client knows."""
        async with asyncio.timeout(SETTLE_S + 20):
            await asyncio.gather(*self.running)

    async def close(self) -> None:
        """Stop in the middle, if need be."""
        self.stopped = True
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        self.caller.hang_up()

    def start(self, seconds: float, rate: float = RATE) -> "asyncio.Task[None]":
        """Run beside whatever else happens."""
        task = asyncio.create_task(self.run(seconds, rate))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    def wish(self) -> Wish:
        """What the next client wants."""
        lot, user = CHANCE.random(), CHANCE.choice(self.users)
        if lot < 0.01 and self.booked:
            target = CHANCE.choice(self.booked)
            return Wish("peek", self._another(target.user), target=target.made)
        if lot < 0.60:
            return Wish("read", user, target="seats" if lot < 0.15 else "availability")
        if lot < 0.65 and self.held:
            held = self._taken(self.held)
            return Wish("book", self._user(held), held.got, held.made, uuid4().hex)
        if lot < 0.90:
            kind, seats = ("book" if lot < 0.79 else "hold"), self._seats()
            return Wish(kind, user, seats, key=uuid4().hex)
        if lot < 0.98 and self.booked:
            booked = self._taken(self.booked)
            return Wish("cancel", self._user(booked), target=booked.made)
        if self.held:
            held = self._taken(self.held)
            return Wish("release", self._user(held), target=held.made)
        return Wish("read", user)

    async def settle(self, wish: Wish, call: Call, *, unsure: bool = False) -> Call:
        """Try until the outcome is known, if it is not: of this call, or of earlier ones."""
        deadline, unsure = time() + SETTLE_S, unsure or call.open
        # After a failure even a refusal for now says nothing about what the first try did.
        while unsure and not (call.status in SAID or call.refused) and time() < deadline:
            pause_s = RETRY_AFTER_S if call.status == 503 else AGAIN_S
            await asyncio.sleep(pause_s * (0.5 + CHANCE.random()))
            call = await self.caller.call(wish)
        if call.status == 201:
            (self.booked if call.kind == "book" else self.held).append(call)
        return call

    async def _serve(self, wish: Wish, due_at: float) -> None:
        call = await self.caller.call(wish)
        self.samples.append(Sample(wish.kind, due_at, call.ended_at - due_at, call.status))
        if wish.kind in DONE:
            await self.settle(wish, call)

    def _taken(self, sales: list[Call]) -> Call:
        return sales.pop(CHANCE.randrange(len(sales)))

    def _user(self, call: Call) -> User:
        return next(user for user in self.users if user.id == call.user)

    def _another(self, user_id: str) -> User:
        return CHANCE.choice([user for user in self.users if user.id != user_id])

    def _seats(self) -> tuple[int, ...]:
        """Some of the hall's, the first ones more often."""
        hall, count = self.caller.hall.seats, CHANCE.randint(1, SEATS_MAX)
        places = {int(len(hall) * CHANCE.random() ** 2) for _ in range(count)}
        return tuple(hall[place] for place in sorted(places))
