"""What became of a graph's requests, counted while it goes on."""

from __future__ import annotations

import time

from serving.engine import Run, Statistics


class Counts:
    """Grows into engine.Statistics."""

    __slots__ = ("_answered", "_batches", "_failed", "_failed_s", "_last", "_queue_s", "_rows", "_run_s")

    def __init__(self) -> None:
        self._answered = self._failed = self._rows = 0
        self._queue_s = self._run_s = self._failed_s = self._last = 0.0
        self._batches: dict[int, tuple[int, float]] = {}  # rows -> runs, seconds

    def ran(self, run: Run) -> None:
        """A run of the engine has ended, of one batch."""
        self._last = time.time()
        runs, seconds = self._batches.get(run.batch_rows, (0, 0.0))
        self._batches[run.batch_rows] = (runs + 1, seconds + run.run_s)

    def answered(self, rows: int, queue_s: float, run_s: float) -> None:
        """A request of so many rows has its answer."""
        self._answered += 1
        self._rows += rows
        self._queue_s += queue_s
        self._run_s += run_s

    def failed(self, seconds: float) -> None:
        """A request got an error, so long after it came."""
        self._failed += 1
        self._failed_s += seconds

    def statistics(self) -> Statistics:
        """As things are now."""
        return Statistics(
            answered=self._answered,
            failed=self._failed,
            rows=self._rows,
            runs=sum(runs for runs, _ in self._batches.values()),
            queue_s=self._queue_s,
            run_s=self._run_s,
            failed_s=self._failed_s,
            batches=dict(sorted(self._batches.items())),
            last=self._last,
        )
