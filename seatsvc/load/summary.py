"""What a run came to: rates, latencies, outcomes and invariants, as a table or as JSON."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from seatsvc.load.history import Call
from seatsvc.load.invariants import Finding


@dataclass(frozen=True, slots=True)
class Speed:
    """How often, and how quickly, calls of a kind were answered."""

    kind: str
    count: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """All there is to say. `opened` and `seconds` say when it ran, by the clock of perf_counter."""

    scenario: str
    url: str
    event_id: int
    users: int
    connections: int
    opened: float
    seconds: float
    bookings: int
    calls: list[Call]
    findings: list[Finding]
    rate_limits: list[str]

    @property
    def broken(self) -> bool:
        """Was a promise broken?"""
        return any(finding.broken for finding in self.findings)

    def speeds(self) -> list[Speed]:
        """One for each kind of call, and one for all."""
        kinds = sorted({call.kind for call in self.calls})
        parts = [(kind, [call for call in self.calls if call.kind == kind]) for kind in kinds]
        return [_speed(kind, calls, self.seconds) for kind, calls in [*parts, ("all", self.calls)]]

    def outcomes(self) -> dict[str, dict[str, int]]:
        """By kind, how often each."""
        counts = Counter((call.kind, call.outcome) for call in self.calls)
        kinds = sorted({call.kind for call in self.calls})
        return {
            kind: {name: n for (of, name), n in counts.most_common() if of == kind}
            for kind in kinds
        }


def percentile(ranked: Sequence[float], percent: float) -> float:
    """By nearest rank; 0 of none."""
    if not ranked:
        return 0.0
    return ranked[max(0, -int(-len(ranked) * percent // 100) - 1)]


def _speed(kind: str, calls: Sequence[Call], seconds: float) -> Speed:
    answered = (call for call in calls if call.status)
    ranked = sorted(1000 * (call.ended - call.started) for call in answered)
    rate = len(calls) / seconds if seconds else 0.0
    return Speed(kind, len(calls), rate, *(percentile(ranked, each) for each in (50, 95, 99, 100)))


def as_json(result: Result) -> str:
    """For machines."""
    plain = ("scenario", "url", "event_id", "users", "connections", "seconds", "bookings")
    said = {name: getattr(result, name) for name in plain}
    said["calls"] = [asdict(speed) for speed in result.speeds()]
    said["outcomes"] = result.outcomes()
    said["rate_limits"] = result.rate_limits
    said["invariants"] = [asdict(finding) for finding in result.findings]
    said["sound"] = not result.broken
    return json.dumps(said, indent=2)


def as_table(result: Result) -> str:
    """For people."""
    return "\n".join(
        [*_head(result), "", *_speeds(result), "", *_outcomes(result), "", *_ends(result)]
    )


def _head(result: Result) -> Iterator[str]:
    yield f"{result.scenario} at {result.url}, event {result.event_id}"
    yield (
        f"{result.users:,} users on {result.connections:,} connections, {result.seconds:.1f} s: "
        f"{result.bookings:,} bookings, {result.bookings / (result.seconds or 1):,.0f} a second"
    )


def _speeds(result: Result) -> Iterator[str]:
    yield f"{'':14}{'calls':>9}{'a second':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}"
    for each in result.speeds():
        times = (each.p50_ms, each.p95_ms, each.p99_ms, each.max_ms)
        shown = "".join(f"{ms:9,.1f}" for ms in times)
        yield f"{each.kind:14}{each.count:9,}{each.per_second:10,.0f}{shown}"


def _outcomes(result: Result) -> Iterator[str]:
    yield "Outcomes"
    for kind, counts in result.outcomes().items():
        for name, count in counts.items():
            yield f"  {kind:14}{name:28}{count:9,}"


def _ends(result: Result) -> Iterator[str]:
    yield "Invariants, checked from outside"
    for finding in result.findings:
        verdict = f"BROKEN {finding.broken:,} times" if finding.broken else "holds"
        checked = f"{finding.checked:9,} checked" if finding.checked else f"{'':9} not checked"
        yield f"  {finding.name:34}{checked}   {verdict if finding.checked else ''}".rstrip()
        yield from (f"    {example}" for example in finding.examples)
