"""`make bench`: measures, checks, prints a table, draws a picture, keeps the raw figures."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop

from bench import plot, report
from bench.checks import CheckFailed
from bench.data import general, numbered
from bench.harness import Bench, Metrics, started
from bench.load import find_wrk
from bench.processes import BenchError
from bench.scenarios import SCENARIOS
from bench.streams import streams
from seatsvc import local

BUDGET_S = 480
LAST = {"streams": 60, "create": 45}  # measured once, after the rounds: the seconds kept for it


@dataclass
class Run:
    """What a run was asked for, and what it found."""

    names: list[str]
    rounds_max: int
    seconds: int
    out: Path
    started_at: float = field(default_factory=perf_counter)
    rounds: list[Metrics] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def elapsed_s(self) -> float:
        """Since the start."""
        return perf_counter() - self.started_at

    def say(self, line: str) -> None:
        """To whoever waits."""
        print(f"{self.elapsed_s:5.0f} s  {line}", flush=True)


def main() -> int:
    """0: everything that was answered is so; whether targets are met is another matter."""
    run = _asked(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        find_wrk()
        with tempfile.TemporaryDirectory(prefix="seatsvc-bench-") as name:
            folder = Path(name).resolve()
            with local.servers(folder / "data", run.say) as servers:
                uvloop.run(_measure(run, servers, folder))
    except (BenchError, CheckFailed, local.LocalError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    _tell(run)
    return 1 if run.failures else 0


def _asked(arguments: Sequence[str]) -> Run:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="at most (%(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="a measurement (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=[*SCENARIOS, *LAST], metavar="NAME", default=[],
        help=f"some of: {', '.join([*SCENARIOS, 'create'])}",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "out", help="folder for the results"
    )
    given = parser.parse_args(arguments)
    if min(given.rounds, given.seconds) < 1:
        parser.error("--rounds and --seconds are 1 or more")
    wanted = set(given.only or [*SCENARIOS, *LAST])
    wanted |= {need for name in wanted & set(SCENARIOS) for need in SCENARIOS[name].needs}
    names = [name for name in [*SCENARIOS, *LAST] if name in wanted]
    return Run(names, given.rounds, given.seconds, given.out)


async def _measure(run: Run, servers: local.Servers, folder: Path) -> None:
    run.say("Starting the service and the yardsticks, making users")
    async with started(servers, folder, run.seconds) as bench:
        run.about = {
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": {"seconds": run.seconds, "names": run.names},
            "machine": await report.machine(bench.database, servers, folder),
        }
        reserve_s = sum(LAST.get(name, 0) for name in run.names)
        for number in range(run.rounds_max):
            began_s = run.elapsed_s
            run.say(f"Round {number + 1} of {run.rounds_max}")
            run.rounds.append(await _round(run, bench))
            if 2 * run.elapsed_s - began_s > BUDGET_S - reserve_s:
                break
        if "streams" in run.names:
            run.say("Watching")
            await _measured(run, run.rounds[-1], "streams", streams(bench))
        if "create" in run.names:
            run.say("Creating large events")
            await _measured(run, run.rounds[-1], "create", _create(bench))


async def _round(run: Run, bench: Bench) -> Metrics:
    names = [name for name in run.names if name in SCENARIOS]
    halls = {name: await SCENARIOS[name].make_halls(bench) for name in names}
    await bench.settle()
    bench.latest.clear()
    for name in names:
        if all(f"{need}.rate" in bench.latest for need in SCENARIOS[name].needs):
            await _measured(run, bench.latest, name, SCENARIOS[name].run(bench, halls[name]))
    return dict(bench.latest)


async def _measured(run: Run, into: Metrics, name: str, work: Awaitable[Metrics]) -> None:
    try:
        into.update(await work)
    except (CheckFailed, BenchError, TimeoutError) as failure:
        run.failures.append(f"{name}: {failure or type(failure).__name__}")
        run.say(f"FAILED: {run.failures[-1]}")


async def _create(bench: Bench) -> Metrics:
    """Last of all, since it leaves PostgreSQL busy."""
    seats = await bench.make_hall(numbered(100_000))
    field_ = await bench.make_hall(general(1_000_000))
    return {"create.numbered_s": seats.create_s, "create.general_s": field_.create_s}


def _tell(run: Run) -> None:
    found = list(report.results(run.rounds))
    about = run.about | {"seconds_in_all": round(run.elapsed_s), "failures": run.failures}
    machine = about["machine"]
    title = (
        f"{machine['cores']} cores of {machine['cpu']}, PostgreSQL {machine['postgresql']}, "
        f"Python {machine['python']}, FastAPI {machine['fastapi']}, {machine['connections']} "
        f"connections, {len(run.rounds)} rounds of {run.seconds} s"
    )
    run.out.mkdir(parents=True, exist_ok=True)
    report.write_json(run.out / "bench.json", about, run.rounds, found)
    plot.draw(run.out / "bench.png", found, run.rounds, title)
    print(f"\n{title}\n\n{report.table(found)}\n")
    if len(run.rounds) < run.rounds_max:
        print(f"Only {len(run.rounds)} rounds fitted into {BUDGET_S} s.")
    if machine["data_filesystem"] == "tmpfs":
        print("The data was in memory: fsync cost nothing. Set TMPDIR to a folder on a disk.")
    print("\n".join(f"FAILED: {each}" for each in run.failures) or "All checks passed.")
    with suppress(ValueError):
        run.out = run.out.resolve().relative_to(Path.cwd())
    print(f"Raw figures and picture: {run.out / 'bench.json'}, {run.out / 'bench.png'}")


if __name__ == "__main__":
    sys.exit(main())
