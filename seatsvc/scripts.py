"""Redis: Lua scripts in shared calls, behind a breaker.

Redis may fail at any moment. Whoever gets RedisDown goes on without it.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

from seatsvc.errors import Unavailable
from seatsvc.lanes import Lane
from seatsvc.pipe import Command, Pipe
from seatsvc.sentinel import REPLY_TIMEOUT_S, UNANSWERED, Primary
from seatsvc.settings import Settings

LOOP_GRACE_S = 0.020
BREAKER_FAILURES = 3
BREAKER_PAUSE_S = 0.5

log = logging.getLogger(__name__)


class RedisDown(Exception):
    """Redis gave no usable answer. Whether it did what was asked is unknown."""


class Breaker:
    """Stops asking after three failures in a row, then lets one call through every half second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._next_probe = 0.0

    @property
    def open(self) -> bool:
        """True while Redis is taken for down."""
        return self._failures >= BREAKER_FAILURES

    def allows(self) -> bool:
        """May a call go out now?"""
        if self.open and self._clock() < self._next_probe:
            return False
        self._next_probe = self._clock() + BREAKER_PAUSE_S
        return True

    def succeeded(self) -> None:
        """The call was answered."""
        if self.open:
            log.warning("Redis answers again")
        self._failures = 0

    def failed(self, why: str) -> None:
        """The call was not answered, or in no usable way."""
        self._failures += 1
        if self._failures == BREAKER_FAILURES:
            log.warning("going on without Redis: %s", why)


class Script:
    """A Lua script of `seatsvc/lua/`, whose head says what it takes and returns."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """A script to run, with what it takes."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


class Redis:
    """Runs scripts. Calls that meet travel together.

    None waits longer than 170 ms, and twice as long as the event loop is late.
    """

    def __init__(self, settings: Settings) -> None:
        self._primary = Primary(settings.redis_url.get_secret_value())
        self._lane = Lane(self.run_all, calls_max=4)
        self._idle: list[Pipe] = []
        self.breaker = Breaker(lambda: asyncio.get_running_loop().time())

    async def run(self, script: Script, keys: Sequence[str], *args: str | bytes | int) -> Any:
        """What the script returned.

        Raises RedisDown.
        """
        try:
            return await self._lane(Call(script, keys, args))
        except Unavailable as error:
            raise RedisDown("too many calls wait") from error

    async def run_agreed(
        self, era: str, script: Script, keys: Sequence[str], *args: str | bytes | int
    ) -> Any:
        """The same, where it counts only if all workers use the server that `era` names.

        Raises RedisDown.
        """
        result = await self.run(script, keys, *args)
        if not self.agreed(era):
            raise RedisDown("another primary may be in use")
        return result

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """What each script returned, or RedisDown in its place: for whoever has many, at once."""
        try:
            return await self._run_all(calls) if calls else []
        except RedisDown as error:
            return [error] * len(calls)

    def agreed(self, era: str) -> bool:
        """Has every worker used the server that `era` names, as far as this one can know?"""
        return era == self.era and self._primary.sure

    @property
    def era(self) -> str:
        """Changes with the primary."""
        return self._primary.era

    @property
    def down(self) -> bool:
        """Are we going on without?"""
        return self.breaker.open or not self._primary.sure

    @property
    def waiting(self) -> int:
        """How many calls wait to be sent."""
        return len(self._lane)

    async def ping(self) -> None:
        """Ask Redis itself, whatever the breaker says.

        Raises RedisDown.
        """
        await self._in_time(self._client.ping())
        if not self._primary.sure:
            raise RedisDown("another primary may be in use")

    def subscriber(self) -> redis.asyncio.client.PubSub:
        """A connection that hears what is published."""
        return self._client.pubsub(ignore_subscribe_messages=True)

    async def close(self) -> None:
        """Close the connections."""
        for pipe in self._idle:
            await pipe.close()
        await self._primary.close()

    @property
    def _client(self) -> redis.asyncio.Redis:
        if self._primary.client is None:
            raise RedisDown("no primary is known")
        return self._primary.client

    async def _run_all(self, calls: Sequence[Call]) -> list[Any]:
        if not self.breaker.allows():
            raise RedisDown("the breaker is open")
        results = await self._send(calls)
        lost = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
        if lost:
            missing = {calls[i].script for i in lost}
            again = await self._send([calls[i] for i in lost], missing)
            for i, result in zip(lost, again, strict=True):
                results[i] = result
        return [self._usable(result) for result in results]

    async def _send(self, calls: Sequence[Call], missing: Collection[Script] = ()) -> list[Any]:
        commands: list[Command] = [("SCRIPT", "LOAD", script.text) for script in missing]
        for call in calls:
            commands.append(("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args))
        pipe = await self._take_pipe()
        try:
            replies: list[Any] = await self._in_time(pipe.ask(commands))
        except BaseException:
            await pipe.close()
            raise
        self._idle.append(pipe)
        return replies[len(missing) :]

    async def _take_pipe(self) -> Pipe:
        """One that leads to the server in use."""
        client = self._client
        while self._idle:
            pipe = self._idle.pop()
            if pipe.leads_to(client):
                return pipe
            await pipe.close()
        return Pipe(client)

    async def _in_time(self, call: Awaitable[Any]) -> Any:
        loop = asyncio.get_running_loop()
        due_at = loop.time() + REPLY_TIMEOUT_S
        try:
            async with asyncio.timeout(None) as limit:
                # A late event loop looks like a late Redis: let what has arrived be read first.
                alarm = loop.call_at(
                    due_at, lambda: limit.reschedule(2 * loop.time() - due_at + LOOP_GRACE_S)
                )
                try:
                    result = await call
                finally:
                    alarm.cancel()
        except TimeoutError as error:
            self.breaker.failed("no reply in time")
            raise RedisDown("no reply in time") from error
        except UNANSWERED as error:
            self.breaker.failed(type(error).__name__)
            raise RedisDown(type(error).__name__) from error
        self.breaker.succeeded()
        return result

    def _usable(self, result: Any) -> Any:
        if not isinstance(result, RedisError):
            return result
        self.breaker.failed(str(result).partition(" ")[0])
        return RedisDown(type(result).__name__)


class Subscription:
    """Hears what scripts publish while Redis answers. What they say meanwhile is lost.

    After each gap `heard` is called for every name.
    """

    def __init__(self, client: Redis, heard: Callable[[str], None]) -> None:
        self._client = client
        self._heard = heard
        self._names: set[str] = set()
        self._pubsub: redis.asyncio.client.PubSub | None = None
        self._turns = asyncio.Lock()  # so that Redis hears of comings and goings in their order
        self._task: asyncio.Task[None] | None = None

    async def add(self, name: str) -> None:
        """Hear what is published under this name, too."""
        self._names.add(name)
        self._task = self._task or asyncio.create_task(self._listen())
        await self._tell("subscribe", name)

    async def remove(self, name: str) -> None:
        """No longer."""
        self._names.discard(name)
        await self._tell("unsubscribe", name)

    async def close(self) -> None:
        """Hear nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _tell(self, command: str, name: str) -> None:
        async with self._turns:
            if self._pubsub is not None:
                with suppress(*UNANSWERED):  # whoever listens notices, and begins anew
                    await getattr(self._pubsub, command)(name)

    async def _listen(self) -> None:
        while True:
            with suppress(RedisDown, *UNANSWERED):
                await self._listen_once()
            await asyncio.sleep(BREAKER_PAUSE_S)

    async def _listen_once(self) -> None:
        async with self._client.subscriber() as pubsub:
            async with self._turns:
                # One that is never given up, as a connection without any ends.
                await pubsub.subscribe("seatsvc", *self._names)
                self._pubsub = pubsub
            for name in tuple(self._names):
                self._heard(name)
            try:
                async for message in pubsub.listen():
                    self._heard(message["channel"].decode())
            finally:
                self._pubsub = None
