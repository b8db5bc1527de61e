"""Many who watch one event while it sells: how soon they see it, and what that costs."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any

from bench import checks
from bench.client import Answer, Pace, build, connected, percentile_ms
from bench.data import Hall, numbered
from bench.harness import Bench, Metrics
from bench.load import CONNECTIONS
from bench.processes import ROOT, BenchError, rss_mib
from bench.watchers import READERS, WATCHERS

RATE = 50  # bookings a second
SECONDS = 2
ROUNDS = 6  # with and without watchers in turn
PATIENCE_S = 30
LINE_MAX_BYTES = 2**24


@dataclass
class Booked:
    """What became of the bookings."""

    latencies_s: list[float]
    answered_at: dict[int, float]


async def streams(bench: Bench) -> Metrics:
    """2,000 streams of one event with 50 bookings a second; in turn with it, as many without."""
    alone_s: list[float] = []
    crowd_s: list[float] = []
    late_s: list[float] = []
    taken_mib: list[float] = []
    for _ in range(ROUNDS):
        quiet, loud = [await bench.make_hall(numbered(1000)) for _ in range(2)]
        alone_s += (await _book(bench, quiet)).latencies_s
        free_mib = rss_mib(bench.service.pid)
        async with _watchers(bench, loud) as watchers:
            taken_mib.append(rss_mib(bench.service.pid) - free_mib)
            crowd = await _book(bench, loud)
            await asyncio.sleep(1)
            late_s += await _late_s(watchers, crowd.answered_at)
        crowd_s += crowd.latencies_s
    return {
        "streams.told_p99_ms": percentile_ms(late_s, 99),
        "streams.told_p50_ms": percentile_ms(late_s, 50),
        "streams.kib": 1024 * taken_mib[0] / WATCHERS,  # later it is there already
        "streams.booking_ms": 1000 * median(crowd_s),
        "streams.alone_ms": 1000 * median(alone_s),
    }


async def _late_s(watchers: Process, answered_at: dict[int, float]) -> list[float]:
    """How long after a booking's answer each reader was told of it; all were."""
    if watchers.stdin is not None:
        watchers.stdin.close()
    told = await _said(watchers)
    checks.require(not told["lost"], f"{told['lost']} streams broke")
    late_s = [
        max(0.0, seen_at[str(seat_id)] - at)
        for seen_at in told["seen_at"]
        for seat_id, at in answered_at.items()
        if str(seat_id) in seen_at
    ]
    checks.require(len(late_s) == READERS * len(answered_at), "a watcher was not told of a booking")
    return late_s


async def _book(bench: Bench, hall: Hall) -> Booked:
    wanted = bench.people.by_seat(hall.seat_ids[: RATE * SECONDS])
    requests = [build("POST", "/bookings", each.token, each.body) for each in wanted]
    answered_at: dict[int, float] = {}

    def heard(number: int, answer: Answer) -> None:
        seat_id = wanted[number].seat_id
        if answer.status == 201 and seat_id is not None:
            answered_at[seat_id] = monotonic()  # the same clock in each process

    async with connected(bench.service.url, CONNECTIONS) as connections:
        pace = Pace(requests, RATE, connections[:], heard)
        await pace.run()
    others = {answer.status for _, answer in pace.answers} - {201}
    checks.require(not others, f"bookings were answered {others}")
    return Booked(pace.latencies_s, answered_at)


@asynccontextmanager
async def _watchers(bench: Bench, hall: Hall) -> AsyncIterator[Process]:
    command = sys.executable, "-m", "bench.watchers", bench.service.url, str(hall.event_id)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=LINE_MAX_BYTES
    )
    try:
        begun = (await _said(process))["begun"]
        checks.require(begun == WATCHERS, f"{begun} of {WATCHERS} streams began")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _said(process: Process) -> dict[str, Any]:
    if process.stdout is None:
        raise BenchError("the watchers cannot be heard")
    async with asyncio.timeout(PATIENCE_S):
        line = await process.stdout.readline()
    if not line:
        raise BenchError("the watchers have gone")
    said: dict[str, Any] = json.loads(line)
    return said
