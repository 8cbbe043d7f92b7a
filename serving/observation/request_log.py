"""One JSON line a request: how it ended, which version answered, how long it took; not who asked, nor for what.

What it may cost is bounded: so many lines a second of those that were answered, as many of those that were refused and
as many of those that failed. So whoever sends nonsense crowds out nobody's line, and failures are always seen.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.log_lines import Lines, json_line
from serving.observation.allowance import Allowance
from serving.observation.ended import ANSWERED, FAILED, QUIET, REFUSED, Ended, Outcome
from serving.timestamp import timestamp
from serving.trace import Trace


class RequestLog(Collector):
    """Writes to `lines`; without any, nothing. share: of the requests that did not fail, 0 to 1."""

    def __init__(self, lines: Lines | None, share: float, per_s: int) -> None:
        self._lines = lines if share and per_s else None
        self._share = share
        self._allowances = {outcome: Allowance(per_s) for outcome in (ANSWERED, REFUSED, FAILED)}
        self._written = self._left_out = self._dropped = 0

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def wants(self, route: str, now_s: float, outcome: Outcome) -> bool:
        """Whether there is to be a line of this request; to be asked once of each. Microseconds matter here."""
        if self._lines is None or (outcome == ANSWERED and route in QUIET):
            return False
        shared = self._share >= 1.0 or outcome == FAILED or random.random() < self._share  # noqa: S311
        wanted = shared and self._allowances[outcome].take(now_s)
        if not wanted:
            self._left_out += 1
        return wanted

    def write(self, ended: Ended, trace: Trace | None) -> None:
        """The request's line."""
        if self._lines is None:
            return
        if self._lines.put(line_of(ended, trace, time.time())):
            self._written += 1
        else:
            self._dropped += 1

    def collect(self) -> Iterator[Metric]:
        """For Prometheus: of plain numbers, since counting is done for each request."""
        family = CounterMetricFamily(
            "tidegate_request_log_lines",
            "Requests by what became of their line: written; left_out, by share or rate; dropped, as nobody read.",
            labels=("outcome",),
        )
        outcomes = {"written": self._written, "left_out": self._left_out, "dropped": self._dropped}
        for outcome, count in outcomes.items():
            family.add_metric((outcome,), count)
        yield family


def line_of(ended: Ended, trace: Trace | None, unix_s: float) -> bytes:
    """The line, without its end. unix_s: now. What does not apply is left away."""
    said: dict[str, object] = {
        "time": timestamp(unix_s, "milliseconds"),
        "level": "error" if ended.failed else "info",
        "logger": "request",
        "request_id": ended.request_id,
        "transport": ended.transport,
        "method": ended.method,
    }
    said |= {
        name: value
        for name, value in (
            ("route", ended.route),
            ("status", ended.status),
            ("code", ended.code),
            ("model", ended.model),
            ("version", ended.version),
        )
        if value
    }
    said["duration_s"] = round(ended.ended_s - ended.begun_s, 6)
    if ended.stages is not None:
        for name in ("queue_s", "pre_s", "run_s", "post_s"):
            said[name] = round(getattr(ended.stages, name), 6)
    if trace is not None:
        said["trace_id"] = f"{trace.place.trace_id:032x}"
        if trace.recorded:
            said["span_id"] = f"{trace.place.span_id:016x}"
    return json_line(said)
