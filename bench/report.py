"""The table and the raw figures: medians over the rounds, ratios within each round."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg

from bench.harness import Metrics
from bench.load import CONNECTIONS, find_wrk
from bench.processes import program
from seatsvc import __version__, local

PACKAGES = ("asyncpg", "fastapi", "pyjwt", "redis", "starlette", "uvicorn", "uvloop")
SYNCS = 50


@dataclass(frozen=True)
class Row:
    """A figure, perhaps compared with another one of the same round, and its target."""

    what: str
    metric: str
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None  # more than


@dataclass(frozen=True)
class Result:
    """A row with its figures: medians."""

    row: Row
    value: float
    other: float | None
    ratio: float | None

    @property
    def judged(self) -> float:
        """What the target is about."""
        return self.value if self.ratio is None else self.ratio

    @property
    def target(self) -> str:
        """In words."""
        row, times = self.row, "" if self.ratio is None else " x"
        for sign, limit in ((">=", row.at_least), ("<=", row.at_most), (">", row.above)):
            if limit is not None:
                return f"{sign} {limit:g}{times}"
        return ""

    @property
    def met(self) -> bool | None:
        """None: there is no target."""
        row = self.row
        if row.at_least is not None:
            return self.judged >= row.at_least
        if row.at_most is not None:
            return self.judged <= row.at_most
        return None if row.above is None else self.judged > row.above

    @property
    def attained(self) -> float | None:
        """How much of the target, more than 1 being better."""
        row = self.row
        wanted = row.at_least if row.at_least is not None else row.above
        if wanted is not None:
            return self.judged / wanted
        return row.at_most / self.judged if row.at_most and self.judged else None


ROWS = (
    Row("bare Starlette route, 4 KB /s", "starlette.rate"),
    Row("FastAPI route, prebuilt 4 KB /s", "prebuilt.rate"),
    Row("FastAPI POST that only verifies a JWT /s", "verified.rate"),
    Row("pgbench, a booking in one statement /s", "one_statement.rate"),
    Row("plain design, one hot event, a fifth sold /s", "plain.rate"),
    Row("bookings/s, different seats of 10,000", "seats.rate", "verified.rate", at_least=1.0),
    Row("the same, with tokens never seen before", "strangers.rate", "verified.rate"),
    Row("bookings/s, one hot event, a fifth sold", "hot.rate", "verified.rate", at_least=0.8),
    Row("bookings/s, one hot event, against plain", "hot.rate", "plain.rate", at_least=5),
    Row("p99 of a booking at half that rate, ms", "half.p99_ms", at_most=15),
    Row("availability of 1,000 seats /s", "availability.rate", "prebuilt.rate", at_least=1.0),
    Row("availability, 304 by ETag /s", "unchanged.rate", "availability.rate", above=1.0),
    Row("availability while bookings change it /s", "invalidated.rate", "availability.rate",
        at_least=0.5),
    Row("bookings that changed it /s", "invalidated.bookings", at_least=475),
    Row("looks right after a booking", "invalidated.looks"),
    Row("stale seats seen by them", "invalidated.stale", at_most=0),
    Row("GET /seats of 1,000 /s, against its size", "listing.rate", "listing.prebuilt",
        at_least=0.8),
    Row("GET /seats of 1,000 /s, against 4 KB", "listing.rate", "prebuilt.rate"),
    Row("bookings/s, two workers against one", "pair.rate", "seats.rate", at_least=1.25),
    Row("CPU of a booking: service, µs", "seats.service_us", at_most=160),
    Row("CPU of a booking: service, of the JWT POST's", "seats.service_us", "verified.service_us"),
    Row("CPU of a booking: PostgreSQL, µs", "seats.postgres_us", at_most=60),
    Row("CPU of a booking: Redis, µs", "seats.redis_us", at_most=12),
    Row("a booking in 100,000 places, µs, against 100", "large.us", "small.us", at_most=1.15),
    Row("refusals of a sold-out event /s", "refusals.rate", "seats.rate", at_least=1.2),
    Row("memory of a worker under load, MiB", "seats.rss_mib", at_most=120),
    Row("start to ready, s", "start.s", at_most=1.5),
    Row("p99 of a booking in a login storm, ms", "storm.p99_ms", "storm.quiet_p99_ms"),
    Row("logins/s in that storm", "storm.logins"),
    Row("2,000 streams: told after the answer, p99 ms", "streams.told_p99_ms", at_most=250),
    Row("2,000 streams: memory of each, KiB", "streams.kib", at_most=40),
    Row("2,000 streams: a booking meanwhile, ms", "streams.booking_ms", "streams.alone_ms",
        at_most=1.1),
    Row("creating 100,000 numbered places, s", "create.numbered_s"),
    Row("creating 1,000,000 general places, s", "create.general_s"),
)  # fmt: skip


def results(rounds: Sequence[Metrics]) -> Iterator[Result]:
    """The rows that were measured."""
    for row in ROWS:
        having = [each for each in rounds if row.metric in each]
        if not having:
            continue
        value = median(each[row.metric] for each in having)
        both = [each for each in having if row.against in each]
        if not both:
            # Without its yardstick a ratio's target says nothing.
            yield Result(Row(row.what, row.metric) if row.against else row, value, None, None)
            continue
        other = median(each[row.against] for each in both)
        ratio = median(each[row.metric] / each[row.against] for each in both)
        yield Result(row, value, other, ratio)


def table(found: Sequence[Result]) -> str:
    """For a person."""
    lines = [f"{'':<46}{'measured':>10}{'against':>10}{'ratio':>8}  {'target':<11}", "-" * 95]
    for each in found:
        other = "" if each.other is None else number(each.other)
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        met = {None: "", True: "met", False: "missed"}[each.met]
        cells = f"{each.row.what:<46}{number(each.value):>10}{other:>10}{ratio:>8}"
        lines.append(f"{cells}  {each.target:<11}{met}".rstrip())
    return "\n".join(lines)


def number(value: float) -> str:
    """With as many digits as one reads."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


async def machine(
    database: asyncpg.Connection, servers: local.Servers, folder: Path
) -> dict[str, Any]:
    """What the figures were measured on."""
    info: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "data_filesystem": _filesystem(folder),
        "fsync_ms": round(_fsync_ms(folder), 3),
        "connections": CONNECTIONS,
        "seatsvc": __version__,
        "python": platform.python_version(),
        "postgresql": await database.fetchval("show server_version"),
        "redis_server": _said(program(servers.redis), "--version").partition(" sha=")[0],
        "wrk": _said(Path(find_wrk()), "-v").split(" [")[0],
    }
    return info | {package: version(package) for package in PACKAGES}


def write_json(
    file: Path, about: Mapping[str, Any], rounds: Sequence[Metrics], found: Sequence[Result]
) -> None:
    """All that was measured."""
    rows = [{**asdict(each), "target": each.target, "met": each.met} for each in found]
    document = {**about, "rounds": list(rounds), "rows": rows}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    within = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(within, key=lambda mount: len(mount[0]))[1]


def _fsync_ms(folder: Path) -> float:
    """What a commit waits for at least."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(b"x" * 8192)
            file.flush()
            started_at = perf_counter()
            os.fdatasync(file.fileno())
            times.append(perf_counter() - started_at)
    return 1000 * median(times)


def _said(command: Path, option: str) -> str:
    answer = subprocess.run(
        [command, option], capture_output=True, text=True, timeout=10, check=False
    )
    return (answer.stdout + answer.stderr).splitlines()[0].strip()
