"""How long a request may wait, in all the queues that it meets together.

That a queue is only so long is no promise: each of its places can take long, and one queue follows
another. What does not get its turn in time is refused, so that others get theirs.
"""

import asyncio
import math
from contextvars import Context, ContextVar

TURN_S = 2.0  # from a request's begin to the last turn that it waits for
ANSWER_S = 2.5  # to the end of work that can be given up

FEW = 50  # requests without an answer, that a worker serves without haste

unanswered = 0  # as api/crowd.py counts them; hashing, which has a queue of its own, left out
_began_at: ContextVar[float] = ContextVar("began_at", default=math.inf)


def crowded() -> bool:
    """Do many others wait for answers?"""
    return unanswered >= FEW / 2


def begin() -> None:
    """A request begins here."""
    _began_at.set(asyncio.get_running_loop().time())


def lift() -> None:
    """What goes on here goes on for nobody, or for many, or must not stop any more."""
    _began_at.set(math.inf)


def turn_by(most_s: float) -> float:
    """Until when to wait for a turn, by the event loop's clock: so many seconds, or less."""
    return min(_began_at.get() + TURN_S, asyncio.get_running_loop().time() + most_s)


def answer_by(most_s: float) -> float:
    """Until when to wait for what can be given up."""
    return min(_began_at.get() + ANSWER_S, asyncio.get_running_loop().time() + most_s)


def is_over(context: Context) -> bool:
    """Has this request waited for a turn for too long?"""
    return asyncio.get_running_loop().time() > context.get(_began_at, math.inf) + TURN_S
