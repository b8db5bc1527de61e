"""What the faults happen to: real servers, workers in processes of their own, proxies between."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from seatsvc import local
from tests.faults.caller import Caller

ROOT = Path(__file__).parents[2]
START_S = 30.0
STOP_S = 15
POLL_S = 0.02
SERVICE = ("seatsvc", "serve")


@dataclass
class Machines:
    """A durable PostgreSQL and a Redis, which can die, stop, and come back at the same address."""

    folder: Path
    servers: local.Servers
    postgres: local.Process
    redis: local.Process

    def kill_redis(self) -> None:
        """At once, with all it knows."""
        self.redis.kill()
        self.redis.wait()

    def start_redis(self, *prefix: str) -> None:
        """An empty one; by another program, if need be."""
        url = urlsplit(self.servers.redis_url)
        command: local.Command = (*prefix, local._find_redis(), "-")
        config = local.REDIS.format(url.port, url.password)
        self.redis = self._start("redis", command, signal.SIGKILL, config)

    def crash_postgres(self) -> None:
        """At once: every transaction that had not committed is lost."""
        self.postgres.send_signal(signal.SIGQUIT)
        self.postgres.wait()

    def start_postgres(self) -> None:
        """It recovers by itself."""
        cluster, url = self.folder / "postgres", urlsplit(self.servers.database_url)
        program = local._find_postgres(cluster)
        command = (program, "-D", cluster, *local.POSTGRES, f"--port={url.port}")
        self.postgres = self._start("postgres", command, signal.SIGINT, "")

    @contextmanager
    def stopped(self, process: local.Process) -> Iterator[None]:
        """It and its children take connections, and do nothing."""
        pids = [process.pid]
        os.kill(process.pid, signal.SIGSTOP)
        try:
            for pid in children_of(process.pid):
                os.kill(pid, signal.SIGSTOP)
                pids.append(pid)
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    def _start(
        self, name: str, command: local.Command, dying: signal.Signals, text: str
    ) -> local.Process:
        with (self.folder / "faults.lock").open("w") as lock:
            log = self.folder / f"{name}.log"
            return local._spawn(lock.fileno(), log, command, dying, text)


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """Both servers, until the block ends."""
    with local.servers(folder) as servers:
        running = Machines(folder, servers, servers.postgres, servers.redis)
        try:
            yield running
        finally:
            local._stop(running.redis, signal.SIGKILL)
            local._stop(running.postgres, signal.SIGINT, signal.SIGQUIT)


def children_of(parent: int) -> list[int]:
    """Their process ids."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(file.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(file.parent.name))
    return found


@dataclass
class Worker:
    """A process that serves, and can be started again at the same address."""

    folder: Path
    environment: dict[str, str]
    options: tuple[str, ...] = ()
    module: tuple[str, ...] = SERVICE
    port: int = field(init=False)
    process: local.Process = field(init=False)

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        """It runs no more."""
        return self.process.poll() is not None

    @property
    def _log(self) -> Path:
        return self.folder / f"worker-{self.port}.log"

    def start(self) -> None:
        """Begin; it answers a little later."""
        command = [sys.executable, "-m", *self.module, "--port", str(self.port), *self.options]
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=local.die_with_parent,
            )

    async def ready(self, caller: Caller) -> None:
        """Return when it answers."""
        async with asyncio.timeout(START_S):
            while (await caller.get("/readyz", self.url)).status != 200:
                assert not self.ended, self.log
                await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.process.wait()

    async def stop(self) -> float:
        """Ask it to end; the seconds that it took."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        self.process.terminate()
        try:
            await asyncio.to_thread(self.process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        return loop.time() - started_at


def environment(database_url: str, redis_url: str, secret: str, **more: Any) -> dict[str, str]:
    """Settings as a process is given them, and none of the caller's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEATSVC_")}
    ours = {f"SEATSVC_{name.upper()}": str(value) for name, value in more.items()}
    addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "JWT_SECRET": secret}
    return {**kept, "PYTHONPATH": str(ROOT), "SEATSVC_RATE_LIMITS": "off", **addresses, **ours}
