"""The meters: Prometheus names and labels, all in one place.

Labels come from closed sets only: models and versions that were loaded, verbs of tasks, codes of errors.py, stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from serving import trial
from serving.histogram import Histogram, Series
from serving.load_meters import LoadMeters

# From a tiny model's tenth of a millisecond to a minute.
SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
STAGE_SECONDS: Final = (0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0)  # coarser: there are four of each version
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OK: Final = "ok"
JOB_ENDS: Final = ("succeeded", "failed", "cancelled", "job_poisoned", "lost")
FOLD_AT: Final = 256  # requests; counting them takes a tenth of a millisecond


@dataclass(slots=True)
class Stages:
    """Where the seconds of one request went. They travel with the reply, as Server-Timing."""

    queue_s: float = 0.0
    pre_s: float = 0.0
    run_s: float = 0.0
    post_s: float = 0.0

    def add(self, other: Stages) -> None:
        """Counts another part of the same request in."""
        self.queue_s += other.queue_s
        self.pre_s += other.pre_s
        self.run_s += other.run_s
        self.post_s += other.post_s


class RequestMeter:
    """The meters of one model, version and task, looked up once when the version is loaded."""

    def __init__(self, meters: Meters, model: str, version: int, task: str) -> None:
        labels = (model, str(version), task)
        self._requests = meters.requests
        self._labels = labels
        self._ok = meters.requests.labels(*labels, OK)
        self._columns = [
            meters.duration.series(*labels),
            *(meters.stage.series(*labels, stage) for stage in ("queue", "pre", "run", "post")),
        ]
        self._pending: list[tuple[float, ...]] = []
        self._fine = Series(np.asarray(trial.SECONDS))
        self.faults = 0  # requests that failed and whose callers are not to blame

    def answered(self, duration_s: float, stages: Stages) -> None:
        """One request, from routing to reply."""
        self._pending.append((duration_s, stages.queue_s, stages.pre_s, stages.run_s, stages.post_s))
        if len(self._pending) >= FOLD_AT:
            self.fold()

    def failed(self, code: str, *, fault: bool = False) -> None:
        """`code`: of the error's class, or `caller_left`. fault: the caller is not to blame."""
        self._requests.labels(*self._labels, code).inc()
        self.faults += fault

    def seconds(self) -> tuple[int, ...]:
        """Answered requests by the bounds of trial.SECONDS, one more for what lies above them."""
        self.fold()
        return self._fine.counts()

    def fold(self) -> None:
        """Counts what waits to be counted."""
        if not self._pending:
            return
        pending = np.asarray(self._pending, dtype=np.float64)
        self._pending.clear()
        self._ok.inc(len(pending))
        self._fine.add(pending[:, 0])
        for series, values in zip(self._columns, pending.T, strict=True):
            series.add(values)


class Meters:
    """All meters of one gateway, in a registry of its own so that several can live in one process."""

    def __init__(self) -> None:
        # When a counter began nobody asks, and it would be a second series for each.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.loads = LoadMeters(self.registry)
        self._request_meters: dict[tuple[str, int, str], RequestMeter] = {}
        labels = ("model", "version", "task")
        self.requests = Counter(
            "tidegate_requests", "Requests that reached a model, by outcome.", (*labels, "code"), registry=self.registry
        )
        self.duration = Histogram(
            "tidegate_request_duration_seconds",
            "Answered requests, from routing to reply.",
            labels,
            SECONDS,
            self.registry,
        )
        self.stage = Histogram(
            "tidegate_stage_duration_seconds",
            "Answered requests, by stage: queue, pre, run, post.",
            (*labels, "stage"),
            STAGE_SECONDS,
            self.registry,
        )
        self.batch_rows = Histogram(
            "tidegate_batch_rows",
            "Rows that ran together.",
            ("graph", "version"),
            ROWS,
            self.registry,
        )
        self.batches = Counter(
            "tidegate_batches",
            "Batches, by why each was cut: full, preferred, delay, deadline, free.",
            ("graph", "version", "reason"),
            registry=self.registry,
        )
        self.waiting_rows = Gauge(
            "tidegate_waiting_rows",
            "Rows left waiting when the last batch was cut.",
            ("graph", "version"),
            registry=self.registry,
        )
        self.responses = Counter(
            "tidegate_http_responses",
            "Answers by route and status: of HTTP by path and number, of gRPC by method and name.",
            ("route", "status"),
            registry=self.registry,
        )
        self.access_refusals = Counter(
            "tidegate_access_refusals", "Requests refused over their key, by code.", ("code",), registry=self.registry
        )
        self.in_flight = Gauge("tidegate_in_flight_requests", "Requests being answered now.", registry=self.registry)
        self.model_ready = Gauge(
            "tidegate_model_ready", "1 while the version can answer.", ("model", "version"), registry=self.registry
        )

        self.shadows = Counter(
            "tidegate_shadow_requests",
            "Copies for a version on trial, by outcome: compared, failed, passed_by; of the one beside it: control_*",
            ("model", "version", "outcome"),
            registry=self.registry,
        )
        self.shadow_agreement = Counter(
            "tidegate_shadow_agreement",
            "Sum of the agreement, 0 to 1, of the copies that were compared.",
            ("model", "version"),
            registry=self.registry,
        )
        self.jobs = Gauge(
            "tidegate_jobs",
            "Jobs of all gateways that have no end yet: queued, running.",
            ("state",),
            registry=self.registry,
        )
        self.job_queue_age = Gauge(
            "tidegate_job_queue_age_seconds",
            "How long the oldest job waits that could be begun.",
            registry=self.registry,
        )
        self.jobs_accepted = Counter("tidegate_jobs_accepted", "Jobs that were made here.", registry=self.registry)
        self.job_attempts = Counter(
            "tidegate_job_attempts",
            "Jobs begun here, by which time it was; after the first one a gateway was lost over the job.",
            ("attempt",),
            registry=self.registry,
        )
        self.job_ends = Counter(
            "tidegate_job_ends",
            "Jobs that ended here: succeeded, failed, cancelled, job_poisoned; lost while it ran.",
            ("outcome",),
            registry=self.registry,
        )
        for outcome in JOB_ENDS:  # there from the first scrape on: an increase from nothing is none
            self.job_ends.labels(outcome)
        self.ledger_connected = Gauge(
            "tidegate_ledger_connected", "1 while pointers can be changed.", registry=self.registry
        )
        self.ledger_revision = Gauge(
            "tidegate_ledger_revision",
            "The revision of the pointers that this gateway follows.",
            registry=self.registry,
        )

    def shadow(self, model: str, version: int, outcome: str, agreement: float = 0.0) -> None:
        """One copy for a version on trial, or one for the version beside it, a control."""
        self.shadows.labels(model, str(version), outcome).inc()
        if outcome == "compared":
            self.shadow_agreement.labels(model, str(version)).inc(agreement)

    def jobs_stand(self, queued: int, running: int, oldest_s: float) -> None:
        """How many jobs there are, as a look at their store showed."""
        self.jobs.labels("queued").set(queued)
        self.jobs.labels("running").set(running)
        self.job_queue_age.set(oldest_s)

    def request_meter(self, model: str, version: int, task: str) -> RequestMeter:
        """Meters for a version that was loaded; those of an earlier load of it go on."""
        key = (model, version, task)
        if key not in self._request_meters:
            self._request_meters[key] = RequestMeter(self, model, version, task)
        return self._request_meters[key]

    def batch_cut(self, graph: str, version: int, rows: int, reason: str, waiting_rows: int) -> None:
        """One batch of `rows` was started."""
        labels = (graph, str(version))
        self.batch_rows.series(*labels).add(np.asarray([rows], dtype=np.float64))
        self.batches.labels(*labels, reason).inc()
        self.waiting_rows.labels(*labels).set(waiting_rows)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        for meter in self._request_meters.values():
            meter.fold()
        return generate_latest(self.registry)
