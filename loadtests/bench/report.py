"""What was measured, for people and as plain data."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from loadtests.bench.comparison import STEADY, Bar, Comparison, Contender, Turns, median_load

SERVING: Final = ("tidegate", "fastapi", "uvicorn", "uvloop", "httptools", "pydantic")
COMPUTING: Final = ("onnxruntime", "numpy", "pillow", "simplejpeg")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in (*SERVING, *COMPUTING)},
    }


def head(found: Mapping[str, Any], turns: Turns) -> str:
    """The machine, the packages and how it is measured."""
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    return (
        f"{found['processor']}, {found['cores']} cores; Python {found['python']}\n{packages}\n"
        f"Medians of {turns.rounds} rounds of {turns.seconds} s; servers take turns, wrk waits for its answers."
    )


def table(comparison: Comparison) -> str:
    """A row for each contender."""
    titles = ("", "connections", comparison.unit, "p50 ms", "p99 ms", f"of {comparison.share_of}")
    lines = [titles, *_rows(comparison)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    return "\n".join([f"{comparison.name}: {comparison.title}", *aligned])


def verdict(bar: Bar) -> str:
    """A bar on one line."""
    return f"{'pass' if bar.passed else 'MISS'}  {bar.name}: {bar.reached:.2f} (at least {bar.least:g})"


def doubts(comparison: Comparison) -> list[str]:
    """Why the comparison does not count, if so."""
    times = comparison.unsteadiness
    if times <= STEADY:
        return []
    return [
        f"{comparison.name} does not count: between rounds speeds differed {times:.1f} times. Keep the machine quiet."
    ]


def as_data(found: Mapping[str, Any], turns: Turns, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Everything, each round's figures with it."""
    return {
        "machine": found,
        "turns": asdict(turns),
        "comparisons": {
            comparison.name: {
                "unsteadiness": comparison.unsteadiness,
                "contenders": [_contender(comparison, contender) for contender in comparison.loads],
            }
            for comparison in comparisons
        },
        "bars": [asdict(bar) | {"passed": bar.passed} for comparison in comparisons for bar in comparison.bars],
    }


def _rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for contender, loads in comparison.loads.items():
        load, share = median_load(loads), median(comparison.shares[contender])
        rate = f"{load.rate:,.0f}" if load.rate >= 1000 else f"{load.rate:.1f}"
        latencies = f"{load.p50_s * 1e3:.2f}", f"{load.p99_s * 1e3:.2f}"
        yield contender.name, str(contender.connections), rate, *latencies, f"{share:.2f}"


def _contender(comparison: Comparison, contender: Contender) -> dict[str, Any]:
    rounds = zip(comparison.loads[contender], comparison.shares[contender], strict=True)
    return {**contender._asdict(), "rounds": [{**asdict(load), "share": share} for load, share in rounds]}


def _processor() -> str:
    """As Linux names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
