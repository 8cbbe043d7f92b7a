"""Plots as SVG that stands in a page and takes its colours from there, by day and by night.

matplotlib draws in stand-in colours, which are replaced by the page's variables: one file, no script, any theme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loadtests.outcome import Made, Outcome
from loadtests.report.series import Bins

# Stand-ins, none of which matplotlib would use by itself.
INK: Final = "#010101"
GRID: Final = "#020202"
LINES: Final = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
BAD: Final = "#040401"
VARIABLES: Final[Mapping[str, str]] = {
    INK: "var(--ink)",
    GRID: "var(--grid)",
    BAD: "var(--bad)",
    **{colour: f"var(--line{i})" for i, colour in enumerate(LINES)},
}
STYLE: Final[Mapping[str, Any]] = {
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": GRID,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, sharp, and to be searched
    "svg.hashsalt": "tidegate",  # the same plot is the same file
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
WIDE: Final = (9.0, 2.8)  # inches
PLACE: Final = (0.085, 0.17, 0.695, 0.74)  # of all plots, so that their times stand one below the other

PLAIN: Final = FuncFormatter(lambda value, _: f"{value:,.10g}")


def latency_over_time(bins: Bins, limit_s: float, changes: Sequence[Made]) -> str:
    def draw(axes: Any) -> None:
        for share, colour in zip((0.5, 0.9, 0.99), LINES, strict=False):
            milliseconds = [seconds * 1e3 for seconds in bins.latency_s(share)]
            axes.plot(bins.middles_s, milliseconds, color=colour, label=f"p{share * 100:.0f}")
        axes.axhline(limit_s * 1e3, color=BAD, linestyle="--", linewidth=1, label="p99 may be")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PLAIN)
        axes.set_ylabel("ms")
        _mark(axes, changes)

    return _drawn(draw)


def latency_histogram(outcomes: Sequence[Outcome], limit_s: float) -> str:
    latencies = np.array([one.latency_s for one in outcomes if one.answered]) * 1e3

    def draw(axes: Any) -> None:
        if len(latencies):
            low, high = max(0.05, latencies.min()), max(latencies.max(), limit_s * 1e3)
            axes.hist(latencies, bins=np.geomspace(low * 0.9, high * 1.1, 70), color=LINES[0])
        axes.axvline(limit_s * 1e3, color=BAD, linestyle="--", linewidth=1, label="p99 may be")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set_xlabel("ms from when it was due")
        axes.set_ylabel("requests")

    return _drawn(draw)


def rates(bins: Bins, good: Callable[[Outcome], bool], changes: Sequence[Made]) -> str:
    def draw(axes: Any) -> None:
        shown = (("offered", lambda _: True), ("answered", lambda one: one.answered), ("within its time", good))
        for (label, counts), colour, width in zip(shown, LINES, (3.5, 2, 1.2), strict=False):
            axes.plot(bins.middles_s, bins.rate(counts), color=colour, label=label, linewidth=width)
        axes.set_ylabel("requests/s")
        axes.set_ylim(bottom=0)
        _mark(axes, changes)

    return _drawn(draw)


def stacked(bins: Bins, name: Callable[[Outcome], str], changes: Sequence[Made] = ()) -> str:
    """Rates by name, one on top of the other; those beyond the sixth together."""
    found = bins.rates_by(name)
    names = list(found)
    if len(names) > len(LINES):
        rest = np.sum([found[name] for name in names[len(LINES) - 1 :]], axis=0)
        found = {**{name: found[name] for name in names[: len(LINES) - 1]}, "others": rest}

    def draw(axes: Any) -> None:
        edges = np.arange(len(bins.middles_s) + 1) * bins.width_s
        base = np.zeros(len(bins.middles_s))
        for (label, values), colour in zip(found.items(), LINES, strict=False):
            axes.stairs(base + values, edges, baseline=base, fill=True, color=colour, label=label)
            base = base + values
        axes.set_ylabel("requests/s")
        axes.set_ylim(bottom=0)
        _mark(axes, changes)

    return _drawn(draw)


def late_over_time(bins: Bins, limit_s: float) -> str:
    def draw(axes: Any) -> None:
        groups = [sorted(one.late_s for one in group) for group in bins.groups]
        worst = [group[int(0.99 * len(group))] * 1e3 if group else np.nan for group in groups]
        axes.plot(bins.middles_s, worst, color=LINES[0], label="p99")
        axes.axhline(limit_s * 1e3, color=BAD, linestyle="--", linewidth=1, label="may be")
        axes.set_ylabel("ms late")
        axes.set_ylim(bottom=0)

    return _drawn(draw)


def _mark(axes: Any, changes: Sequence[Made]) -> None:
    axes.set_xlabel("s")
    for made in changes:
        axes.axvline(made.at_s, color=INK, linestyle=":", linewidth=1)
        axes.annotate(
            f"{made.action} {made.version or ''}", (made.at_s, 1), xycoords=("data", "axes fraction"), fontsize=9
        )


def _drawn(draw: Callable[[Any], None]) -> str:
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=WIDE)
        axes = figure.add_axes(PLACE)
        axes.grid(visible=True, linewidth=0.5)
        axes.set_axisbelow(True)
        draw(axes)
        axes.minorticks_off()
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue())


def _inline(svg: str) -> str:
    """Without the head of a file of its own, as wide as the page, in its colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', svg, count=1)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
