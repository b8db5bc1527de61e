"""Load by wrk and by pgbench, each on one core."""

import asyncio
import json
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from bench.processes import BenchError
from seatsvc import local

CONNECTIONS = 64
GRACE_S = 20
CONNECTING_S = 2  # pgbench counts it among its seconds, but not in its rate
ONE_STATEMENT_MAX = 30_000  # a second: more than there will be
LUA = Path(__file__).parent / "lua"
ONE_STATEMENT = Path(__file__).parent / "sql" / "pgbench.sql"
NO_WRK = "bench needs wrk, the load generator (Debian, Ubuntu: apt install wrk)."


@dataclass(frozen=True)
class Wanted:
    """A request to be sent once: whose it is, and for which place, if it names one."""

    user_id: UUID
    token: str
    body: dict[str, Any]

    @property
    def seat_id(self) -> int | None:
        """The place."""
        return self.body.get("seat_id")


@dataclass(frozen=True)
class Sent:
    """What became of requests that were sent as fast as they were answered."""

    seconds: float
    asked: int  # how many were sent
    statuses: dict[int, int]
    ids: list[str]  # of what was answered 201
    p50_ms: float
    p99_ms: float

    def rate(self, status: int) -> float:
        """Such answers a second."""
        return self.statuses.get(status, 0) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Read:
    """What became of one GET, sent again and again."""

    rate: float  # answers a second
    bytes_each: float
    p50_ms: float
    p99_ms: float


def find_wrk() -> str:
    """Where wrk is.

    Raises BenchError.
    """
    path = shutil.which("wrk")
    if path is None:
        raise BenchError(NO_WRK)
    return path


async def read(url: str, seconds: int, *headers: str) -> Read:
    """GET, as often as it is answered."""
    options = [part for header in headers for part in ("-H", header)]
    said = await _wrk(seconds, [*options, "-s", str(LUA / "read.lua"), url])
    if said["failed"] or not said["answers"]:
        raise BenchError(f"Requests failed: {said}")
    each = said["bytes"] / said["answers"]
    return Read(said["answers"] / said["seconds"], each, said["p50_ms"], said["p99_ms"])


async def send(url: str, wanted: Sequence[Wanted], seconds: int, folder: Path) -> Sent:
    """POST each of these once, until they or the seconds are used up."""
    requests, answers = folder / "requests", folder / "answers"
    requests.write_text("".join(f"{each.token}\t{json.dumps(each.body)}\n" for each in wanted))
    arguments = ["-s", str(LUA / "book.lua"), url, "--", str(requests), str(answers)]
    said = await _wrk(seconds, arguments)
    if said["failed"]:
        raise BenchError(f"Requests failed: {said}")
    statuses = {int(status): count for status, count in said["statuses"].items()}
    ids = answers.read_text().split()
    latencies = said["p50_ms"], said["p99_ms"]
    return Sent(said["seconds"], said["asked"], statuses, ids, *latencies)


async def pgbench(program: Path, database_url: str, seconds: int) -> tuple[float, int]:
    """The one statement, by as many clients: transactions a second, and how many in all."""
    address = urlsplit(database_url)
    said = await _run(
        str(program), "-n", "-M", "prepared", "-j", "1", "-c", str(CONNECTIONS),
        "-T", str(CONNECTING_S + seconds), "-f", str(ONE_STATEMENT), "-h", str(address.hostname),
        "-p", str(address.port), "-U", str(address.username), address.path[1:],
        env={"PGPASSWORD": str(address.password)}, limit_s=CONNECTING_S + seconds + GRACE_S,
    )  # fmt: skip
    rate = re.search(r"tps = ([\d.]+)", said)
    count = re.search(r"actually processed: (\d+)", said)
    if not rate or not count:
        raise BenchError(f"pgbench said: {said}")
    return float(rate[1]), int(count[1])


async def _wrk(seconds: int, arguments: list[str]) -> dict[str, Any]:
    said = await _run(
        find_wrk(), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", *arguments,
        limit_s=seconds + GRACE_S,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    return result


async def _run(*command: str, limit_s: float, env: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=env,
        preexec_fn=local.die_with_parent,
    )
    try:
        async with asyncio.timeout(limit_s):
            output, errors = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise BenchError(f"{Path(command[0]).name} failed: {(errors or output).decode()[-500:]}")
    return output.decode()
