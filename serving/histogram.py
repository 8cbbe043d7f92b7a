"""Histograms for Prometheus that are cheap to feed: values wait in a list and are counted many at a time.

prometheus_client's own Histogram takes a lock and walks its buckets for each value, some microseconds each; a request
has five. Here a value costs a list's append. All is called from the event loop, scrapes too, so nothing is locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from serving.tensors import Array


class Series:
    """The values of one set of labels: how many fell into each bucket, and their sum."""

    def __init__(self, bounds: Array) -> None:
        self._bounds = bounds
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)  # the last is what lies above all bounds
        self._sum = 0.0

    def add(self, values: Array) -> None:
        """Counts float64 [n]. A value that equals a bound lies within it, as Prometheus has it."""
        places = np.searchsorted(self._bounds, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(values.sum())

    def counts(self) -> tuple[int, ...]:
        """How many fell under each bound and not under the one before; the last lie above all."""
        return tuple(self._counts.tolist())

    def cumulative(self) -> tuple[list[int], float]:
        """How many values lie within each bound, the last being all, and the sum of all."""
        counts: list[int] = np.cumsum(self._counts).tolist()
        return counts, self._sum


class Histogram(Collector):
    """A family of series, registered."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = np.asarray(bounds, dtype=np.float64)
        self._texts = [*map(floatToGoString, bounds), "+Inf"]
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def series(self, *labels: str) -> Series:
        """The series of these label values, made when it is first asked for."""
        return self._series.setdefault(labels, Series(self._bounds))

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in self._series.items():
            counts, total = series.cumulative()
            if not counts[-1]:
                continue  # of a model that nobody asks they would be a hundred series of noughts
            buckets: list[tuple[str, float]] = list(zip(self._texts, map(float, counts), strict=True))
            family.add_metric(labels, buckets=buckets, sum_value=total)
        return [family]
