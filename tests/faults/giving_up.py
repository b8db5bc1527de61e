"""What a service would be like that stops half-way when its client hangs up.

Ours finishes what it began: from the lock on, an order runs in a task of its own.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc import app
from seatsvc.checkout import Checkout
from seatsvc.lanes import Lane


class GivesUp:
    """Cancels a request as soon as its client has gone."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and listen whether anybody is still there."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        messages: asyncio.Queue[Message] = asyncio.Queue()
        serving = asyncio.ensure_future(self._inner(scope, messages.get, send))

        async def listen() -> None:
            while (message := await receive())["type"] != "http.disconnect":
                messages.put_nowait(message)
            serving.cancel()

        listening = asyncio.create_task(listen())
        with suppress(asyncio.CancelledError):
            await serving
        listening.cancel()


async def alone(lane: Lane[Any, Any], item: Any) -> Any:
    """A lane that carries everyone in their own task."""
    [result] = await lane._run([item])
    if isinstance(result, Exception):
        raise result
    return result


async def unshielded(_: Checkout[Any], work: Coroutine[Any, Any, Any]) -> Any:
    """Work that stops half-way."""
    return await work


def cancels(patches: pytest.MonkeyPatch) -> None:
    """Requests are cancelled when their clients hang up; what they began goes on."""
    way_in = app._way_in
    patches.setattr(app, "_way_in", lambda settings, inner: GivesUp(way_in(settings, inner)))


def no_shield(patches: pytest.MonkeyPatch) -> None:
    """And what they began stops, too."""
    cancels(patches)
    patches.setattr(Lane, "__call__", alone)
    patches.setattr(Checkout, "to_the_end", unshielded)
