"""One picture: calls answered over time, and how long they took."""

import importlib.util
from pathlib import Path

from seatsvc.load.client import LoadError
from seatsvc.load.summary import Result

STEPS = 60
COLOURS = ["#2563a8", "#c2571a", "#3f8f5b", "#8a5fb0", "#9aa5b1", "#b3923a"]


def find_plotter() -> None:
    """Look for matplotlib before the work is done.

    Raises LoadError.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise LoadError("--plot needs matplotlib: run pip install 'seatsvc[bench]'.")


def draw(result: Result, file: Path) -> None:
    """A picture in the format that the file's name ends with.

    Raises LoadError.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("Agg")
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    over_time, latency = figure.subplots(1, 2)
    step = (result.seconds or 1) / STEPS
    for kind, colour in zip(result.outcomes(), COLOURS, strict=False):
        calls = [call for call in result.calls if call.kind == kind]
        counts = [0] * (STEPS + 1)
        for call in calls:
            counts[min(STEPS, max(0, int((call.ended - result.opened) / step)))] += 1
        times = [n * step for n in range(STEPS)]
        over_time.plot(times, [n / step for n in counts[:STEPS]], color=colour, label=kind)
        ranked = sorted(1000 * (call.ended - call.started) for call in calls if call.status)
        shares = [100 * (n + 1) / len(ranked) for n in range(len(ranked))]
        latency.plot(ranked, shares, color=colour, label=kind)
    over_time.set(title="Answered a second", xlabel="seconds")
    latency.set(title="Answered within", xlabel="milliseconds", ylabel="% of calls", xscale="log")
    over_time.legend()
    verdict = "an invariant is broken" if result.broken else "all invariants hold"
    size = f"{result.users:,} users, {result.connections:,} connections"
    figure.suptitle(f"{result.scenario}: {size}, {result.bookings:,} bookings; {verdict}")
    try:
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise LoadError(f"Cannot write {file}: {error}") from None
