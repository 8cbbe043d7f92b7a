"""Plugins, tensors and meters: small parts that much is built on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Reference

from serving import plugins
from serving.errors import NotFound
from serving.histogram import Histogram
from serving.telemetry import FOLD_AT, SECONDS, Meters, Stages
from serving.tensors import DTYPES, concatenate, datatype, row_count, rows


def test_plugins_are_the_files_of_a_folder():
    assert plugins.names("serving.engines") == ("fake", "onnx", "triton")
    assert plugins.find("serving.engines", "fake", "PLUGIN").__name__ == "FakeEngine"


@pytest.mark.parametrize("name", ["nope", "../errors", "__init__", "", "onnx.OnnxEngine"])
def test_an_unknown_plugin_lists_those_that_exist(name):
    with pytest.raises(NotFound) as caught:
        plugins.find("serving.engines", name, "PLUGIN")
    assert caught.value.remedy == "There are: fake, onnx, triton."


def test_every_type_has_one_name():
    assert {datatype(dtype) for dtype in DTYPES.values()} == set(DTYPES)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_what_is_joined_comes_apart_again(sizes):
    parts = [{"x": np.full((n, 2), i), "y": np.full((n,), -i)} for i, n in enumerate(sizes)]
    joined = concatenate(parts)
    assert row_count(joined) == sum(sizes)
    start = 0
    for part, n in zip(parts, sizes, strict=True):
        back = rows(joined, start, start + n)
        assert all((back[name] == part[name]).all() for name in part)
        start += n
    assert row_count({}) == 0


@given(st.lists(st.floats(0, 120), max_size=50))
def test_histograms_say_what_prometheus_clients_own_say(values):
    """But of series without a value, of which ours say nothing."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("h_seconds", "What.", ("model",), SECONDS, ours)
    reference = Reference("h_seconds", "What.", ("model",), buckets=SECONDS, registry=theirs)
    mine.series("m").add(np.asarray(values, dtype=np.float64))
    for value in values:
        reference.labels("m").observe(value)
    expected = {
        sample.name + str(sample.labels): sample.value for family in theirs.collect() for sample in family.samples
    }
    found = {sample.name + str(sample.labels): sample.value for family in ours.collect() for sample in family.samples}
    expected = {name: value for name, value in expected.items() if not name.startswith("h_seconds_created")}
    assert found == pytest.approx(expected)
    assert b"# TYPE h_seconds histogram" in generate_latest(ours)


def test_values_on_a_bound_lie_within_it():
    histogram = Histogram("h", "What.", (), (1.0, 2.0), CollectorRegistry())
    series = histogram.series()
    series.add(np.array([1.0, 2.0, 2.5]))
    assert series.cumulative() == ([1, 2, 3], 5.5)


def sample(meters: Meters, name: str, **labels: str) -> float | None:
    labels = {"model": "m", "version": "1", "task": "classify", **labels}
    return meters.registry.get_sample_value(name, labels)


@pytest.mark.parametrize("count", [1, FOLD_AT, FOLD_AT + 3])
def test_every_answer_is_in_the_exposition(count):
    meters = Meters()
    meter = meters.request_meter("m", 1, "classify")
    for _ in range(count):
        meter.answered(0.5, Stages(0.1, 0.2, 0.3, 0.4))
    meter.failed("queue_full")
    assert b"tidegate_request_duration_seconds_bucket" in meters.exposition()
    assert sample(meters, "tidegate_requests_total", code="ok") == count
    assert sample(meters, "tidegate_requests_total", code="queue_full") == 1
    assert sample(meters, "tidegate_request_duration_seconds_sum") == pytest.approx(0.5 * count)
    for stage, seconds in (("queue", 0.1), ("pre", 0.2), ("run", 0.3), ("post", 0.4)):
        assert sample(meters, "tidegate_stage_duration_seconds_sum", stage=stage) == pytest.approx(seconds * count)


def test_a_version_that_is_loaded_again_goes_on_counting():
    meters = Meters()
    meters.request_meter("m", 1, "classify").answered(1, Stages())
    meters.request_meter("m", 1, "classify").answered(1, Stages())
    meters.exposition()
    assert sample(meters, "tidegate_requests_total", code="ok") == 2


def test_batches_are_counted_by_reason():
    meters = Meters()
    meters.batch_cut("g", 1, 3, "free", 2)
    meters.batch_cut("g", 1, 4, "full", 0)
    value = meters.registry.get_sample_value
    assert value("tidegate_batch_rows_sum", {"graph": "g", "version": "1"}) == 7
    assert value("tidegate_batches_total", {"graph": "g", "version": "1", "reason": "full"}) == 1
    assert value("tidegate_waiting_rows", {"graph": "g", "version": "1"}) == 0
