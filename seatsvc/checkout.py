"""The one way in which seats change hands: lock, transaction, finish.

1. Lock the seats in Redis, at once or not at all. Without Redis the database arbitrates alone.
2. One transaction decides and writes. Orders that meet here share it, each with its own result.
3. Make every reader look anew, unlock, and only then answer.

From the lock on, neither a client that hangs up nor our own shutdown stops an order half-way.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID, uuid4

import asyncpg

from seatsvc import db, metrics, patience
from seatsvc.errors import (
    BY_CODE,
    Busy,
    NotFound,
    SeatBlocked,
    SeatHeld,
    SeatTaken,
    ServiceError,
    SoldOut,
    TicketTypeNotAllowed,
    TicketTypeSoldOut,
    Unavailable,
)
from seatsvc.halls import Hall
from seatsvc.hosts import LOST, PASSING
from seatsvc.lanes import Lane
from seatsvc.locks import SeatLocks
from seatsvc.orders import Buyer, Choice, Done, Order, Sale
from seatsvc.seats import Seats

# A batch has its last word by then; with the wait in the lane, that is within three seconds.
DECIDE_S = 1.7
SETTLE_POLL_S = 0.05
PICKS_MAX = 20
PICK_PAUSE_S = 0.01
SQL = db.queries("checkout")

_PICKED_IN_VAIN = (Busy, SeatTaken, SeatHeld, SeatBlocked)

S = TypeVar("S", bound=Sale)
T = TypeVar("T")
Outcomes = Sequence[Done[S] | Exception]


class _Crowded(Exception):
    """The order could not be decided together with its neighbours."""


class Checkout(Generic[S]):
    """Turns orders into bookings, or into holds.

    `take` is the SQL function's query, `committed` finds sales by their ids, and `from_row` reads
    what both return.
    """

    def __init__(
        self,
        database: db.Database,
        locks: SeatLocks,
        seats: Seats,
        *,
        kind: Literal["booking", "hold"],
        take: db.Query,
        committed: db.Query,
        from_row: Callable[[asyncpg.Record], S],
    ) -> None:
        self._db = database
        self._locks = locks
        self._seats = seats
        self._kind = kind
        self._take_query = take
        self._committed_query = committed
        self._from_row = from_row
        # An order of 32 costs PostgreSQL what one of 64 does, and two calls share a crowd evenly.
        self._lane = Lane(
            self._take_batch,
            batch_max=32,
            crowd=12,
            unhurried=True,
            apart=lambda order: (order.user_id,),
        )
        self._closed = Lane(self._closed_batch)
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def waiting(self) -> int:
        """How many orders wait for a batch."""
        return len(self._lane)

    async def order(
        self, buyer: Buyer, choice: Choice, key: str | None, request_hash: str | None
    ) -> Done[S]:
        """Take the chosen places, all or none.

        Raises NotFound, MixedEvents, any Conflict of the contract, Unavailable; InvalidToken when
        the buyer's session has ended, but other refusals may come before anybody has looked.
        """
        with metrics.Counted(self._kind):
            event_id = choice.event_id
            if choice.seat_ids:
                event_id = (await self._seats.hall_of(choice.seat_ids)).event_id
            order = Order(
                uuid4(), buyer.user_id, buyer.session_id, event_id, tuple(sorted(choice.seat_ids)),
                choice.hold_id, choice.ticket_type_id, key, request_hash,
            )  # fmt: skip
            if choice.quantity:
                return await self._take_best(order, choice)
            return await self._take(order)

    async def to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that must not stop half-way, whoever gives up waiting for it."""
        context = copy_context()
        context.run(patience.lift)
        task = asyncio.create_task(work, context=context)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def finish_running(self) -> None:
        """Let what was begun end: the last act before the connections close."""
        await self._lane.finish()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _take(self, order: Order) -> Done[S]:
        result, told = await self._lane(order)
        if not told:
            await self._locks.outwait()
        if isinstance(result, Exception):
            raise result
        return result

    async def _take_best(self, order: Order, choice: Choice) -> Done[S]:
        """Pick places and take them. When rivals were faster, look again before giving up."""
        hall = await self._seats.hall(choice.event_id)
        named = hall.matching(choice.section, choice.ticket_type_id)
        if not hall.matching(choice.section, None):
            raise NotFound(f"Event {choice.event_id} has no section {choice.section!r}.")
        if not named:
            raise TicketTypeNotAllowed()
        closed: set[str] = set()  # sections whose ticket type is sold out
        for attempt in range(PICKS_MAX):
            # The first look may be a moment old: it is only a hint, the transaction decides.
            look = self._seats.look if attempt else self._seats.recent
            snapshot = await look(hall)
            wanted = [part for part in named if part.name not in closed]
            picked = hall.pick(snapshot, wanted, choice.quantity)
            if not picked and not attempt:
                continue
            if not picked and snapshot.free(wanted) < choice.quantity:
                return await self._nothing_left(order)
            try:
                if picked:
                    return await self._take_picked(order._replace(seat_ids=picked), hall)
            except _PICKED_IN_VAIN:
                pass
            except TicketTypeSoldOut:
                closed |= {part.name for part in wanted if hall.is_in(part, picked)}
                if len(closed) == len(named):
                    raise
            await asyncio.sleep(PICK_PAUSE_S * secrets.randbelow(100) / 100)
        raise Busy("Many buyers are at the last places right now.", retry_after_s=1)

    async def _nothing_left(self, order: Order) -> Done[S]:
        """Refuse. The readers know already, and there is nothing to lock."""
        if order.key:
            return await self._take(order)  # perhaps this is its second try, and the first got some
        closed = await self._closed(order.event_id)
        raise refusal(closed) if closed else SoldOut()

    async def _closed_batch(self, event_ids: list[int]) -> list[str | None]:
        rows = await self._db.fetch(SQL["get_closed"], event_ids)
        closed = {row["id"]: row["closed"] for row in rows}
        return [closed.get(event_id, NotFound.code) for event_id in event_ids]

    async def _take_picked(self, order: Order, hall: Hall) -> Done[S]:
        try:
            return await self._take(order)
        except ServiceError as error:
            blamed = {seat["id"] for seat in error.extras.get("seats", ())}
            hall.give_back(seat_id for seat_id in order.seat_ids if seat_id not in blamed)
            raise

    async def _take_batch(self, orders: list[Order]) -> list[tuple[Done[S] | Exception, bool]]:
        """What became of each, and whether readers were told."""
        claims = [order.claim() for order in orders]
        with metrics.LOCK_WAIT.time():
            refusals = await self._locks.lock(claims)
        locked = [i for i, refusal in enumerate(refusals) if refusal is None]
        metrics.LOCK_CONTENDED.inc(len(orders) - len(locked))
        taken = await self._take_first([orders[i] for i in locked])
        told = await self._locks.tell([claims[i] for i in locked])
        results = iter(zip(taken, told, strict=True))
        return [(refusal, True) if refusal else next(results) for refusal in refusals]

    async def _take_first(self, orders: Sequence[Order]) -> Outcomes[S]:
        """All but those that meet an earlier one at a seat: only without Redis are there any."""
        refusals = _met(orders)
        first = [order for order, met in zip(orders, refusals, strict=True) if met is None]
        until = asyncio.get_running_loop().time() + DECIDE_S
        results = iter(await self._take_safely(first, until) if first else ())
        return [met or next(results) for met in refusals]

    async def _take_safely(self, orders: Sequence[Order], until: float) -> Outcomes[S]:
        try:
            return await self._take_together(orders, until)
        except Exception as error:
            return [error] * len(orders)

    async def _take_together(self, orders: Sequence[Order], until: float) -> Outcomes[S]:
        batch = secrets.randbits(63)
        try:
            async with asyncio.timeout_at(until):
                results = await self._take_once(batch, orders)
        except LOST:  # after any other error PostgreSQL rolled back
            return await self._settle(batch, orders, until)
        except asyncpg.PostgresError as error:
            if len(orders) == 1:
                return [_refused_by_database(error)]
            # Rolled back as a whole. One order's trouble must not become its neighbours'.
            results = [_Crowded()] * len(orders)
        return [
            (await self._take_safely([order], until))[0] if isinstance(result, _Crowded) else result
            for order, result in zip(orders, results, strict=True)
        ]

    async def _take_once(self, batch: int, orders: Sequence[Order]) -> list[Done[S] | Exception]:
        requests = json.dumps([order.as_json() for order in orders])
        async with self._db.connection() as connection:
            rows = await connection.fetch(self._take_query, batch, requests)
        return [self._result(row) for row in rows]

    async def _settle(self, batch: int, orders: Sequence[Order], until: float) -> Outcomes[S]:
        """The connection was lost: wait until the transaction is over, then see what it did.

        Raises Unavailable when nobody says so in time.
        """
        ids = [order.id for order in orders]
        with db.unavailable_when_down():
            async with asyncio.timeout_at(until):
                rows = await self._committed(batch, ids, until)
        committed = {row["id"]: Done(self._from_row(row)) for row in rows}
        return [committed.get(each, Unavailable()) for each in ids]

    async def _committed(self, batch: int, ids: list[UUID], until: float) -> list[asyncpg.Record]:
        loop = asyncio.get_running_loop()
        while loop.time() < until:  # in the midst of a transaction a time-out comes as Unavailable
            with suppress(Unavailable):
                async with self._db.transaction() as connection:
                    await connection.fetchval(SQL["get_settled"], batch)
                    return await connection.fetch(self._committed_query, ids)
            await asyncio.sleep(SETTLE_POLL_S)
        raise TimeoutError

    def _result(self, row: asyncpg.Record) -> Done[S] | Exception:
        if row["refusal"] is None:
            return Done(self._from_row(row), row["replayed"])
        if row["refusal"] == "crowded":
            return _Crowded()
        return refusal(row["refusal"], seats=row["blame"], allowance=row["allowance"])


def _met(orders: Sequence[Order]) -> list[Busy | None]:
    """The refusals of orders that meet an earlier one at a seat: those that Redis gives, too."""
    named, refusals = set[int](), list[Busy | None]()
    for order in orders:
        if met := named.intersection(order.seat_ids):
            blame = [{"id": seat_id, "reason": Busy.code} for seat_id in sorted(met)]
            refusals.append(Busy(retry_after_s=1, seats=blame))
        else:
            named.update(order.seat_ids)
            refusals.append(None)
    return refusals


def refusal(code: str, **extras: str | None) -> ServiceError:
    """The error that the database's code names, with its extras from JSON."""
    error = BY_CODE[code]
    retry_after_s = 1 if issubclass(error, Busy) else None
    read = {name: json.loads(value) for name, value in extras.items() if value}
    return error(retry_after_s=retry_after_s, **read)


def _refused_by_database(error: asyncpg.PostgresError) -> Exception:
    if getattr(error, "constraint_name", None) == "booking_seats_active_seat_key":
        return SeatTaken()
    return Unavailable() if isinstance(error, PASSING) else error
