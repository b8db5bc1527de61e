"""Orders that share a batch: what becomes of one must not be felt by its neighbours."""

from uuid import uuid4

import redis.asyncio

from seatsvc.errors import Busy
from seatsvc.orders import Done, Order
from tests.conftest import Person, Service, Venue, buyer


async def lock_of(raw: redis.asyncio.Redis, venue: Venue, n: int) -> bytes | str | None:
    """Who is at the venue's n-th seat."""
    owner: bytes | str | None = await raw.get(f"{{{venue.event_id}}}:lock:{venue.seats[n]}")
    return owner


async def test_refused_neighbour(shared: Service, ann: Person, ben: Person) -> None:
    """Ann is refused for her first seat. Her second one is free for Ben, and not locked later."""
    venue = await shared.add_event(seats=3)
    first, second, third = venue.seats
    wanted = (ann, (first, second)), (ben, (second, third))
    orders = []
    for who, seats in wanted:
        token = buyer(shared, who)
        orders.append(Order(uuid4(), token.user_id, token.session_id, venue.event_id, seats))
    url = shared.settings.redis_url.get_secret_value()
    async with redis.asyncio.Redis.from_url(url) as raw:
        await raw.set(f"{{{venue.event_id}}}:lock:{first}", "somebody", px=60_000)
        results = await shared.state["bookings"]._checkout._take_batch(orders)
        assert [type(result) for result, _ in results] == [Busy, Done]
        assert await shared.booked(venue) == [second, third]
        assert await lock_of(raw, venue, 0) == b"somebody"
        assert await lock_of(raw, venue, 1) is None
        assert await lock_of(raw, venue, 2) is None
