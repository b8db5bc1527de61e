"""The processes that are measured: starting them, and what they cost by /proc."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import cast

from bench.client import ask, build
from seatsvc import local

ROOT = Path(__file__).parents[1]
SERVICE = Path(sys.executable).with_name("seatsvc")
START_S = 60.0
STOP_S = 15
POLL_S = 0.01
READY = build("GET", "/readyz")
# The fields of /proc/*/stat after the command's name.
PARENT, CPU, CPU_OF_THE_DEAD = 1, slice(11, 13), slice(13, 15)


class BenchError(Exception):
    """Nothing can be measured; the message says why."""


@dataclass(frozen=True)
class Server:
    """A process that answers, and those below it."""

    url: str
    pid: int
    start_s: float  # until it was ready


@asynccontextmanager
async def serving(
    name: str, *command: str | Path, folder: Path, env: Mapping[str, str]
) -> AsyncIterator[Server]:
    """Run a command that is told its port as the last argument, once it is ready."""
    port = _free_port()
    started_at = perf_counter()
    process = _spawn([*command, str(port)], folder / f"{name}.log", env)
    try:
        url = f"http://127.0.0.1:{port}"
        await _await_ready(process, url, name, folder)
        yield Server(url, process.pid, perf_counter() - started_at)
    finally:
        await asyncio.to_thread(_stop, process)


def service(*options: str) -> tuple[str | Path, ...]:
    """The command that serves seats."""
    return (SERVICE, "serve", *options, "--port")


def yardstick(name: str) -> tuple[str | Path, ...]:
    """The command that serves one of the yardsticks."""
    return (sys.executable, "-m", "bench.yardsticks", name)


def program(process: subprocess.Popen[bytes]) -> Path:
    """What it runs."""
    return Path(cast(tuple[str | Path, ...], process.args)[0])


def cpu_s(root: int) -> float:
    """The CPU time of a process and of all below it, also of those that have ended."""
    family, cpu = {root}, _stat(root)[CPU_OF_THE_DEAD]
    stats = {pid: _stat(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
    while more := {pid for pid, stat in stats.items() if stat[PARENT] in family} - family:
        family |= more
    ticks = sum(cpu) + sum(sum(stats[pid][CPU]) for pid in family if pid in stats)
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """The resident memory of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _spawn(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    # Away from any .env file, and with its log on, as in production.
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=_environment(env),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=local.die_with_parent,
        )


def _stat(pid: int) -> list[int]:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return [0, *map(int, fields[1:])]
    return [0] * 50


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings of the service, and with Python finding this folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEATSVC_")}
    return {**kept, "PYTHONPATH": str(ROOT), **env}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _await_ready(process: subprocess.Popen[bytes], url: str, name: str, folder: Path) -> None:
    deadline = perf_counter() + START_S
    while process.poll() is None and perf_counter() < deadline:
        with suppress(OSError):
            if (await ask(url, READY)).status == 200:
                return
        await asyncio.sleep(POLL_S)
    tail = (folder / f"{name}.log").read_text(errors="replace").splitlines()[-8:]
    raise BenchError("\n".join([f"{name} did not start:", *tail]))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the group that was made for it
        process.wait()
