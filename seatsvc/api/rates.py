"""Rate limits over HTTP: who is asking, and the headers that say what is left.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from fastapi import Depends, Request

from seatsvc.api.deps import BearerDep, authenticated, required, state
from seatsvc.errors import RateLimited
from seatsvc.rates import BOOKING, Rate, Spent
from seatsvc.sessions import Caller
from seatsvc.tokens import Token

SPENT = "seatsvc.spent"
UNKNOWN = "unknown"
IPV6_SITE_BITS = 64
MAPPED_BITS = 96


async def spend(request: Request, rate: Rate, who: object) -> None:
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
    await spend(request, BOOKING, caller.user_id)
    return caller


async def buyer(request: Request, token: str) -> Token:
    """Who orders, by the token alone: the order's transaction looks whether the session lives.

    A refusal may come before it has; then `authenticated` has to. Raises InvalidToken, RateLimited.
    """
    claimed = state(request)["sessions"].claimed(token)
    request.scope["user_id"] = claimed.user_id
    await spend(request, BOOKING, claimed.user_id)
    return claimed


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


def quotas(spent: list[Spent]) -> list[tuple[bytes, bytes]]:
    """The headers that say what a request left of the quotas that it was taken off."""
    if not spent:
        return []
    policies = (f'"{s.rate.name}";q={s.rate.burst};w={s.rate.period_s}' for s in spent)
    limits = (f'"{s.rate.name}";r={s.remaining};t={s.more_s}' for s in spent)
    return [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(limits).encode()),
    ]
