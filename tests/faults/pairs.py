"""Servers in pairs: a PostgreSQL with a standby, and a Redis with a replica and three sentinels."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import time
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import redis.asyncio

from seatsvc import local
from tests.conftest import SECRET
from tests.faults.caller import Caller
from tests.faults.conftest import ACCESS_TOKEN_S, Ground, Stage, clean_start, prepare
from tests.faults.proxy import Link, Proxy, Verdict, proxied
from tests.faults.stage import SERVICE, Machines, Worker, environment, machines
from tests.faults.workload import Workload

STANDBY = "standby"
SYNCHRONOUS = f"alter system set synchronous_standby_names = '{STANDBY}'"
PROMPT = "--wal_retrieve_retry_interval=100ms"  # else a promotion may take 5 s: the standby sleeps
SYNC = "select count(*) from pg_stat_replication where sync_state = 'sync'"
ENDED = """
select count(pg_terminate_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'"""
PAIRED = b"START_REPLICATION", b"PSYNC"  # how a second begins to follow
PATIENCE_S = 60.0
POLL_S = 0.05
LONG_CACHE_MS = 5000  # so that what is left of a primary's time outlives the election
NAME = "mymaster"
SENTINELS = 3
REPLICATING = """dir {folder}
masterauth {password}
repl-diskless-sync yes
repl-diskless-sync-delay 0
rdb-del-sync-files yes
"""
SENTINEL = """bind 127.0.0.1
port {port}
dir {folder}
sentinel monitor {name} 127.0.0.1 {primary} 2
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 5000
"""


@dataclass
class Between:
    """A rule for the way from a second to its first."""

    deaf: bool = False  # the second hears nothing more, and both believe that all is well
    links: set[int] = field(default_factory=set)

    def __call__(self, link: Link, chunk: bytes, is_reply: bool) -> Verdict:
        """What becomes of this chunk."""
        if not is_reply and any(each in chunk for each in PAIRED):
            self.links.add(id(link))
        held = self.deaf and is_reply and id(link) in self.links
        return Verdict.SWALLOW if held else Verdict.PASS


@dataclass
class Pair:
    """A stage, one of whose servers has a second."""

    stage: Stage
    way: Proxy  # to the first
    between: Between
    second_url: str
    sentinels: Sequence[str] = ()
    first_workers_ways: Sequence[Proxy] = ()  # to the sentinels
    changed_at: float = 0.0  # when the first was lost
    cached_at: float = 0.0  # when all workers relied on a Redis

    @property
    def first_url(self) -> str:
        """The first PostgreSQL's database."""
        return _at(self.second_url, urlsplit(self.way.url).port)

    async def promote(self) -> None:
        """The standby becomes the primary."""
        connection = await asyncpg.connect(self.second_url)
        assert await connection.fetchval("select pg_promote(true, 20)")
        await connection.close()
        self.stage.database_url = self.second_url

    async def first_only_reads(self) -> None:
        """The first PostgreSQL refuses to write, in every transaction from now on."""
        connection = await asyncpg.connect(self.first_url)
        await connection.execute("alter system set default_transaction_read_only = on")
        await connection.execute("select pg_reload_conf()")
        await connection.close()

    async def end_what_waits(self) -> int:
        """The first PostgreSQL ends sessions whose commits wait for the standby, as a stop does."""
        connection = await asyncpg.connect(self.first_url)
        ended = await connection.fetchval(ENDED)
        await connection.close()
        return int(ended)

    async def fail_over(self) -> None:
        """Ask a sentinel for it, while both live."""
        async with redis.asyncio.Redis.from_url(self.sentinels[0]) as sentinel:
            await sentinel.sentinel_failover(NAME)

    async def failed_over(self) -> None:
        """Return when all sentinels name the second."""
        port = urlsplit(self.second_url).port

        async def all_name_it() -> bool:
            return {state["port"] for state in await _states(self.sentinels)} == {port}

        await until(all_name_it)
        servers = replace(self.stage.machines.servers, redis_url=self.second_url)
        self.stage.machines.servers = servers

    async def cached(self) -> None:
        """Return when every worker relies on its Redis."""
        for url in self.stage.caller.urls:
            await until(partial(self._relies, url))
        self.cached_at = time()

    async def set_clock_back(self) -> None:
        """What is cached in the second does not expire, as if its clock were behind."""
        async with redis.asyncio.Redis.from_url(self.second_url) as client:
            entries = [key async for key in client.scan_iter("*:avail")]
            assert [await client.persist(each) for each in entries] == [1], entries

    async def replicated(self) -> None:
        """Return when the second has a cached entry."""

        async def has_one() -> bool:
            async with redis.asyncio.Redis.from_url(self.second_url) as client:
                return bool(await client.keys("*:avail"))

        await until(has_one)

    async def _relies(self, url: str) -> bool:
        redis_check = (await self.stage.caller.health(url))["checks"]["redis"][0]
        return bool(redis_check["status"] == "pass")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again, until it holds. Sentinels that were stalled do nothing for 30 s."""
    deadline = time() + PATIENCE_S
    while not await holds():
        assert time() < deadline, "it never held"
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def postgres_pair(
    folder: Path, *, synchronous: bool = True, module: tuple[str, ...] = SERVICE
) -> AsyncIterator[Pair]:
    """Servers of its own, since their first PostgreSQL will not survive."""
    with machines(folder) as running:
        ground = await prepare(running)
        url = await clean_start(running.servers)
        async with proxied(url) as way, AsyncExitStack() as stack:
            way.rule = between = Between()
            port = local._free_port()
            await _add_standby(running, way.url, port)
            standby = _start_standby(running, port)
            stack.callback(local._stop, standby, signal.SIGQUIT, signal.SIGKILL)
            second_url = _at(url, port)
            await until(partial(_answers, second_url))
            if synchronous:
                await _make_synchronous(url)
            both = url.replace("/stage", f",127.0.0.1:{port}/stage")
            caches = [running.servers.redis_url] * 2
            stage = await _staged(stack, ground, both, caches, module)
            yield Pair(stage, way, between, second_url)
            running.crash_postgres()  # if it lives, it would wait for its standby


def _at(url: str, port: int | None) -> str:
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()


async def _add_standby(running: Machines, url: str, port: int) -> None:
    parts, cluster = urlsplit(url), running.folder / "postgres"
    primary = (
        f"host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}"
        f" application_name={STANDBY}"
    )
    program = local._find_postgres(cluster).with_name("pg_basebackup")
    options = ("-D", running.folder / STANDBY, "-R", "-C", "-S", STANDBY, "-c", "fast", "-N")
    copying = await asyncio.create_subprocess_exec(program, "-d", primary, *options)
    assert await copying.wait() == 0


def _start_standby(running: Machines, port: int) -> local.Process:
    cluster = running.folder / STANDBY
    program = local._find_postgres(cluster)
    command = (program, "-D", cluster, *local.POSTGRES, PROMPT, f"--port={port}")
    return running._start(STANDBY, command, signal.SIGINT, "")


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def _make_synchronous(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(SYNCHRONOUS)
    await connection.execute("select pg_reload_conf()")

    async def in_step() -> bool:
        return bool(await connection.fetchval(SYNC))

    await until(in_step)
    await connection.close()


@asynccontextmanager
async def redis_pair(
    ground: Ground, folder: Path, *, module: tuple[str, ...] = SERVICE
) -> AsyncIterator[Pair]:
    """A Redis of its own, a replica, and sentinels; PostgreSQL is everybody's."""
    url = await clean_start(ground.machines.servers)
    password = urlsplit(ground.machines.servers.redis_url).password or ""
    first, second = local._free_port(), local._free_port()
    running = replace(ground.machines, folder=folder)
    async with AsyncExitStack() as stack:
        first_url, second_url = (f"redis://:{password}@127.0.0.1:{n}/0" for n in (first, second))
        way = await stack.enter_async_context(proxied(first_url))
        way.rule = between = Between()
        seen_port = urlsplit(way.url).port
        announced = f"replica-announce-port {seen_port}\n"
        running.redis = _start_redis(stack, running, first, password, announced)
        following = f"replicaof 127.0.0.1 {seen_port}\n"
        _start_redis(stack, running, second, password, following)
        await until(partial(_follows, second_url))
        sentinels = [_start_sentinel(stack, running, seen_port, password) for _ in range(SENTINELS)]
        await until(partial(_know_all, sentinels))
        ways = [await stack.enter_async_context(proxied(each)) for each in sentinels]
        caches = [_sentinel_url(password, [each.url for each in ways])]
        caches.append(_sentinel_url(password, sentinels))
        running.servers = replace(running.servers, redis_url=first_url)
        ground = replace(ground, machines=running)
        stage = await _staged(stack, ground, url, caches, module, cache_ttl_ms=LONG_CACHE_MS)
        pair = Pair(stage, way, between, second_url, sentinels, ways)
        await pair.cached()
        yield pair


def _start_redis(
    stack: AsyncExitStack, running: Machines, port: int, password: str, more: str
) -> local.Process:
    own = running.folder / f"redis-{port}"
    own.mkdir()
    config = local.REDIS.format(port, password)
    config += REPLICATING.format(folder=own, password=password) + more
    command = (local._find_redis(), "-")
    process = running._start(own.name, command, signal.SIGKILL, config)
    stack.callback(local._stop, process, signal.SIGKILL)
    return process


async def _follows(url: str) -> bool:
    try:
        async with redis.asyncio.Redis.from_url(url) as client:
            return bool((await client.info("replication"))["master_link_status"] == "up")
    except (OSError, redis.RedisError):
        return False


def _start_sentinel(
    stack: AsyncExitStack, running: Machines, primary: int | None, password: str
) -> str:
    port = local._free_port()
    own = running.folder / f"sentinel-{port}"
    own.mkdir()
    config = own / "sentinel.conf"
    named = {"folder": own, "name": NAME, "primary": primary, "password": password}
    config.write_text(SENTINEL.format(port=port, **named))
    command = (local._find_redis(), config, "--sentinel")
    process = running._start(own.name, command, signal.SIGKILL, "")
    stack.callback(local._stop, process, signal.SIGKILL)
    return f"redis://127.0.0.1:{port}"


async def _know_all(sentinels: Sequence[str]) -> bool:
    """Each other, and the replica."""
    try:
        found = await _states(sentinels)
    except (OSError, redis.RedisError):
        return False
    return all(
        (state["num-other-sentinels"], state["num-slaves"]) == (SENTINELS - 1, 1) for state in found
    )


async def _states(urls: Sequence[str]) -> list[dict[str, Any]]:
    """What each sentinel says of the primary."""
    found = []
    for url in urls:
        async with redis.asyncio.Redis.from_url(url) as sentinel:
            found.append(cast(dict[str, Any], await sentinel.sentinel_master(NAME)))
    return found


def _sentinel_url(password: str, urls: Sequence[str]) -> str:
    hosts = ",".join(url.removeprefix("redis://") for url in urls)
    return f"redis+sentinel://:{password}@{hosts}/{NAME}/0"


async def _staged(
    stack: AsyncExitStack,
    ground: Ground,
    database_url: str,
    redis_urls: Sequence[str],
    module: tuple[str, ...],
    **more: Any,
) -> Stage:
    """A worker for each Redis URL, and buyers."""
    running, settings = ground.machines, {"access_token_s": ACCESS_TOKEN_S, "drain_ms": 0} | more
    workers = [
        Worker(running.folder, environment(database_url, each, SECRET, **settings), (), module)
        for each in redis_urls
    ]
    for worker in workers:
        worker.start()
        stack.push_async_callback(worker.stop)
    workload = Workload(Caller([each.url for each in workers], ground.hall), ground.users())
    stack.push_async_callback(workload.close)
    for worker in workers:
        await worker.ready(workload.caller)
    return Stage(running, database_url, workers, [], [], workload, ground.rules)
