"""The figures are computed as they say."""

from math import inf

from tests.faults.figures import back_s, between, failed_percent, percentile_ms
from tests.faults.workload import Sample


def every_tenth(
    start: float, end: float, status: int = 200, waited_s: float = 0.01
) -> list[Sample]:
    """Ten requests a second."""
    dues = [start + n / 10 for n in range(int((end - start) * 10))]
    return [Sample("read", due_at, waited_s, status) for due_at in dues]


def test_percentile() -> None:
    samples = [Sample("read", 0, n / 1000, 200) for n in range(1, 101)]
    assert percentile_ms(samples, 99) == 100
    assert percentile_ms(samples, 50) == 51
    assert percentile_ms([], 99) == 0


def test_failed_percent() -> None:
    samples = [Sample("read", 0, 0, status) for status in (200, 409, 503, 0)]
    assert failed_percent(samples) == 50


def test_between() -> None:
    samples = [Sample("read", 1, 0, 200), Sample("book", 2, 0, 200), Sample("read", 3, 0, 200)]
    assert between(samples, 1, 3, "read", "book") == samples[:2]
    assert between(samples, 1, 9, "read") == [samples[0], samples[2]]


def test_back_at_once() -> None:
    assert back_s(every_tenth(0, 10), 0) == 1


def test_back_after_failures() -> None:
    """Until the fourth second all failed: the first whole second of answers ends with the fifth."""
    samples = every_tenth(0, 4, status=503) + every_tenth(4, 10)
    assert 4.8 <= back_s(samples, 0) <= 5.2


def test_back_after_waits() -> None:
    """An answer counts when it comes, not when its request was due."""
    samples = every_tenth(0, 4, waited_s=5) + every_tenth(4, 10)
    assert 4.8 <= back_s(samples, 0) <= 5.2


def test_never_back() -> None:
    assert back_s(every_tenth(0, 10, status=0), 0) == inf
