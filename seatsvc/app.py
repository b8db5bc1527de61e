"""The application: the only place where parts are wired."""

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from seatsvc import __version__, db, migrations, telemetry
from seatsvc.accounts import Accounts
from seatsvc.api import (
    accounts,
    bookings,
    crowd,
    edge,
    events,
    headers,
    live,
    mails,
    operations,
    pages,
    problems,
    quick,
    redoc,
    reports,
    seats,
    strict,
    ticket_types,
    traces,
    users,
)
from seatsvc.api import holds as holds_api
from seatsvc.api import rates as rates_api
from seatsvc.api import sessions as sessions_api
from seatsvc.api.deps import State
from seatsvc.bookings import Bookings
from seatsvc.delivery import Show, open_transport
from seatsvc.errors import Unavailable
from seatsvc.events import Events, main_hall
from seatsvc.holds import Holds
from seatsvc.live import Live
from seatsvc.locks import SeatLocks
from seatsvc.outbox import Outbox
from seatsvc.rates import Rates
from seatsvc.reconciler import Reconciler
from seatsvc.reports import Reports
from seatsvc.scripts import Redis
from seatsvc.seats import Seats
from seatsvc.sessions import Sessions
from seatsvc.settings import Settings, load
from seatsvc.ticket_types import TicketTypes

DESCRIPTION = """\
Seats, reserved: no seat is ever sold twice, and none is shown free once it is gone.

Every error is an `application/problem+json` document with a stable `code`.
To try things here, register, press **Authorize**, and log in.
"""


ROUTERS = {
    "Accounts": (sessions_api, accounts, users),
    "Events": (events, ticket_types, reports),
    "Seats": (seats, live),
    "Holds and bookings": (holds_api, bookings),
    "Mails": (mails,),
    "Operations": (operations,),
}

YOUNG_OBJECTS = 10_000  # so many more made than freed, and garbage is looked for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a start found to do."""

    migrations: list[str]
    admin_created: bool = False


def create_app(settings: Settings | None = None, show: Show | None = None) -> FastAPI:
    """The ASGI application. Without settings, the environment's.

    Mails that go to a folder are also shown. Raises SettingsError.
    """
    settings = settings or load()
    # The documentation pages load nothing from elsewhere.
    app = FastAPIOffline(
        static_url="/docs/assets",
        redoc_url=None,
        title="seatsvc",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan(settings, show),
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        # Not asked at each request whether anybody wants any.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for tag, nouns in ROUTERS.items():
        for noun in nouns:
            app.include_router(noun.router, tags=[tag])
    app.include_router(redoc.router)
    app.include_router(pages.router)
    problems.install(app)
    app.add_middleware(strict.Strict)
    app.add_middleware(problems.Unexpected)
    framework_stack = app.build_middleware_stack
    # What is ours stands around the framework's own, so that the quick way goes past all of it.
    vars(app)["build_middleware_stack"] = lambda: _way_in(settings, framework_stack())
    return app


def _way_in(settings: Settings, app: ASGIApp) -> ASGIApp:
    """What a request passes, innermost first."""
    app = quick.Quick(app)
    app = problems.BodyLimit(app)
    if settings.cors_origins:
        app = headers.Cors(app, settings.cors_origins)
    app = edge.Edge(crowd.Crowd(traces.traced(app)))
    if settings.trusted_proxies:
        hosts = rates_api.proxies(settings.trusted_proxies)
        app = cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, app), hosts))
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _lifespan(
    settings: Settings, show: Show | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        telemetry.configure_logging()
        if settings.rate_limits == "off":
            log.warning("rate limits are off")
        if settings.smtp_url is None:
            log.warning("SEATSVC_SMTP_URL is not set: mails are dropped")
        async with traces.exporting(), wired(settings, show) as state, _draining(state):

            async def sample() -> None:
                await operations.sample(state)

            chores = [
                asyncio.create_task(every(seconds, work))
                for seconds, work in (
                    (0.5, state["holds"].expire),
                    (0.5, state["outbox"].dispatch_all),
                    (60, state["outbox"].forget),
                    (60, state["sessions"].forget),
                    (1, sample),
                    (5, state["reconciler"].measure),
                    (30, state["reconciler"].check),
                )
            ]
            # What a start made stays: to look through it for garbage would stop the world for long.
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS)
            yield state
            for chore in chores:
                chore.cancel()

    return lifespan


@asynccontextmanager
async def _draining(state: State) -> AsyncIterator[None]:
    """Told to stop, say for a moment that we are not ready, so that nobody sends us more."""
    stop, draining = signal.getsignal(signal.SIGTERM), state["draining"]
    loop, drain_s = asyncio.get_running_loop(), state["settings"].drain_ms / 1000
    if not callable(stop) or threading.current_thread() is not threading.main_thread():
        yield  # whoever runs us stops us in another way
        return

    def drain(number: int, frame: FrameType | None) -> None:
        if draining.is_set():
            stop(number, frame)
        else:
            draining.set()
            loop.call_soon_threadsafe(loop.call_later, drain_s, stop, number, frame)

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop)


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do it again and again, as long as the service runs, whatever comes between."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Unavailable:
            continue
        except Exception:
            log.exception("%s failed", work.__qualname__)


@asynccontextmanager
async def wired(settings: Settings, show: Show | None = None) -> AsyncIterator[State]:
    """All parts, until the block ends; what was begun is finished before they close.

    Raises SettingsError, Unavailable when there is no PostgreSQL.
    """
    transport = open_transport(settings, show)
    async with db.connect(settings) as database:
        redis = Redis(settings)
        locks = SeatLocks(redis, settings)
        sessions = Sessions(database, settings)
        halls = Seats(database, redis, locks, settings)
        holds = Holds(database, locks, halls)
        state = State(
            settings=settings,
            draining=asyncio.Event(),
            database=database,
            redis=redis,
            rates=Rates(redis, settings),
            sessions=sessions,
            accounts=Accounts(database, locks, sessions, settings),
            events=Events(database, locks),
            ticket_types=TicketTypes(database),
            reports=Reports(database),
            seats=halls,
            live=Live(halls, redis),
            holds=holds,
            bookings=Bookings(database, locks, halls, holds),
            outbox=Outbox(database, settings, transport),
            reconciler=Reconciler(database),
        )
        try:
            yield state
        finally:
            await state["live"].close()
            await state["outbox"].finish_running()
            await holds.finish_running()
            await state["bookings"].finish_running()
            state["accounts"].close()
            await redis.close()


async def prepare(state: State) -> Prepared:
    """Migrate, and make the demo event and the first admin where they are asked for and missing.

    Any number of processes may do this at once.
    """
    database = state["database"]
    if not await migrations.pending(database) and not await _wants(state):
        return Prepared([])
    async with migrations.setup_lock(database):
        migrated = await migrations.migrate(database)
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
