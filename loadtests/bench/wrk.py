"""wrk, the load generator of the Debian package of that name: runs it and reads what it prints.

Its loop is closed: each connection waits for its answer before it asks again. That is fair for comparing servers in one
run; what overload does is measured in tests/promises, whose arrivals do not wait.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INSTALL: Final = "sudo apt-get install wrk"
ANSWER_LIMIT_S: Final = 30  # wrk's own 2 s would count slow answers as errors
_SCRIPT: Final = Path(__file__).with_name("post.lua")
_SECONDS: Final[Mapping[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class WrkFailed(Exception):
    """wrk did not run, or not all answers were 2xx or 3xx."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a body is posted."""

    url: str
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Load:
    """Answers a second, and the seconds that half and 99 of 100 of them took at most."""

    rate: float
    p50_s: float
    p99_s: float


def run(target: Target, connections: int, seconds: int, core: int | None = None) -> Load:
    """One run over so many connections, by one thread, on that core alone if one is named. WrkFailed."""
    with tempfile.NamedTemporaryFile(prefix="body-") as body:
        body.write(target.body)
        body.flush()
        load = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={ANSWER_LIMIT_S}s", "--latency"]
        command = ["wrk", *load, "-s", str(_SCRIPT), target.url, "--", body.name, target.content_type]
        done = subprocess.run([*pinned(core), *command], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise WrkFailed(f"wrk ended with exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def pinned(core: int | None) -> list[str]:
    """What stands before a command that is to run on one core."""
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def parse(text: str) -> Load:
    """What wrk printed, with --latency. WrkFailed when it tells of errors or is not wrk's output."""
    if problems := re.findall(r"^ *(Socket errors: .*|Non-2xx or 3xx responses: .*)$", text, re.MULTILINE):
        raise WrkFailed("; ".join(problems))
    return Load(_rate(text), _percentile_s(text, 50), _percentile_s(text, 99))


def _rate(text: str) -> float:
    return float(_find(r"^Requests/sec: +([\d.]+)$", text)[1])


def _percentile_s(text: str, percent: int) -> float:
    found = _find(rf"^ +{percent}% +([\d.]+)(us|ms|s|m|h) *$", text)
    return float(found[1]) * _SECONDS[found[2]]


def _find(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise WrkFailed(f"wrk printed nothing like {pattern!r}:\n{text}")
    return found
