"""What the crowd does. Each scenario runs until all is sold, or all have enough, or time is up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from seatsvc.load.buyers import Buyer, Run

TRIES_MAX = 20
PAUSE_S = 0.5
GROUP_MAX = 5
WRITERS = 10  # one of so many who browse
ENOUGH = {"user_limit_reached", "daily_limit_reached", "sales_closed", "event_cancelled"}


async def flash_sale(run: Run, buyers: Sequence[Buyer]) -> None:
    """All look and book at once, each a seat that looked free, until nobody can have more."""

    async def buy(buyer: Buyer) -> None:
        while not run.over:
            seen = await buyer.look()
            seat = run.hall.pick(seen, buyer.random)
            run.part_done = 1 - seen.states.count("f") / (len(seen.states) or 1)
            if seat is None or (await buyer.book(seat)).code in ENOUGH:
                return

    await asyncio.gather(*map(buy, buyers))
    run.must_sell_out = run.must_sell_out and not run.over


async def browse(run: Run, buyers: Sequence[Buyer]) -> None:
    """Most read, and one of ten books and cancels under their eyes, until time is up."""

    async def read(buyer: Buyer) -> None:
        while not run.over:
            await buyer.look()
            if buyer.random.random() < 0.1:
                await buyer.list_seats()
            if buyer.random.random() < 0.05:
                await buyer.ask("event", f"/events/{run.hall.event_id}")

    async def write(buyer: Buyer) -> None:
        while not run.over:
            seat = run.hall.pick(await buyer.look(), buyer.random)
            reply = await buyer.book(seat) if seat is not None else None
            if buyer.orders and (reply is None or reply.code or buyer.random.random() < 0.5):
                await buyer.cancel(buyer.orders.pop(0))

    works = [write if n % WRITERS == 0 else read for n in range(len(buyers))]
    await asyncio.gather(*(work(buyer) for work, buyer in zip(works, buyers, strict=True)))


async def groups(run: Run, buyers: Sequence[Buyer]) -> None:
    """Groups of two to five: the best places, or a row's neighbours; one in five cancels."""

    async def buy(buyer: Buyer) -> None:
        most = GROUP_MAX
        while most and not run.over:
            size = min(most, buyer.random.randint(2, GROUP_MAX))
            seen = await buyer.look()
            run.part_done = 1 - seen.counts.get("free", 0) / (sum(seen.counts.values()) or 1)
            seats = _neighbours(buyer, run.hall.pick(seen, buyer.random), size)
            reply = await buyer.book(*seats, quantity=size)
            if reply.code in ENOUGH | {"sold_out"}:
                most = size - 1
            elif reply.status == 201 and buyer.random.random() < 0.2:
                await buyer.cancel(buyer.orders.pop())

    await asyncio.gather(*map(buy, buyers))


def _neighbours(buyer: Buyer, seat: int | None, size: int) -> list[int]:
    """From this seat on, in any order; or none, so that the service chooses."""
    ids = buyer.run.hall.seat_ids
    if seat is None or len(ids) < size or buyer.random.random() < 0.6:
        return []
    first = min(ids.index(seat), len(ids) - size)
    return buyer.random.sample(ids[first : first + size], size)


async def last_seat(run: Run, buyers: Sequence[Buyer]) -> None:
    """All want the same seat at once, two of them with the same key; then the next seat."""
    pairs = [buyers[n : n + 2] for n in range(0, len(buyers), 2)]
    for first, *others in pairs:
        for other in others:
            other.user = first.user
    seats = run.hall.ids((await buyers[0].look()).free)[: run.seats]
    for number, seat in enumerate(seats):
        run.part_done = number / len(seats)
        for _ in range(TRIES_MAX):
            if run.over or await _race(seat, pairs):
                break
            await asyncio.sleep(PAUSE_S)
    run.must_sell_out = run.must_sell_out and not run.over


async def _race(seat: int, pairs: Sequence[Sequence[Buyer]]) -> bool:
    """Is it decided who has the seat? It is not where all were told that it is busy."""
    orders = [pair[0].order(seat) for pair in pairs]
    sent = zip(pairs, orders, strict=True)
    await asyncio.gather(*(buyer.send(order) for pair, order in sent for buyer in pair))
    for pair, order in zip(pairs, orders, strict=True):
        if order.made:
            await asyncio.gather(*(buyer.look() for buyer in pair))
            await pair[0].list_seats()
            await pair[0].repeat(order)
    return any(reply.definite for order in orders for reply in order.replies)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What it does, and its defaults."""

    run: Callable[[Run, Sequence[Buyer]], Awaitable[None]]
    says: str
    seats: int
    seconds: int
    sells_out: bool = False
    limited: bool = True  # Is there a limit to the seats of each user?
    general: bool = False  # Are some of the places without numbers?


SCENARIOS = {
    "flash-sale": Scenario(flash_sale, "N users, M seats, one opening", 1000, 60, sells_out=True),
    "browse": Scenario(browse, "readers, with some writers", 1000, 10),
    "groups": Scenario(groups, "groups that sit together, or not at all", 1000, 60, general=True),
    "last-seat": Scenario(
        last_seat, "all want one seat, again and again", 20, 60, sells_out=True, limited=False
    ),
}
