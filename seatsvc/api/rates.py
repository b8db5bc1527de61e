"""Rate limits over HTTP: who is asking, and the headers that say what is left.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc.api.deps import BearerDep, authenticated, required, state
from seatsvc.errors import RateLimited
from seatsvc.rates import BOOKING, Rate, Spent
from seatsvc.sessions import Caller

SPENT = "seatsvc.spent"
UNKNOWN = "unknown"
IPV6_SITE_BITS = 64
MAPPED_BITS = 96


async def spend(request: Request, rate: Rate, who: str) -> None:
    """Take this request off a quota. Its answer, whichever it will be, says what is left.

    Raises RateLimited.
    """
    try:
        spent = await state(request)["rates"].spend(rate, who)
    except RateLimited as error:
        request.scope[SPENT].append(Spent(rate, 0, error.retry_after_s or 1))
        raise
    if spent is not None:
        request.scope[SPENT].append(spent)


async def booker(request: Request, token: str) -> Caller:
    """Who writes to bookings or holds, which is taken off the user's quota.

    Only then: whoever stole a token that has ended must not use up its owner's. Raises
    InvalidToken, RateLimited.
    """
    caller = await authenticated(request, token)
    await spend(request, BOOKING, str(caller.user_id))
    return caller


async def _booker(request: Request, bearer: BearerDep) -> Caller:
    return await booker(request, required(request, bearer))


BookerDep = Annotated[Caller, Depends(_booker)]


def address(request: Request) -> str:
    """Where a request comes from; of IPv6 the network, as one site has as many as it likes.

    What is no IP address is all one: nobody gets a quota of their own by making one up.
    """
    try:
        ip = ip_address(request.client.host if request.client else "")
    except ValueError:
        return UNKNOWN
    if isinstance(ip, IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(IPv6Network((int(ip), IPV6_SITE_BITS), strict=False))


def proxies(networks: tuple[str, ...]) -> list[str]:
    """These networks also as they look from a socket that takes both IPv6 and IPv4."""
    return [*networks, *(mapped for mapped in map(_mapped, networks) if mapped)]


def _mapped(text: str) -> str | None:
    network = ip_network(text)
    if isinstance(network.network_address, IPv6Address):
        return None
    return f"::ffff:{network.network_address}/{MAPPED_BITS + network.prefixlen}"


class RateLimitHeaders:
    """Says in each answer what it left of the quotas that it was taken off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        spent: list[Spent] = []
        scope[SPENT] = spent

        async def send_with_limits(message: Message) -> None:
            if spent and message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_headers(spent))
            await send(message)

        await self._app(scope, receive, send_with_limits)


def _headers(spent: list[Spent]) -> dict[str, str]:
    policies = (f'"{s.rate.name}";q={s.rate.burst};w={s.rate.period_s}' for s in spent)
    limits = (f'"{s.rate.name}";r={s.remaining};t={s.more_s}' for s in spent)
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)}
