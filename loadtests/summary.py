"""What requests add up to, as a table: one row for all, for each task, each model, and each of its versions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from loadtests.outcome import Outcome
from loadtests.slo import Promise, Slo, Told

ALL = "all"
K = TypeVar("K", str, int)


@dataclass(frozen=True, slots=True)
class Row:
    """Requests that belong together. model empty: all of the task; version 0: all of the model; task ALL: everything.

    due: how many were to be sent; good: answered within what `promise` allows. Percentiles are of what was answered,
    0 where nothing was. seconds: how long load was offered.
    """

    task: str
    model: str
    version: int
    promise: Promise
    seconds: float
    due: int
    answered: int
    good: int
    p50_s: float
    p90_s: float
    p99_s: float

    @property
    def name(self) -> str:
        return self.task + (f" {self.model}" if self.model else "") + (f"/{self.version}" if self.version else "")

    @property
    def error_rate(self) -> float:
        return (self.due - self.answered) / self.due if self.due else 0.0

    @property
    def goodput(self) -> float:
        """The share of what was due."""
        return self.good / self.due if self.due else 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share is not above; of few values that is the largest. 0 of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def table(outcomes: Sequence[Outcome], seconds: float, slo: Slo, scenario: Told | None = None) -> list[Row]:
    """The rows, from all to each version; goodput counts by each request's own promise.

    A task with one model has no row for itself, nor a model of which one version answered everything.
    """
    allowed: dict[tuple[str, str], Promise] = {}
    for one in outcomes:
        key = one.task, one.model
        if key not in allowed:
            allowed[key] = slo.promise(*key, scenario)

    def row(task: str, model: str, version: int, promise: Promise, group: Sequence[Outcome]) -> Row:
        latencies = sorted(one.latency_s for one in group if one.answered)
        good = sum(one.answered and one.latency_s <= allowed[one.task, one.model].p99_s for one in group)
        p50_s, p90_s, p99_s = (percentile(latencies, share) for share in (0.5, 0.9, 0.99))
        return Row(task, model, version, promise, seconds, len(group), len(latencies), good, p50_s, p90_s, p99_s)

    longest = max(allowed.values(), key=lambda promise: promise.p99_s, default=slo.promise("", "", scenario))
    rows = [row(ALL, "", 0, longest, outcomes)]
    for task, of_task in _grouped(outcomes, lambda one: one.task).items():
        models = _grouped(of_task, lambda one: one.model)
        slowest = max((allowed[task, model] for model in models), key=lambda promise: promise.p99_s)
        if len(models) > 1:
            rows.append(row(task, "", 0, slowest, of_task))
        for model, of_model in models.items():
            versions = _grouped([one for one in of_model if one.version], lambda one: one.version)
            if [len(some) for some in versions.values()] != [len(of_model)]:
                rows.append(row(task, model, 0, allowed[task, model], of_model))
            rows += [row(task, model, number, allowed[task, model], some) for number, some in versions.items()]
    return rows


def codes(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """Why requests were not answered: code -> how many, the most frequent first."""
    return dict(Counter(one.code for one in outcomes if one.code).most_common())


def late_p99_s(outcomes: Sequence[Outcome]) -> float:
    """How late the generator sent."""
    return percentile(sorted(one.late_s for one in outcomes), 0.99)


def _grouped(outcomes: Sequence[Outcome], key: Callable[[Outcome], K]) -> dict[K, list[Outcome]]:
    groups: dict[K, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(key(one), []).append(one)
    return dict(sorted(groups.items()))
