"""The application: the only place where parts are wired."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from seatsvc import __version__, db, telemetry
from seatsvc.accounts import Accounts
from seatsvc.api import (
    accounts,
    bookings,
    events,
    operations,
    problems,
    reports,
    seats,
    ticket_types,
)
from seatsvc.api import holds as holds_api
from seatsvc.api.deps import State
from seatsvc.bookings import Bookings
from seatsvc.events import Events, main_hall
from seatsvc.holds import Holds
from seatsvc.locks import SeatLocks
from seatsvc.reports import Reports
from seatsvc.scripts import Redis
from seatsvc.seats import Seats
from seatsvc.settings import Settings, load
from seatsvc.ticket_types import TicketTypes

DESCRIPTION = """\
Seats, reserved: no seat is ever sold twice, and none is shown free once it is gone.

Every error is an `application/problem+json` document with a stable `code`.
To try things here, register, press **Authorize**, and log in.
"""


ROUTERS = {
    "Accounts": (accounts,),
    "Events": (events, ticket_types, reports),
    "Seats": (seats,),
    "Holds and bookings": (holds_api, bookings),
    "Operations": (operations,),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a start found to do."""

    migrations: list[str]
    admin_created: bool = False


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application. Without settings, the environment's.

    Raises SettingsError.
    """
    # The documentation pages load nothing from elsewhere.
    app = FastAPIOffline(
        static_url="/docs/assets",
        title="seatsvc",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan(settings or load()),
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        telemetry={"tracing": False},
    )
    for tag, nouns in ROUTERS.items():
        for noun in nouns:
            app.include_router(noun.router, tags=[tag])
    problems.install(app)
    app.add_middleware(problems.BodyLimit)
    app.add_middleware(problems.Unexpected)
    app.add_middleware(telemetry.RequestLog)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _lifespan(
    settings: Settings,
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        telemetry.configure_logging()
        async with wired(settings) as state:
            expiry = asyncio.create_task(state["holds"].expire_for_ever())
            yield state
            expiry.cancel()

    return lifespan


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[State]:
    """All parts, until the block ends; what was begun is finished before they close.

    Raises Unavailable when there is no PostgreSQL.
    """
    async with db.connect(settings) as database:
        redis = Redis(settings)
        locks = SeatLocks(redis, settings)
        halls = Seats(database, redis, locks, settings)
        holds = Holds(database, locks, halls)
        state = State(
            settings=settings,
            database=database,
            redis=redis,
            accounts=Accounts(database, settings),
            events=Events(database, locks),
            ticket_types=TicketTypes(database),
            reports=Reports(database),
            seats=halls,
            holds=holds,
            bookings=Bookings(database, locks, halls, holds),
        )
        try:
            yield state
        finally:
            await holds.finish_running()
            await state["bookings"].finish_running()
            state["accounts"].close()
            await redis.close()


async def prepare(state: State) -> Prepared:
    """Migrate, and make the demo event and the first admin where they are asked for and missing.

    Any number of processes may do this at once.
    """
    database = state["database"]
    if not await db.pending(database) and not await _wants(state):
        return Prepared([])
    async with db.setup_lock(database):
        migrated = await db.migrate(database)
        wanted = await _wants(state)
        if "demo" in wanted:
            await state["events"].create(main_hall())
        if "admin" in wanted:
            await _create_admin(state)
    return Prepared(migrated, "admin" in wanted)


async def _wants(state: State) -> set[str]:
    settings, wanted = state["settings"], set()
    if settings.demo and not await state["events"].any():
        wanted.add("demo")
    if settings.admin_username and not await state["accounts"].has_admin():
        wanted.add("admin")
    return wanted


async def _create_admin(state: State) -> None:
    username, password = state["settings"].admin_username, state["settings"].admin_password
    if username and password:
        await state["accounts"].register(username, password.get_secret_value(), role="admin")
