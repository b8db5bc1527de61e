"""The way to PostgreSQL: to the host that is the primary now; and what says that it is lost."""

import asyncio
from typing import Any
from urllib.parse import SplitResult, urlsplit

import asyncpg

from seatsvc.settings import WRITABLE, hosts_of

# A host that says nothing must not use up the time in which another would answer.
HEAD_START_S = 0.2

REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
# Errors after which PostgreSQL may answer again soon, with nothing left half done.
PASSING = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
    *REFUSED,
    OSError,
    TimeoutError,
)

# Errors after which a connection, and probably its neighbours, lead nowhere, or no longer to the
# primary. Whether what was sent was also done is unknown, except of a server that only reads.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server has said farewell, and the connection still stands
    OSError,
    TimeoutError,
)


class Hosts:
    """Connects to the one of a URL's hosts that takes writes; the last one that did is asked first.

    All are tried in the end, each a little after the one before it (RFC 8305).
    """

    def __init__(self, url: str) -> None:
        self._urls = _each(urlsplit(url))

    async def connect(self, dsn: str | None = None, **options: Any) -> asyncpg.Connection:
        """A connection, as `asyncpg.connect` makes it; raises what the last host said.

        The pool names itself by `dsn`; it is ours.
        """
        tries = {
            asyncio.create_task(_try(url, n * HEAD_START_S, options)): url
            for n, url in enumerate(self._urls)
        }
        waiting, taken = set(tries), None
        try:
            while waiting and taken is None:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                taken = next((each for each in done if each.exception() is None), None)
        finally:
            for each in tries:
                if each is not taken:
                    _give_up(each)
        if taken is None:
            return [*tries][-1].result()
        self._urls.remove(tries[taken])
        self._urls.insert(0, tries[taken])
        return taken.result()


async def _try(url: str, late_s: float, options: dict[str, Any]) -> asyncpg.Connection:
    await asyncio.sleep(late_s)
    return await asyncpg.connect(url, **options)


def _give_up(attempt: asyncio.Task[asyncpg.Connection]) -> None:
    if not attempt.cancel() and attempt.exception() is None:
        attempt.result().terminate()


def _each(parts: SplitResult) -> list[str]:
    """A URL for each host."""
    login, hosts = "".join(parts.netloc.rpartition("@")[:2]), hosts_of(parts)
    if len(hosts) > 1 and "target_session_attrs=" not in parts.query:
        joined = [parts.query, f"target_session_attrs={WRITABLE[0]}"]
        parts = parts._replace(query="&".join(filter(None, joined)))
    return [parts._replace(netloc=login + host).geturl() for host in hosts]
