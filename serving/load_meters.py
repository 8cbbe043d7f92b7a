"""Meters of loads: how many, how they ended, how long they took, and how large what is loaded is."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.histogram import Histogram

LOAD_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
STATM: Final = Path("/proc/self/statm")
LOADED: Final = "ok"
FAILED: Final = "failed"


class LoadMeters:
    """Of one gateway, in its registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.loads = Counter(
            "tidegate_loads",
            "Versions that were to be loaded, by outcome: ok, failed.",
            ("model", "outcome"),
            registry=registry,
        )
        self.duration = Histogram(
            "tidegate_load_duration_seconds",
            "Loads that ended well, from the files to a version that is warm.",
            (),
            LOAD_SECONDS,
            registry,
        )
        self.memory = Gauge(
            "tidegate_model_memory_bytes",
            "What a loaded version takes, estimated: how much the process grew while it was loaded and warmed up, and "
            "no less than its files. What else went on counts in; memory that an earlier version left is not seen.",
            ("model", "version"),
            registry=registry,
        )
        self._all = self.duration.series()
        self._grew = 0

    def taken(self, model: str, version: int, weights: int) -> None:
        """After `timed`, of the version that was loaded in it. weights: bytes of its files."""
        self.memory.labels(model, str(version)).set(max(weights, self._grew))

    def gone(self, model: str, version: int) -> None:
        """It was let go."""
        self.memory.remove(model, str(version))

    @contextmanager
    def timed(self, model: str) -> Iterator[None]:
        """Counts the load that goes on within. One that was called off did not end."""
        loads = {outcome: self.loads.labels(model, outcome) for outcome in (LOADED, FAILED)}  # both there, be it as 0
        started_s, before = time.monotonic(), resident_bytes()
        try:
            yield
        except Exception:
            loads[FAILED].inc()
            raise
        loads[LOADED].inc()
        self._all.add(np.asarray([time.monotonic() - started_s]))
        self._grew = resident_bytes() - before


def resident_bytes() -> int:
    """Of this process' memory, what lies in RAM; 0 where the system has no /proc."""
    try:
        return int(STATM.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0
