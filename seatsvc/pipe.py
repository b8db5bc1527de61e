"""A connection to Redis for one call at a time, which may be of many commands.

redis-py opens it and logs in, as its URL says; hiredis packs what is sent and reads what comes.
redis-py's own pool and pipeline cost a call several times as much.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError

Command = tuple[str | bytes | int, ...]
_pack: Callable[[Command], bytes] = cast(Any, hiredis.pack_command)


class Pipe(asyncio.Protocol):
    """Opened when it is first used. After a call that got no reply it is to be closed.

    Only one call is under way, so that a reply that got lost is not made up for by the next one's.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._connection: Any = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=_refusal, notEnoughData=self)
        self._replies: list[Any] = []
        self._asked = 0
        self._answer: asyncio.Future[None] | None = None

    def leads_to(self, client: redis.asyncio.Redis) -> bool:
        """Can this client's server be asked?"""
        is_open = self._transport is not None and not self._transport.is_closing()
        return is_open and client is self._client

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies; a RedisError in place of each that was refused.

        Raises RedisError, OSError: what was asked may have been done.
        """
        transport = self._transport or await self._open()
        if transport.is_closing():
            raise ConnectionError("the connection has ended")
        self._asked, self._replies = len(commands), []
        self._answer = asyncio.get_running_loop().create_future()
        transport.write(b"".join(map(_pack, commands)))
        await self._answer
        return self._replies

    async def close(self) -> None:
        """At once."""
        if self._transport is not None:
            self._transport.abort()
        await self._connection.disconnect(nowait=True)

    async def _open(self) -> asyncio.Transport:
        await self._connection.connect()
        transport: asyncio.Transport = self._connection._writer.transport
        transport.set_protocol(self)
        self._transport = transport
        return transport

    def data_received(self, data: bytes) -> None:
        """Collect the replies. One that nobody awaits ends the connection."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not self:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        except (hiredis.ProtocolError, asyncio.InvalidStateError):
            cast(asyncio.Transport, self._transport).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody need wait any longer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the connection has ended"))

    def _take(self, reply: Any) -> None:
        if self._answer is None or self._answer.done():
            raise asyncio.InvalidStateError
        self._replies.append(reply)
        if len(self._replies) == self._asked:
            self._answer.set_result(None)


def _refusal(message: str) -> RedisError:
    return NoScriptError(message) if message.startswith("NOSCRIPT") else ResponseError(message)
