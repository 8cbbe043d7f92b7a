"""Drift as Prometheus sees it: gauges of the versions that are loaded, computed when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.observation.seen_version import SeenVersion

FRESH_S: Final = 1.0  # figures are computed no oftener

_BY_FEATURE: Final = (
    ("psi", "Population stability index of a feature of the latest requests or replies against the reference."),
    ("js", "Jensen-Shannon divergence of the same, in bits."),
    ("ks", "Kolmogorov-Smirnov distance of the same, at the edges of the reference's bins."),
    ("threshold", "The PSI above which it is an alert."),
    ("alert", "1 where the PSI is above its threshold."),
)


class DriftMeters(Collector):
    """watched: gives the versions; all is called on the event loop, scrapes too."""

    def __init__(self, watched: Callable[[], list[SeenVersion]], clock: Callable[[], float]) -> None:
        self._watched, self._clock = watched, clock
        self._families: list[GaugeMetricFamily] = []
        self._then_s = float("-inf")

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return _families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now_s = self._clock()
        if now_s - self._then_s >= FRESH_S:
            self._families, self._then_s = _filled(self._watched(), now_s), now_s
        return self._families


def _families() -> list[GaugeMetricFamily]:
    labels = ("model", "version", "feature")
    rows = "Requests that drift is judged by: the latest of those that were looked at."
    return [
        *(GaugeMetricFamily(f"tidegate_drift_{name}", text, labels=labels) for name, text in _BY_FEATURE),
        GaugeMetricFamily("tidegate_drift_window_requests", rows, labels=labels[:2]),
    ]


def _filled(watched: list[SeenVersion], now_s: float) -> list[GaugeMetricFamily]:
    families = _families()
    *by_feature, rows = families
    for one in watched:
        labels = (one.model, str(one.number))
        if not one.seen:
            continue
        rows.add_metric(labels, one.window_rows(now_s))
        for feature, judged in one.judged(now_s).items():
            if judged.finding is None:
                continue
            for family, (name, _) in zip(by_feature, _BY_FEATURE, strict=True):
                value = getattr(judged.finding, name)
                if value is not None:
                    family.add_metric((*labels, feature), float(value))
    return families
