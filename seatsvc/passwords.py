"""Passwords: which are good enough, and their bcrypt hashes, made apart from the event loop."""

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import bcrypt

from seatsvc import patience
from seatsvc.errors import Unavailable

MIN_LENGTH = 8
MAX_BYTES = 72
THREADS = 2
WAITING_MAX = 100  # of a quarter of a second each, at best
HASH_S = 2.0  # with the wait for a thread, in a crowd
CALM_S = 3.0  # so long after its last sign a crowd is still there
LOOK_S = 0.1
NICENESS = 10
CROWDED = "Too many people log in right now. Try again in a moment."
T = TypeVar("T")


@cache
def common() -> frozenset[str]:
    """The 3,000 most common passwords of our length (zxcvbn's list, Dropbox, MIT licence)."""
    return frozenset((Path(__file__).parent / "common_passwords.txt").read_text().split())


def valid_password(password: str) -> str:
    """8 characters to 72 bytes, since bcrypt reads no further; none of the most common ones.

    Raises ValueError.
    """
    if len(password) < MIN_LENGTH:
        raise ValueError(f"must have at least {MIN_LENGTH} characters")
    if len(password.encode()) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES} bytes in UTF-8")
    if "\0" in password:  # where many a bcrypt would stop to read
        raise ValueError("must not hold NUL")
    if password.casefold() in common():
        raise ValueError("is one of the most common passwords: choose another")
    return password


class Hasher:
    """bcrypt in two threads that yield to everything else on this machine.

    Who comes alone, or among some others who log in, has time. In a crowd hashes get little of the
    processor, or there are more than it can make: each raises Unavailable when it takes too long.
    """

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(THREADS, "bcrypt", initializer=_yield_to_others)
        self.waiting = 0
        self._crowd_at = -math.inf  # when there was one last
        self._took_s = 0.0  # the last hash
        self._nobody = f"$2b${cost:02}${'.' * 53}"  # no password has this hash

    async def hash(self, password: str) -> str:
        """A hash with a salt of its own."""
        return await self._run(lambda: _hash(password, self._cost))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Is this its hash? Without a hash: no, after the same work."""
        return await self._run(lambda: _matches(password, password_hash or self._nobody))

    def outdated(self, password_hash: str) -> bool:
        """Was it made with less work than is asked for now?"""
        return int(password_hash[4:6]) < self._cost

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        if self.waiting >= WAITING_MAX:
            self._crowd_at = time.monotonic()
            raise Unavailable(CROWDED)
        late_at = patience.answer_by(HASH_S)
        hashing = self._threads.submit(self._in_time, work, late_at)
        self.waiting += 1
        try:
            done = asyncio.wrap_future(hashing)
            while not done.done():
                await asyncio.wait({done}, timeout=LOOK_S)
                if patience.crowded():
                    self._crowd_at = time.monotonic()
                if not done.done() and self._is_late(late_at):
                    raise Unavailable(CROWDED)
            return done.result()
        finally:
            hashing.cancel()  # one that has no thread yet is wanted by nobody any more
            self.waiting -= 1

    def _in_time(self, work: Callable[[], T], late_at: float) -> T:
        """Begin nothing that would be given up in its midst, so that others end in time."""
        if self._is_late(late_at - self._took_s):
            raise Unavailable(CROWDED)
        began_at = time.monotonic()
        result = work()
        self._took_s = time.monotonic() - began_at
        return result

    def _is_late(self, late_at: float) -> bool:
        """Only in a crowd is anybody. Event loops count by this clock, too."""
        return late_at < time.monotonic() < self._crowd_at + CALM_S


def _yield_to_others() -> None:
    # On Linux a thread has a priority of its own: a storm of logins must not slow the bookings.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _hash(password: str, cost: int) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def _matches(password: str, password_hash: str) -> bool:
    secret = password.encode()
    # bcrypt reads 72 bytes; a longer password can be nobody's, but takes as long.
    matches = bcrypt.checkpw(secret[:MAX_BYTES], password_hash.encode())
    return matches and len(secret) <= MAX_BYTES
