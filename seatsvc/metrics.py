"""What is counted for Prometheus. Each worker counts for itself; what is shown is of all of them.

Workers share files in the folder that PROMETHEUS_MULTIPROC_DIR names, which has to be set before
this is imported: `seatsvc serve --workers` does so.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    PLATFORM_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
REGISTRY.unregister(PLATFORM_COLLECTOR)  # which would tell everybody Python's version
LATENCIES_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LOCKS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)

REQUESTS = Counter("seatsvc_requests", "Requests answered.", ["method", "route", "status"])
LATENCY = Histogram(
    "seatsvc_request_seconds", "From a request's head to its answer's end.", ["route"],
    buckets=LATENCIES_S,
)  # fmt: skip
ORDERS = Counter(
    "seatsvc_orders", "Bookings and holds asked for: `done`, or why not.",
    ["kind", "outcome"],
)  # fmt: skip
HOLDS_BOOKED = Counter("seatsvc_holds_booked", "Holds that became bookings.")
LOCK_WAIT = Histogram(
    "seatsvc_lock_seconds", "Waiting for Redis to lock the seats of a batch.", buckets=LOCKS_S
)
LOCK_CONTENDED = Counter("seatsvc_lock_contended", "Orders that met someone at the same seat.")
LOOKS = Counter(
    "seatsvc_cache_looks",
    "Looks at an event's availability: `same` and `entry` are hits, `fill` asks the database, "
    "`wait` waits for another's fill, `database` goes without the cache.",
    ["found"],
)
LANE_WAITING = Gauge(
    "seatsvc_lane_waiting", "Requests that wait for a batch.", ["lane"], multiprocess_mode="livesum"
)
POOL = Gauge(
    "seatsvc_pool_connections", "Connections to PostgreSQL.", ["state"],
    multiprocess_mode="livesum",
)  # fmt: skip
BREAKER_OPEN = Gauge(
    "seatsvc_breaker_open", "Workers that go on without Redis.", multiprocess_mode="livesum"
)
WATCHERS = Gauge("seatsvc_stream_watchers", "Open streams.", multiprocess_mode="livesum")
OUTBOX_LAG = Gauge(
    "seatsvc_outbox_lag_seconds", "How long the oldest mail has been waiting.",
    multiprocess_mode="livemostrecent",
)  # fmt: skip
OUTBOX_DEAD = Gauge(
    "seatsvc_outbox_dead", "Mails that were given up.", multiprocess_mode="livemostrecent"
)
EXPIRY_LAG = Gauge(
    "seatsvc_expiry_lag_seconds", "How long a hold has been over that still keeps its seats.",
    multiprocess_mode="livemostrecent",
)  # fmt: skip
VIOLATIONS = Gauge(
    "seatsvc_invariant_violations",
    "What should be 0: rows of the event checked last that contradict each other.",
    ["invariant"], multiprocess_mode="livemax",
)  # fmt: skip


@lru_cache(maxsize=1000)
def requests(method: str, route: str, status: int) -> Counter:
    """Of this kind. To find them by their labels anew each time would cost as much as to count."""
    return REQUESTS.labels(method, route, status)


@lru_cache(maxsize=1000)
def latency(route: str) -> Histogram:
    """At this route."""
    return LATENCY.labels(route)


@lru_cache(maxsize=100)
def looks(found: str) -> Counter:
    """That found this."""
    return LOOKS.labels(found)


@lru_cache(maxsize=100)
def orders(kind: str, outcome: str) -> Counter:
    """That ended so."""
    return ORDERS.labels(kind, outcome)


@dataclass(slots=True)
class Counted:
    """Counts an order by what becomes of it."""

    kind: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        outcome = "done" if error is None else getattr(error, "code", "internal_error")
        orders(self.kind, outcome).inc()


def document() -> bytes:
    """All of it, in Prometheus' text format."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return generate_latest(REGISTRY)
    _forget_the_dead(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)
    return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """A worker that was killed has no lanes and no connections any more."""
    for pid in {file.stem.rpartition("_")[2] for file in folder.glob("gauge_live*.db")}:
        if not Path("/proc", pid).exists() and Path("/proc").exists():
            mark_process_dead(int(pid), str(folder))
