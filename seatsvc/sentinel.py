"""Where Redis is: at one address for good, or where most of the sentinels say that the primary is.

Sentinel does not end one primary before it makes the next: for seconds two may answer, each with
some of the workers. A worker therefore relies on a primary only while it knows that all do:
no longer than a lease after most sentinels named it, and not before everybody's lease on the one
before has run out. Two majorities share a sentinel, and no sentinel goes back (decision 0024).
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from seatsvc.settings import SENTINEL, SERVICE, hosts_of

REPLY_TIMEOUT_S = 0.150
POLL_S = 0.25
LEASE_S = 1.0
SENTINEL_PORT = 26379
# RuntimeError is what uvloop raises where a connection closes just before it is used.
UNANSWERED = (RedisError, OSError, TimeoutError, RuntimeError)
Client = redis.asyncio.Redis

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Vote:
    """What a sentinel says: the primary's address, and in which of its elections it became so."""

    host: str
    port: int
    epoch: int

    @property
    def era(self) -> str:
        """What no other primary's time is called."""
        return f"@{self.host}:{self.port}@{self.epoch}"


@dataclass(frozen=True)
class Sentinels:
    """A URL such as redis+sentinel://user:password@host1:26379,host2/mymaster/0.

    The password is the servers'; the sentinels' own is `sentinel_password` in the query.
    """

    parts: SplitResult

    @property
    def name(self) -> str:
        """Under which the sentinels know the primary."""
        return self._service[1]

    @property
    def urls(self) -> list[str]:
        """One for each sentinel."""
        query = dict(parse_qsl(self.parts.query))
        user, password = (query.get(f"sentinel_{each}", "") for each in ("username", "password"))
        login = f"{quote(user, '')}:{quote(password, '')}@" if password else ""
        options = self._options(lambda name: name.startswith("ssl_"))
        hosts = (
            host if urlsplit(f"//{host}").port else f"{host}:{SENTINEL_PORT}"
            for host in hosts_of(self.parts)
        )
        return [f"{self._scheme}://{login}{host}{options}" for host in hosts]

    def primary_url(self, vote: Vote) -> str:
        """The URL of the server that they name."""
        login = "".join(self.parts.netloc.rpartition("@")[:2])
        host = f"[{vote.host}]" if ":" in vote.host else vote.host
        options = self._options(lambda name: not name.startswith("sentinel_"))
        return f"{self._scheme}://{login}{host}:{vote.port}/{self._service[2] or 0}{options}"

    @property
    def _scheme(self) -> str:
        return self.parts.scheme.partition("+")[0]

    @property
    def _service(self) -> re.Match[str]:
        found = SERVICE.fullmatch(self.parts.path)
        if found is None:
            raise ValueError("REDIS_URL names no service")
        return found

    def _options(self, wanted: Callable[[str], bool]) -> str:
        kept = [(name, value) for name, value in parse_qsl(self.parts.query) if wanted(name)]
        return "?" + urlencode(kept) if kept else ""


def connect(url: str, reply_timeout_s: float | None = None) -> Client:
    """A client that neither waits long for a connection nor tries anything twice."""
    return Client.from_url(
        url,
        socket_timeout=reply_timeout_s,
        socket_connect_timeout=REPLY_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


class Primary:
    """The server to use, if one is known. With Sentinel, make it in a running event loop."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.client: Client | None = None
        self.era = ""
        self._sentinels: Sentinels | None = None
        if parts.scheme in SENTINEL:
            self._sentinels = Sentinels(parts)
            self._watching = asyncio.create_task(self._watch(self._sentinels))
            self._since = self._known_until = 0.0
        else:
            self.client = connect(url)

    @property
    def sure(self) -> bool:
        """Do all workers that rely on a primary rely on this one?"""
        if self._sentinels is None:
            return True
        return self._since + LEASE_S <= asyncio.get_running_loop().time() < self._known_until

    async def close(self) -> None:
        """Close the connections."""
        if self._sentinels is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        if self.client is not None:
            await self.client.aclose()

    async def _watch(self, sentinels: Sentinels) -> None:
        clients = [connect(url, REPLY_TIMEOUT_S) for url in sentinels.urls]
        try:
            while True:
                try:
                    await self._ask_all(sentinels, clients)
                except Exception:
                    log.exception("the sentinels could not be asked")
                await asyncio.sleep(POLL_S)
        finally:
            await asyncio.gather(*(client.aclose() for client in clients))

    async def _ask_all(self, sentinels: Sentinels, clients: list[Client]) -> None:
        clock, was_known = asyncio.get_running_loop().time, self._known_until
        asked_at = clock()
        answers = await asyncio.gather(*(_ask(client, sentinels.name) for client in clients))
        vote = elected(answers)
        if vote is not None:
            if vote.era != self.era:
                await self._turn_to(vote, sentinels.primary_url(vote))
            self._known_until = asked_at + LEASE_S
        elif was_known and was_known <= clock():
            self._known_until = 0.0
            log.warning("most sentinels do not name one primary: going on without its cache")

    async def _turn_to(self, vote: Vote, url: str) -> None:
        log.warning("the primary of Redis is now %s:%d, epoch %d", vote.host, vote.port, vote.epoch)
        before, self.client, self.era = self.client, connect(url), vote.era
        self._since = asyncio.get_running_loop().time()
        if before is not None:
            with suppress(*UNANSWERED):
                await before.aclose()


async def _ask(client: Client, name: str) -> tuple[Vote, int] | None:
    """What this sentinel says, and how many others it knows."""
    try:
        state = cast(dict[str, Any], await client.sentinel_master(name))
    except UNANSWERED:
        return None
    vote = Vote(str(state["ip"]), int(state["port"]), int(state["config-epoch"]))
    return vote, int(state["num-other-sentinels"])


def elected(answers: list[tuple[Vote, int] | None]) -> Vote | None:
    """What most of all sentinels say, also of those that were not asked."""
    said = [answer for answer in answers if answer is not None]
    sentinels = max([len(answers), *(others + 1 for _, others in said)])
    votes = Counter(vote for vote, _ in said)
    return next((vote for vote, count in votes.items() if count > sentinels / 2), None)
