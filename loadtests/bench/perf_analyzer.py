"""NVIDIA's perf_analyzer, as deploy/triton/perf_analyzer.sh runs it: a closed loop of binary tensors."""

from __future__ import annotations

import csv
import io
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from loadtests.bench.wrk import Load

PROGRAM: Final = Path(__file__).parents[2] / "deploy/triton/perf_analyzer.sh"
WINDOW_MS: Final = 1000
STABLE: Final = "50"  # percent that its windows may differ by
UNSTEADY: Final = 2  # its exit code when they differ by more
TRIES: Final = 4
LIMIT_S: Final = 60
PROTOCOLS: Final = {"http": ("-i", "http"), "grpc": ("-i", "grpc"), "stream": ("-i", "grpc", "--streaming", "--async")}


class PerfAnalyzerFailed(Exception):
    """It did not run, or a request failed."""


def run(model: str, url: str, protocol: str, connections: int, seconds: int, *options: str) -> Load:
    """One run with so many requests under way. `url`: host:port; options: more of its own. PerfAnalyzerFailed."""
    command = [str(PROGRAM), "-m", model, "-u", url, "-b", "1", *PROTOCOLS[protocol], *options]
    command += ["--concurrency-range", str(connections), "-p", str(WINDOW_MS), "-r", str(max(3, seconds)), "-s", STABLE]
    for _ in range(TRIES):
        done, text = _measure(command, LIMIT_S + 2 * seconds)
        if done.returncode == 0 and "error" not in done.stderr.lower() and text:
            [row] = csv.DictReader(io.StringIO(text))
            return Load(
                float(row["Inferences/Second"]), float(row["p50 latency"]) / 1e6, float(row["p99 latency"]) / 1e6
            )
        told = f"perf_analyzer ended with exit code {done.returncode}: {done.stderr or done.stdout}"
        if done.returncode != UNSTEADY:
            raise PerfAnalyzerFailed(told)
    raise PerfAnalyzerFailed(f"{TRIES} times its windows differed too much. Keep the machine quiet.")


def _measure(command: list[str], limit_s: float) -> tuple[subprocess.CompletedProcess[str], str]:
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        done = subprocess.run(  # noqa: S603  (our own)
            [*command, "-f", file.name], capture_output=True, text=True, check=False, timeout=limit_s
        )
        return done, Path(file.name).read_text(encoding="utf-8")
