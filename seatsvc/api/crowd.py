"""Refuses requests when more come than can be answered in time.

One that waits costs something each time it gets on, so that too many keep all of them from their
end. A refusal costs little.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc import patience
from seatsvc.api.problems import problem
from seatsvc.errors import Unavailable

# Requests without an answer. Below patience.FEW nobody is refused here; from there to this number
# nobody while looks are answered in time, so that all of 500 who want the same seat are heard.
MANY = 600
LATE_S = 0.5
CALM_S = 0.5  # so long after the last late answer they are in time again
PAUSE_S = 1.0  # until a refusal, lest those who ask again at once take all that there is
PROBES = {"/livez", "/readyz", "/health", "/metrics"}
READING = ("GET", "HEAD")
HASHING = "/auth/"  # takes its time, in a queue of its own, and is not counted


class Crowd:
    """Counts who waits for an answer to begin: one that goes on for long, as a stream, is one.

    Who has not sent all of a body yet does not count, or a few slow clients would keep others out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._unanswered = 0
        self._late_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        asked_at, begun, reads = clock(), False, scope["method"] in READING
        hashes = scope["path"].startswith(HASHING)
        waits, whole = reads and not hashes, False

        async def receive_counted() -> Message:
            nonlocal waits, whole
            message = await receive()
            if not (whole or message.get("more_body")):
                whole = True
                patience.begin()  # until now nobody waited but us
                if not (begun or hashes):
                    waits = True
                    self._count(1)
            return message

        async def send_counted(message: Message) -> None:
            nonlocal begun, waits
            if not begun:
                begun = True
                self._count(-waits)
                waits = False
                waited_s = clock() - asked_at
                # A write without Redis is late on purpose, and waits for nobody.
                if waited_s > LATE_S and reads:
                    self._late_at = clock()
                if message.get("status") == Unavailable.status and (hashes or patience.crowded()):
                    await asyncio.sleep(PAUSE_S - waited_s)
            await send(message)

        refused = self._is_full(asked_at) and not hashes and scope["path"] not in PROBES
        self._count(waits)
        heard = receive if reads else receive_counted
        try:
            await (_refuse if refused else self._app)(scope, heard, send_counted)
        finally:
            self._count(-waits)

    def _count(self, change: int) -> None:
        self._unanswered += change
        patience.unanswered = self._unanswered

    def _is_full(self, now: float) -> bool:
        in_time = now - self._late_at > CALM_S
        return self._unanswered >= (MANY if in_time else patience.FEW)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = Unavailable("Too many requests at once. Try again in a moment.")
    await problem(error)(scope, receive, send)
