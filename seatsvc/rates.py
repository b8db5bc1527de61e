"""Rate limits: how often somebody may do something, told by Redis for all workers.

None is per account alone where a stranger could use it up: that would lock the owner out.
"""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from seatsvc.errors import RateLimited
from seatsvc.scripts import Redis, RedisDown, Script
from seatsvc.settings import Settings

RATE = Script("rate")
QUOTAS_MAX = 10_000
US = 1_000_000  # microseconds in a second


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at once, and as many again in each period, evenly."""

    name: str
    burst: int
    period_s: int

    @property
    def step_us(self) -> int:
        """The time in which one request comes back."""
        return self.period_s * US // self.burst


LOGIN = Rate("login", 10, 60)  # per account and address
LOGIN_ADDRESS = Rate("login-address", 100, 60)  # per address
REGISTER = Rate("register", 100, 600)  # per address
RESET = Rate("reset", 10, 600)  # per address
PASSWORD = Rate("password", 10, 60)  # per user: calls that ask a logged-in user's password
MAIL = Rate("mail", 5, 600)  # per user: what has a mail sent to an address of their choice
BOOKING = Rate("booking", 100, 10)  # per user: writes to bookings and holds


@dataclass(frozen=True, slots=True)
class Spent:
    """What a request left of its quota."""

    rate: Rate
    remaining: int
    more_s: int  # whole seconds, at least 1, until there is one more


class Rates:
    """Takes requests off quotas. Without Redis each worker counts for itself, as strictly."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._on = settings.rate_limits == "on"
        self._memory = Memory()

    async def spend(self, rate: Rate, who: object) -> Spent | None:
        """Take one request off this one's quota; None when limits are off.

        Raises RateLimited.
        """
        if not self._on:
            return None
        allowed, left_us = await self._ask(rate, _key(rate, who))
        spent = _spent(rate, left_us)
        if not allowed:
            raise RateLimited(retry_after_s=spent.more_s)
        return spent

    async def _ask(self, rate: Rate, key: str) -> tuple[int, int]:
        try:
            allowed, left_us = await self._redis.run(RATE, [key], rate.burst, rate.step_us)
        except RedisDown:
            return self._memory.ask(rate, key)
        return allowed, left_us


class Memory:
    """What rate.lua does, in this process; of 10,000 quotas, those that were asked for last."""

    def __init__(self) -> None:
        self._full_at_us: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at_us)

    def ask(self, rate: Rate, key: str) -> tuple[int, int]:
        """Whether there was a request left, and the time until the whole quota is back, in us."""
        now_us = time.monotonic_ns() // 1000
        full_at_us = max(self._full_at_us.pop(key, now_us), now_us)
        allowed = full_at_us + rate.step_us <= now_us + rate.burst * rate.step_us
        full_at_us += allowed * rate.step_us
        self._full_at_us[key] = full_at_us
        if len(self) > QUOTAS_MAX:
            self._full_at_us.popitem(last=False)
        return allowed, full_at_us - now_us


def _key(rate: Rate, who: object) -> str:
    # Hashed, for it may hold names and addresses; these are nobody's business in Redis.
    digest = hashlib.blake2b(str(who).encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"rate:{rate.name}:{digest}"


def _spent(rate: Rate, left_us: int) -> Spent:
    missing = _up(left_us, rate.step_us)
    more_us = left_us - (missing - 1) * rate.step_us
    return Spent(rate, rate.burst - missing, _up(more_us, US))


def _up(amount: int, unit: int) -> int:
    return -(-amount // unit)
