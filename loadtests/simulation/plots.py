"""The pictures of docs/scaling.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from loadtests.simulation.bounds import bounds
from loadtests.simulation.figures import FAST, HEAVY, Kind, Measured
from loadtests.simulation.study import Scale, Shared

SIZE: Final = (7.0, 3.0)  # inches
DPI: Final = 100


def draw(folder: Path, measured: Measured, kind: Kind, scales: Sequence[Scale], shared: Sequence[Shared]) -> None:
    """host.png, scale.png, redis.png."""
    folder.mkdir(parents=True, exist_ok=True)
    _host(folder / "host.png", measured, kind)
    _scale(folder / "scale.png", scales)
    _redis(folder / "redis.png", shared)


def _host(file: Path, measured: Measured, kind: Kind) -> None:
    figure, axes = _axes("requests a second, one host")
    for i, accelerator in enumerate((FAST, HEAVY)):
        parts = bounds(measured, accelerator, kind).parts
        places = [place + 0.4 * i for place in range(len(parts))]
        axes.barh(places, list(parts.values()), height=0.38, label=accelerator.name)
        axes.set_yticks([place - 0.2 for place in places], list(parts))
    axes.set_xscale("log")
    axes.set_xlim(left=100)
    axes.legend(fontsize=8)
    _save(figure, file)


def _scale(file: Path, scales: Sequence[Scale]) -> None:
    figure, axes = _axes("GPUs")
    for name in dict.fromkeys(one.accelerator.name for one in scales):
        mine = [one for one in scales if one.accelerator.name == name]
        for share, style in ((0.5, "-"), (0.99, "--")):
            milliseconds = [one.result.percentile_s(share) * 1e3 for one in mine]
            axes.plot([one.gpus for one in mine], milliseconds, style, marker="o", label=f"{name}, p{share * 100:.0f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    axes.legend(fontsize=8)
    _save(figure, file)


def _redis(file: Path, shared: Sequence[Shared]) -> None:
    figure, axes = _axes("gateways on one Redis")
    counts = [one.gateways for one in shared]
    axes.plot(counts, [one.busy for one in shared], marker="o", label="Redis busy, share of the time")
    seconds = [one.promotion_s if one.promotion_s < math.inf else math.nan for one in shared]
    axes.plot(counts, seconds, marker="s", label="a promotion, s")
    axes.plot(counts, [one.census_s for one in shared], marker="^", label="of each gateway's event loop, share")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    _save(figure, file)


def _axes(label: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(label)
    axes.grid(visible=True, linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=DPI, metadata={"Software": None})
