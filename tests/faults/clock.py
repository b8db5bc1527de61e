"""A clock that is off: what libfaketime tells a server, and what the server believes."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

import pytest
import redis.asyncio
from redis.exceptions import RedisError

from tests.faults.stage import POLL_S, Machines

HOUR_S = 3600
LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"


class Clock:
    """Redis' own: so many seconds off, from one moment to the next."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, off_s: int) -> None:
        """Ahead, or with a minus behind."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{off_s:+d}")
        new.replace(self._file)

    def prefix(self) -> tuple[str, ...]:
        """What starts a program that goes by this clock, and by the real one for its own waits."""
        spec = importlib.util.find_spec("libfaketime")
        if spec is None or spec.origin is None:
            pytest.skip("libfaketime is made for Linux on x86-64 only")
        return (
            "env",
            f"LD_PRELOAD={Path(spec.origin).parent / LIBRARY}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "DONT_FAKE_MONOTONIC=1",
        )


@asynccontextmanager
async def clocked(machines: Machines) -> AsyncIterator[Clock]:
    """Redis is started anew, with a clock that can be set; then with the machine's again."""
    clock = Clock(machines.folder / "clock")
    prefix = clock.prefix()
    machines.kill_redis()
    machines.start_redis(*prefix)
    try:
        await answers(machines)
        yield clock
    finally:
        machines.kill_redis()
        machines.start_redis()
        await answers(machines)


async def answers(machines: Machines) -> None:
    """Redis has started."""
    async with redis.asyncio.Redis.from_url(machines.servers.redis_url) as client:
        for _ in range(200):
            try:
                await client.ping()
            except (OSError, RedisError):
                await asyncio.sleep(POLL_S)
            else:
                return


async def off_s(machines: Machines) -> int:
    """How far off Redis says that it is."""
    async with redis.asyncio.Redis.from_url(machines.servers.redis_url) as client:
        seconds, _ = await client.time()
    return round(seconds - time())
