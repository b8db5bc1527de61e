"""What a run measured, beside its targets, as one table."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

from tests.faults.workload import Sample

WRITES = ("book", "hold", "cancel", "release")
HEAD = "| Fault | What | Measured | Target | |\n|---|---|---|---|---|"


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table."""

    fault: str
    what: str
    measured: str
    target: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        cells = self.fault, self.what, self.measured, self.target, verdict
        return f"| {' | '.join(cells)} |"


TABLE: list[Figure] = []


@contextmanager
def aside() -> Iterator[list[Figure]]:
    """What is measured meanwhile does not belong into the table."""
    kept, figures = TABLE[:], list[Figure]()
    TABLE.clear()
    try:
        yield figures
    finally:
        figures += TABLE
        TABLE[:] = kept


def missed(figures: Iterable[Figure]) -> set[str]:
    """What was not as it should be."""
    return {figure.what for figure in figures if figure.met is False}


def as_text(figures: Iterable[Figure]) -> str:
    """The table, in Markdown."""
    return "\n".join([HEAD, *map(str, figures)]) + "\n"


def note(fault: str, what: str, measured: object) -> None:
    """A figure without a target."""
    TABLE.append(Figure(fault, what, str(measured)))


def compare(fault: str, what: str, measured: float, most: float, unit: str = "") -> None:
    """A figure that should be at most so much."""
    line, target = (f"{_rounded(value)} {unit}".strip() for value in (measured, most))
    TABLE.append(Figure(fault, what, line, f"at most {target}", measured <= most))


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percentile_ms(samples: Sequence[Sample], percent: float) -> float:
    """Of the waits, by the nearest rank."""
    ranked = sorted(sample.waited_s for sample in samples)
    return 1000 * ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else 0


def between(samples: Iterable[Sample], start: float, end: float, *kinds: str) -> list[Sample]:
    """Those that were due in a stretch of time."""
    return [each for each in samples if start <= each.due_at < end and each.kind in kinds]


def back_s(samples: Sequence[Sample], healed_at: float, share: float = 0.95) -> float:
    """How long after a fault's end a whole second saw that share of its requests answered well.

    They count when they are answered; infinite when that never came.
    """
    last_at = max((each.due_at for each in samples), default=healed_at)
    ends = [each.due_at + each.waited_s for each in samples if not failed(each)]
    for tenths in range(int(10 * (last_at - healed_at - 1))):
        start = healed_at + tenths / 10
        due = sum(start <= each.due_at < start + 1 for each in samples)
        if sum(start <= end < start + 1 for end in ends) >= share * due:
            return tenths / 10 + 1
    return inf


def failed_percent(samples: Sequence[Sample]) -> float:
    """How many the service failed."""
    return 100 * sum(map(failed, samples)) / max(1, len(samples))


def failed(sample: Sample) -> bool:
    """The service did not do its work."""
    return sample.status == 0 or sample.status >= 500
