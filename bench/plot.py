"""One picture: how fast, and how near to the targets."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.harness import Metrics
from bench.report import Result, number

YARDSTICKS = [
    f"{name}.rate" for name in ("starlette", "prebuilt", "verified", "one_statement", "plain")
]
OURS, YARDSTICK, MISSED, INK = "#2563a8", "#9aa5b1", "#c2571a", "#1f2933"


def draw(file: Path, found: Sequence[Result], rounds: Sequence[Metrics], title: str) -> None:
    """A PNG."""
    mpl.use("Agg")
    rates = [each for each in _once(found) if each.row.metric.endswith(".rate")]
    judged = [each for each in found if each.attained is not None]
    height = 1.6 + 0.33 * max(len(rates), len(judged))
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, height), layout="constrained")
    _draw_rates(left, rates, rounds)
    _draw_targets(right, judged)
    figure.suptitle(title, color=INK, fontsize=11)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _once(found: Sequence[Result]) -> list[Result]:
    return list({each.row.metric: each for each in reversed(found)}.values())[::-1]


def _draw_rates(axes: Axes, rates: Sequence[Result], rounds: Sequence[Metrics]) -> None:
    for place, each in enumerate(rates):
        metric = each.row.metric
        colour = YARDSTICK if metric in YARDSTICKS else OURS
        axes.barh(place, each.value, color=colour, height=0.7)
        dots = [figures[metric] for figures in rounds if metric in figures]
        axes.plot(dots, [place] * len(dots), "o", color=INK, markersize=2.5, alpha=0.6)
        axes.annotate(
            f"{each.value:,.0f}", (max([each.value, *dots]), place), (5, 0),
            textcoords="offset points", va="center", fontsize=8, color=INK,
        )  # fmt: skip
    _label(axes, [each.row.what for each in rates])
    axes.set_title("A second: medians, and each round (grey: yardsticks)", fontsize=10)
    axes.margins(x=0.12)


def _draw_targets(axes: Axes, judged: Sequence[Result]) -> None:
    for place, each in enumerate(judged):
        attained = each.attained or 0.0
        axes.barh(place, attained, color=OURS if each.met else MISSED, height=0.7)
        said = f"{number(each.judged)}{'' if each.ratio is None else ' x'}  ({each.target})"
        axes.annotate(
            said, (attained, place), (5, 0), textcoords="offset points", va="center", fontsize=8,
            color=INK,
        )  # fmt: skip
    axes.axvline(1, color=INK, linewidth=1)
    _label(axes, [each.row.what for each in judged])
    axes.set_title("Against the target = 1; more is better (orange: missed)", fontsize=10)
    axes.margins(x=0.25)


def _label(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
