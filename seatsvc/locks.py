"""The seat lock in Redis.

It keeps the crowd away from PostgreSQL; it is not what prevents a double sale. Spinning on a lock
only adds load, so a seat that someone else is at is refused at once.
"""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from seatsvc.errors import Busy, IdempotencyInFlight
from seatsvc.lanes import Lane
from seatsvc.scripts import Redis, RedisDown, Script
from seatsvc.settings import Settings

LOCK = Script("lock")
FINISH = Script("finish")
GENERATION_TTL_MS = 24 * 3600 * 1000
# A reader that began to fill before a write may store what it saw this much later, and what it
# stored lives for the cache's TTL.
FILL_TTL_MS = 250
STALE_MARGIN_S = 0.100


@dataclass(slots=True, eq=False)
class Claim:
    """What one write locks, if anything: its seats, and its Idempotency-Key if it has one.

    `keys` are the Redis keys. Their braces keep an event's keys together in a cluster.
    """

    event_id: int
    seat_ids: tuple[int, ...] = ()
    owner_key: str | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    keys: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = [f"{{{self.event_id}}}:lock:{seat_id}" for seat_id in self.seat_ids]
        if self.owner_key is not None:
            self.keys.append(f"{{{self.event_id}}}:key:{self.owner_key}")


class SeatLocks:
    """`SET NX PX` on each seat of a request, all or none; released by compare-and-delete."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._ttl_ms = settings.lock_ttl_ms
        self._stale_s = (settings.cache_ttl_ms + FILL_TTL_MS) / 1000 + STALE_MARGIN_S
        # Never refused: whoever gets here has written already.
        self._tell = Lane(self.tell, patience_s=math.inf)

    async def lock(self, claims: list[Claim]) -> list[Exception | None]:
        """Lock what each claim names, at once or not at all; why not, or None.

        Without Redis nothing is locked and nobody refused: the database arbitrates.
        """
        answers = await _by_event(claims, self._lock_event)
        return [_refusal(claim, answer) for claim, answer in zip(claims, answers, strict=True)]

    async def tell(self, claims: list[Claim]) -> list[bool]:
        """End writes: make every reader of their events look anew, and unlock.

        False for those of whom Redis could not be told; they wait before they answer.
        """
        return [answer is None for answer in await _by_event(claims, self._tell_event)]

    async def finish(self, claim: Claim) -> None:
        """Tell of a write, or wait. When this returns, nobody is shown the old state any more."""
        if not await self._tell(claim):
            await self.outwait()

    async def outwait(self) -> None:
        """Wait until no cache can show what it was filled with before this call."""
        await asyncio.sleep(self._stale_s)

    async def _lock_event(self, claims: list[Claim]) -> Any:
        keys = [key for claim in claims for key in claim.keys]
        owners = " ".join(f"{claim.token} {len(claim.keys)}" for claim in claims)
        return await self._redis.run(LOCK, keys, self._ttl_ms, owners)

    async def _tell_event(self, claims: list[Claim]) -> list[None]:
        event_id = claims[0].event_id
        keys = [key for claim in claims for key in claim.keys]
        tokens = " ".join(claim.token for claim in claims for _ in claim.keys)
        shared = [generation_key(event_id), entry_key(event_id)]
        args = [*shared, *keys], GENERATION_TTL_MS, tokens
        await self._redis.run_agreed(self._redis.era, FINISH, *args)
        return [None] * len(claims)


def _refusal(claim: Claim, busy: Any) -> Exception | None:
    """Of a claim that found these of its keys, counted from 1, locked by others."""
    if isinstance(busy, Exception):
        return None if isinstance(busy, RedisDown) else busy
    if busy and busy[-1] > len(claim.seat_ids):
        return IdempotencyInFlight(retry_after_s=1)
    if busy:
        blame = [{"id": claim.seat_ids[i - 1], "reason": Busy.code} for i in busy]
        return Busy(retry_after_s=1, seats=blame)
    return None


def generation_key(event_id: int) -> str:
    """The number that every write to the event changes."""
    return f"{{{event_id}}}:gen"


def entry_key(event_id: int) -> str:
    """The event's cached availability."""
    return f"{{{event_id}}}:avail"


async def _by_event(
    claims: list[Claim], run: Callable[[list[Claim]], Awaitable[list[Any]]]
) -> list[Any]:
    """One call for each event, side by side; the results in the order of the claims."""
    groups: dict[int, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.event_id, []).append(claim)
    answers = await asyncio.gather(*map(run, groups.values()), return_exceptions=True)
    results: dict[int, Any] = {}
    for group, answer in zip(groups.values(), answers, strict=True):
        each = [answer] * len(group) if isinstance(answer, BaseException) else answer
        results.update(zip(map(id, group), each, strict=True))
    return [results[id(claim)] for claim in claims]
