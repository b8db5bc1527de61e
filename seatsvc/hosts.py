"""The way to PostgreSQL: to the host that is the primary now; and what says that it is lost."""

import asyncio
from typing import Any
from urllib.parse import SplitResult, urlsplit

import asyncpg

from seatsvc.settings import WRITABLE, hosts_of

# A host that says nothing must not use up the time in which another would answer.
HEAD_START_S = 0.2
First = asyncio.Future[tuple[str, asyncpg.Connection]]

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
    asyncpg.TargetServerAttributeNotMatched,
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
        first: First = asyncio.get_running_loop().create_future()
        tries = asyncio.gather(
            *(_try(url, n * HEAD_START_S, options, first) for n, url in enumerate(self._urls)),
            return_exceptions=True,
        )
        either: tuple[asyncio.Future[Any], ...] = first, tries
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if first.done():
                first.result()[1].terminate()
            first.cancel()
            raise
        finally:
            tries.cancel()
        if not first.done():
            raise next(error for error in reversed(tries.result()) if error is not None)
        url, connection = first.result()
        self._urls.remove(url)
        self._urls.insert(0, url)
        return connection


async def _try(
    url: str,
    late_s: float,
    options: dict[str, Any],
    first: First,
) -> None:
    await asyncio.sleep(late_s)
    connection = await asyncpg.connect(url, **options)
    if first.done():
        connection.terminate()
    else:
        first.set_result((url, connection))


def _each(parts: SplitResult) -> list[str]:
    """A URL for each host."""
    login, hosts = "".join(parts.netloc.rpartition("@")[:2]), hosts_of(parts)
    if len(hosts) > 1 and "target_session_attrs=" not in parts.query:
        joined = [parts.query, f"target_session_attrs={WRITABLE[0]}"]
        parts = parts._replace(query="&".join(filter(None, joined)))
    return [parts._replace(netloc=login + host).geturl() for host in hosts]
