"""What the service is measured against, served as it is: `python -m bench.yardsticks NAME PORT`."""

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict
from uuid import UUID

import asyncpg
import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route

from seatsvc import local
from seatsvc.cli import SERVER_OPTIONS
from seatsvc.tokens import ALGORITHM, ISSUER

BODY = b'"%s"' % (b"x" * 4094)
POOL_SIZE = 10  # as the service's
# A protocol of the service's own, should it have one, is no part of the framework.
OPTIONS = SERVER_OPTIONS | {"http": "httptools"}


class State(TypedDict):
    """What requests of the plain design share."""

    pool: asyncpg.Pool


class Wish(BaseModel):
    """A small body, as the service's for places that it picks."""

    event_id: int
    quantity: int = 1


async def _ready(_: StarletteRequest) -> StarletteResponse:
    return StarletteResponse(b"{}", 200, media_type="application/json")


async def _prebuilt(_: StarletteRequest) -> StarletteResponse:
    return StarletteResponse(BODY, 200, media_type="application/json")


def bare() -> Starlette:
    """Starlette and nothing else."""
    return Starlette(routes=[Route("/prebuilt", _prebuilt), Route("/readyz", _ready)])


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[State]:
    url = os.environ["DATABASE_URL"]
    async with asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        yield {"pool": pool}


def full() -> FastAPI:
    """FastAPI: prebuilt answers, a POST that only verifies a JWT, and the plain design."""
    app = FastAPI(lifespan=_lifespan)
    app.add_route("/readyz", _ready)
    app.get("/prebuilt")(prebuilt)
    app.get("/prebuilt-large")(prebuilt_large)
    app.put("/prebuilt-large", status_code=204)(set_large)
    app.post("/verified", status_code=201)(verified)
    app.post("/plain-bookings", status_code=201)(book_plainly)
    return app


async def prebuilt() -> Response:
    """4 KB."""
    return Response(BODY, media_type="application/json")


large = b""


async def prebuilt_large() -> Response:
    """As many bytes as it was given."""
    return Response(large, media_type="application/json")


async def set_large(request: Request) -> None:
    """What to answer from now on."""
    global large
    large = await request.body()


async def _user(token: Annotated[str, Depends(OAuth2PasswordBearer("/token"))]) -> UUID:
    try:
        claims = jwt.decode(
            token, os.environ["JWT_SECRET"], [ALGORITHM], audience=ISSUER, issuer=ISSUER
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    return UUID(claims["sub"])


async def verified(wish: Wish, user_id: Annotated[UUID, Depends(_user)]) -> dict[str, int]:
    """Nothing else."""
    return {"event_id": wish.event_id}


async def book_plainly(
    wish: Wish, user_id: Annotated[UUID, Depends(_user)], request: Request
) -> dict[str, Any]:
    """Lock the event, count, insert, commit."""
    pool: asyncpg.Pool = request.state.pool
    async with pool.acquire() as connection, connection.transaction():
        capacity = await connection.fetchval(
            "select capacity from events where id = $1 for update", wish.event_id
        )
        if capacity is None:
            raise HTTPException(404)
        booked = await connection.fetchval(
            "select count(*) from bookings where event_id = $1", wish.event_id
        )
        if booked + wish.quantity > capacity:
            raise HTTPException(409)
        booking_id = await connection.fetchval(
            "insert into bookings (event_id, user_id) values ($1, $2) returning id",
            wish.event_id,
            user_id,
        )
    return {"id": str(booking_id), "event_id": wish.event_id}


APPS: dict[str, Callable[[], Any]] = {"starlette": bare, "fastapi": full}

if __name__ == "__main__":
    local.die_with_parent()
    uvicorn.run(APPS[sys.argv[1]](), port=int(sys.argv[2]), **OPTIONS)
