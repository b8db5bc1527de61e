"""A stage for each test: servers of the suite's own, workers behind proxies, buyers at work."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import time
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import redis.asyncio

from seatsvc import app as wiring
from seatsvc import local
from seatsvc.events import EventDraft, RowDraft, SectionDraft, TicketTypeDraft
from seatsvc.settings import Settings
from seatsvc.tokens import Tokens
from tests.conftest import OPEN, SECRET, make_settings
from tests.faults import figures
from tests.faults.caller import Caller, Hall, User
from tests.faults.checker import Violation, check
from tests.faults.history import FOREVER, Dump, Row, Rules
from tests.faults.proxy import Proxy, proxied
from tests.faults.stage import SERVICE, Machines, Worker, environment, machines
from tests.faults.workload import Workload

FULL = os.environ.get("FAULTS") == "full"
TEMPLATE = "faults_template"
USERS = 40
SEATS_MAX, BOOKINGS_MAX = 6, 4
FEW_PLACES, FEW = 20, 12  # so many of these may be sold
ACCESS_TOKEN_S = 3600
LEAK_S = 5.0
LINES_MAX = 20
POLL_S = 0.25
LOOKS = 6  # so many fresh connections meet both workers, very likely
SALES = """
select b.id::text, 'book' as kind, b.user_id::text, coalesce(k.key, '') as key,
       array_agg(s.seat_id) as seats,
       coalesce(array_agg(s.seat_id) filter (where s.active), '{}') as active,
       b.status = 'cancelled' as cancelled, null as until
  from bookings b
  join booking_seats s on s.booking_id = b.id
  left join idempotency_keys k on k.booking_id = b.id
 group by b.id, k.key
 union all
select h.id::text, 'hold', h.user_id::text, coalesce(k.key, ''), h.seat_ids, '{}', false,
       extract(epoch from h.expires_at)::float8
  from holds h
  left join idempotency_keys k on k.hold_id = h.id"""
BUYERS = """
with buyers as (
  insert into users (id, username, username_folded, password_hash)
  select id, id::text, id::text, '' from unnest($1::uuid[]) id returning id)
insert into sessions (id, user_id, expires_at)
select id, id, now() + interval '1 day' from buyers"""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of what was measured, and write it to the file that FIGURES names."""
    if figures.TABLE:
        terminalreporter.write_line(figures.as_text(figures.TABLE))
        if name := os.environ.get("FIGURES"):
            Path(name).write_text(figures.as_text(figures.TABLE))


@dataclass(frozen=True)
class Ground:
    """What every test starts from: a database with an event and its buyers."""

    machines: Machines
    settings: Settings
    hall: Hall
    user_ids: list[UUID]
    rules: Rules

    def users(self) -> list[User]:
        """With new tokens."""
        tokens = Tokens(self.settings)
        return [User(str(each), tokens.issue(each, each, "attendee")) for each in self.user_ids]


DRAFT = EventDraft(
    "Everyone's favourite",
    [
        SectionDraft("A", [RowDraft(name, places=10) for name in "1234"], ticket_type="Many"),
        SectionDraft("B", [RowDraft("1", places=FEW_PLACES)], ticket_type="Few"),
    ],
    ticket_types=[TicketTypeDraft("Many", 300, "EUR"), TicketTypeDraft("Few", 500, "EUR", FEW)],
    max_seats_per_user=SEATS_MAX,
    max_bookings_per_user_per_day=BOOKINGS_MAX,
    hold_seconds=5,
)


@pytest.fixture(scope="session")
def own_machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A PostgreSQL that syncs, and a Redis, of this suite's own."""
    with machines(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="session")
async def ground(own_machines: Machines) -> Ground:
    """The template database, made once."""
    return await prepare(own_machines)


async def prepare(machines: Machines) -> Ground:
    """Make the template database on these."""
    await _execute(machines.servers.database_url, f"create database {TEMPLATE}")
    settings = make_settings(machines.servers, TEMPLATE, access_token_s=ACCESS_TOKEN_S)
    async with wiring.wired(settings) as state:
        await wiring.prepare(state)
        event_id = await state["events"].create(DRAFT)
    ids = [uuid4() for _ in range(USERS)]
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await connection.execute(BUYERS, ids)
    seats = await connection.fetch("select id from seats where event_id = $1 order by 1", event_id)
    await connection.close()
    hall = Hall(event_id, tuple(row["id"] for row in seats))
    few = frozenset(hall.seats[-FEW_PLACES:]), FEW
    rules = Rules(frozenset(hall.seats), SEATS_MAX, BOOKINGS_MAX, (few,))
    return Ground(machines, settings, hall, ids, rules)


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@dataclass
class Stage:
    """Workers under load, and all that can befall them."""

    machines: Machines
    database_url: str
    workers: list[Worker]
    redis: list[Proxy]  # each worker's way there
    postgres: list[Proxy]
    workload: Workload
    rules: Rules
    healed: list[float] = field(default_factory=list)

    @property
    def caller(self) -> Caller:
        """The clients."""
        return self.workload.caller

    def heal(self) -> float:
        """The fault ends now."""
        self.healed.append(time())
        return self.healed[-1]

    async def wipe_redis(self) -> None:
        """It forgets everything, its scripts too."""
        async with redis.asyncio.Redis.from_url(self.machines.servers.redis_url) as cache:
            await cache.flushall()
            await cache.script_flush()

    async def end(self, fault: str) -> None:
        """Every client knows, and five idle seconds have passed: nothing was broken."""
        found = await self.violations()
        what = f"violations in {len(self.caller.history):,} calls"
        figures.compare(fault, what, len(found), 0)
        logs = [line for worker in self.workers for line in worker.log.splitlines()]
        crashes = [line for line in logs if "Traceback" in line]
        assert not found, "\n".join(map(str, [*found[:LINES_MAX], *crashes[-LINES_MAX:]]))

    async def violations(self) -> list[Violation]:
        """What was broken by the time that every client knows, and nothing goes on any more."""
        await self.workload.finish()
        self.caller.hang_up()
        dump = await self.dump()
        rules = replace(self.rules, heals=(*self.rules.heals, *self.healed))
        return check(self.caller.history, dump, rules)

    async def dump(self) -> Dump:
        """What is left, once nothing goes on any more."""
        deadline = time() + LEAK_S
        while True:
            left = await self._left()
            if not (left.locks or left.transactions or left.borrowed) or time() > deadline:
                return left
            await asyncio.sleep(POLL_S)

    async def _left(self) -> Dump:
        async with redis.asyncio.Redis.from_url(self.machines.servers.redis_url) as cache:
            locks = [key.decode() async for key in cache.scan_iter("*:lock:*")]
            locks += [key.decode() async for key in cache.scan_iter("*:key:*")]
        borrowed = await self._borrowed()
        connection = await asyncpg.connect(self.database_url)
        try:
            rows = _rows(await connection.fetch(SALES))
            return Dump(rows, tuple(locks), await connection.fetchval(OPEN), borrowed)
        finally:
            await connection.close()

    async def _borrowed(self) -> int:
        borrowed = 0
        for url in self.caller.urls * LOOKS:
            self.caller.hang_up()
            pool = (await self.caller.health(url))["checks"]["postgresql"][0]["pool"]
            borrowed += int(pool["open"] - pool["idle"])
        return borrowed


def _rows(rows: list[asyncpg.Record]) -> tuple[Row, ...]:
    return tuple(
        Row(
            row["id"],
            row["kind"],
            row["user_id"],
            row["key"],
            tuple(row["seats"]),
            tuple(row["active"]),
            row["cancelled"],
            FOREVER if row["until"] is None else row["until"],
        )
        for row in rows
    )


Setting = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def staged(ground: Ground) -> Setting:
    """Builds stages: `pair` means two processes with an address each, else one with two workers."""
    return partial(_stage, ground)


@asynccontextmanager
async def _stage(
    ground: Ground,
    *,
    pair: bool = False,
    module: tuple[str, ...] = SERVICE,
    made: type[Worker] = Worker,
    **more: Any,
) -> AsyncIterator[Stage]:
    servers, folder = ground.machines.servers, ground.machines.folder
    url = await clean_start(servers)
    async with AsyncExitStack() as stack:
        enter, count = stack.enter_async_context, 1 + pair
        postgres = [await enter(proxied(url)) for _ in range(count)]
        caches = [await enter(proxied(servers.redis_url)) for _ in range(count)]
        settings = {"access_token_s": ACCESS_TOKEN_S} | more
        options = () if pair or module != SERVICE else ("--workers", "2")
        workers = [
            made(folder, environment(way.url, cache.url, SECRET, **settings), options, module)
            for way, cache in zip(postgres, caches, strict=True)
        ]
        for worker in workers:
            worker.start()
            stack.push_async_callback(worker.stop)
        workload = Workload(Caller([each.url for each in workers], ground.hall), ground.users())
        stack.push_async_callback(workload.close)
        for worker in workers:
            await worker.ready(workload.caller)
        yield Stage(ground.machines, url, workers, caches, postgres, workload, ground.rules)


async def clean_start(servers: local.Servers) -> str:
    """A new copy of the template, and an empty Redis; the database's URL."""
    create = f"create database stage template {TEMPLATE}"
    await _execute(servers.database_url, "drop database if exists stage with (force)", create)
    async with redis.asyncio.Redis.from_url(servers.redis_url) as cache:
        await cache.flushall()
    return servers.database_url.rpartition("/")[0] + "/stage"
