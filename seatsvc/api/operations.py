"""For operators: is it alive, is it ready, how is it."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from seatsvc import __version__, db, metrics, migrations
from seatsvc.api.deps import State, StateDep
from seatsvc.api.problems import answers
from seatsvc.errors import Unavailable
from seatsvc.scripts import RedisDown

router = APIRouter()
SQL = db.queries("db")

Status = Literal["pass", "warn", "fail"]


class Health(BaseModel):
    """The state of the service and of what it depends on."""

    status: Status
    version: str
    checks: dict[str, list[dict[str, Any]]]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["pass"] = "pass"


@router.get("/livez")
async def livez() -> Alive:
    """The process can answer. Touches nothing."""
    return Alive()


@router.get("/readyz", responses=answers(Unavailable))
async def readyz(parts: StateDep) -> Alive:
    """PostgreSQL answers, its migrations are current, no stop is near. Redis may be down."""
    if parts["draining"].is_set():
        raise Unavailable("About to stop.")
    try:
        current = not await migrations.pending(parts["database"])
    except migrations.MigrationError as error:
        raise Unavailable(str(error)) from error
    if not current:
        raise Unavailable("The database's migrations are not current. Run: seatsvc migrate")
    return Alive()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics() -> Response:
    """What Prometheus reads, of all workers."""
    text = await asyncio.to_thread(metrics.document)
    return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})


async def sample(parts: State) -> None:
    """Note what goes up and down."""
    waiting = {
        "sessions": parts["sessions"].waiting,
        "bookings": parts["bookings"].waiting,
        "holds": parts["holds"].waiting,
        "looks": parts["seats"].waiting,
        "redis": parts["redis"].waiting,
        "passwords": parts["accounts"].waiting,
    }
    for lane, count in waiting.items():
        metrics.LANE_WAITING.labels(lane).set(count)
    for state, count in parts["database"].usage().items():
        metrics.POOL.labels(state).set(count)
    metrics.BREAKER_OPEN.set(parts["redis"].down)
    metrics.WATCHERS.set(parts["live"].watchers)


class HealthResponse(JSONResponse):
    """Of the Internet draft's media type."""

    media_type = "application/health+json"


@router.get(
    "/health",
    response_model=Health,
    response_class=HealthResponse,
    responses={503: {"model": Health}},
)
async def health(parts: StateDep) -> HealthResponse:
    """How the service and its dependencies are. Redis down is `warn`, PostgreSQL down `fail`."""
    postgresql, redis = await asyncio.gather(_postgresql(parts), _redis(parts))
    status: Status = postgresql["status"] if postgresql["status"] == "fail" else redis["status"]
    checks = {"postgresql": [postgresql], "redis": [redis]}
    body = Health(status=status, version=__version__, checks=checks).model_dump()
    headers = {"Cache-Control": "no-store"}
    return HealthResponse(body, 503 if status == "fail" else 200, headers)


async def _postgresql(parts: State) -> dict[str, Any]:
    check = await _timed(parts["database"].only(SQL["ping"]), "fail")
    return {**check, "pool": parts["database"].usage()}


async def _redis(parts: State) -> dict[str, Any]:
    check = await _timed(parts["redis"].ping(), "warn")
    return {**check, "breaker": "open" if parts["redis"].breaker.open else "closed"}


async def _timed(call: Awaitable[object], when_down: Status) -> dict[str, Any]:
    started_at, status = time.perf_counter(), "pass"
    try:
        await call
    except (Unavailable, RedisDown):
        status = when_down
    ms = round((time.perf_counter() - started_at) * 1000, 2)
    return {
        "componentType": "datastore",
        "status": status,
        "observedValue": ms,
        "observedUnit": "ms",
    }
