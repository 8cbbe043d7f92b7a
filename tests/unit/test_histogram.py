"""Histograms as Prometheus scrapes them: series by labels, sums over many folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from serving.histogram import Histogram

BOUNDS = (0.1, 1.0, 10.0)


def made() -> tuple[Histogram, CollectorRegistry]:
    registry = CollectorRegistry()
    return Histogram("h_seconds", "What it tells.", ("model",), BOUNDS, registry), registry


def test_a_series_is_made_once_and_by_its_labels():
    histogram, registry = made()
    histogram.series("a").add(np.array([0.5]))
    histogram.series("a").add(np.array([0.5, 20.0]))
    histogram.series("b").add(np.array([0.05]))
    value = registry.get_sample_value
    assert value("h_seconds_count", {"model": "a"}) == 3
    assert value("h_seconds_sum", {"model": "a"}) == 21.0
    assert value("h_seconds_bucket", {"model": "a", "le": "0.1"}) == 0
    assert value("h_seconds_bucket", {"model": "a", "le": "1.0"}) == 2
    assert value("h_seconds_bucket", {"model": "a", "le": "+Inf"}) == 3
    assert value("h_seconds_count", {"model": "b"}) == 1


def test_a_histogram_without_values_shows_its_name_and_no_series():
    _, registry = made()
    assert generate_latest(registry).decode().splitlines() == [
        "# HELP h_seconds What it tells.",
        "# TYPE h_seconds histogram",
    ]


def test_a_name_cannot_be_taken_twice():
    _, registry = made()
    with pytest.raises(ValueError, match="h_seconds"):
        Histogram("h_seconds", "Again.", (), BOUNDS, registry)


@given(st.lists(st.lists(st.floats(0, 20), max_size=10), max_size=6))
def test_many_folds_say_what_one_says(parts):
    folded, at_once = made()[0].series("m"), made()[0].series("m")
    for part in parts:
        folded.add(np.asarray(part, dtype=np.float64))
    at_once.add(np.asarray([value for part in parts for value in part], dtype=np.float64))
    (folded_counts, folded_sum), (counts, total) = folded.cumulative(), at_once.cumulative()
    assert folded_counts == counts
    assert folded_sum == pytest.approx(total)
    assert counts == sorted(counts), "each bucket holds those below it"
    assert counts[-1] == sum(map(len, parts))
