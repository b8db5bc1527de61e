"""The seat lock in Redis.

It keeps the crowd away from PostgreSQL; it is not what prevents a double sale. Spinning on a lock
only adds load, so a seat that someone else is at is refused at once.
"""

import asyncio
import math
import secrets
from dataclasses import dataclass, field

from seatsvc.errors import Busy, IdempotencyInFlight
from seatsvc.lanes import Lane
from seatsvc.scripts import Call, Redis, RedisDown, Script
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
        groups = _by_event(claims)
        answers = await self._redis.run_all([self._locking(group) for group in groups.values()])
        refusals: dict[str, Exception | None] = {}
        for group, answer in zip(groups.values(), answers, strict=True):
            if not isinstance(answer, RedisDown):
                for claim, busy in zip(group, answer, strict=True):
                    refusals[claim.token] = _refusal(claim, busy)
        return [refusals.get(claim.token) for claim in claims]

    async def tell(self, claims: list[Claim]) -> list[bool]:
        """End writes: make every reader of their events look anew, and unlock.

        False for those of whom Redis could not be told; they wait before they answer.
        """
        groups, era = _by_event(claims), self._redis.era
        answers = await self._redis.run_all([_finishing(*group) for group in groups.items()])
        agreed = self._redis.agreed(era)
        told = {
            event_id: agreed and not isinstance(answer, RedisDown)
            for event_id, answer in zip(groups, answers, strict=True)
        }
        return [told[claim.event_id] for claim in claims]

    async def finish(self, claim: Claim) -> None:
        """Tell of a write, or wait. When this returns, nobody is shown the old state any more."""
        if not await self._tell(claim):
            await self.outwait()

    async def outwait(self) -> None:
        """Wait until no cache can show what it was filled with before this call."""
        await asyncio.sleep(self._stale_s)

    def _locking(self, claims: list[Claim]) -> Call:
        keys = [key for claim in claims for key in claim.keys]
        owners = " ".join(f"{claim.token} {len(claim.keys)}" for claim in claims)
        return Call(LOCK, keys, (self._ttl_ms, owners))


def _finishing(event_id: int, claims: list[Claim]) -> Call:
    keys = [key for claim in claims for key in claim.keys]
    tokens = " ".join(claim.token for claim in claims for _ in claim.keys)
    shared = [generation_key(event_id), entry_key(event_id)]
    return Call(FINISH, [*shared, *keys], (GENERATION_TTL_MS, tokens))


def _by_event(claims: list[Claim]) -> dict[int, list[Claim]]:
    groups: dict[int, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.event_id, []).append(claim)
    return groups


def _refusal(claim: Claim, busy: list[int]) -> Exception | None:
    """Of a claim that found these of its keys, counted from 1, locked by others."""
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
