"""The meters that dashboards and alerts are written against: names, labels, and what does not mix."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.telemetry import FOLD_AT, Meters, Stages

# Dashboards, alerts and the guard read these: a change here is a change for them.
NAMES = {
    "tidegate_requests": {"model", "version", "task", "code"},
    "tidegate_request_duration_seconds": {"model", "version", "task", "le"},
    "tidegate_stage_duration_seconds": {"model", "version", "task", "stage", "le"},
    "tidegate_batch_rows": {"graph", "version", "le"},
    "tidegate_batches": {"graph", "version", "reason"},
    "tidegate_waiting_rows": {"graph", "version"},
    "tidegate_http_responses": {"route", "status"},
    "tidegate_access_refusals": {"code"},
    "tidegate_in_flight_requests": set(),
    "tidegate_model_ready": {"model", "version"},
    "tidegate_shadow_requests": {"model", "version", "outcome"},
    "tidegate_shadow_agreement": {"model", "version"},
    "tidegate_jobs": {"state"},
    "tidegate_job_queue_age_seconds": set(),
    "tidegate_jobs_accepted": set(),
    "tidegate_job_attempts": {"attempt"},
    "tidegate_job_ends": {"outcome"},
    "tidegate_ledger_connected": set(),
    "tidegate_ledger_revision": set(),
    "tidegate_loads": {"model", "outcome"},
    "tidegate_load_duration_seconds": {"le"},
    "tidegate_model_memory_bytes": {"model", "version"},
}
# The client library's own, of any process.
PROCESS = {
    *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds"),
    *("process_cpu_seconds", "process_open_fds", "process_max_fds", "python_info"),
}


def labels_by_name(meters: Meters) -> dict[str, set[str]]:
    families = text_string_to_metric_families(meters.exposition().decode())
    return {family.name: {label for sample in family.samples for label in sample.labels} for family in families}


def test_names_and_labels_are_those_that_are_read():
    meters = Meters()
    meter = meters.request_meter("m", 1, "classify")
    meter.answered(0.1, Stages())
    meter.failed("queue_full")
    meters.batch_cut("m", 1, 2, "free", 0)
    meters.responses.labels("/v1/models", "200").inc()
    meters.access_refusals.labels("forbidden").inc()
    meters.model_ready.labels("m", "1").set(1)
    meters.shadow("m", 2, "compared", 0.5)
    meters.jobs_stand(1, 2, 3.0)
    meters.job_attempts.labels("1").inc()
    meters.job_ends.labels("succeeded").inc()
    with meters.loads.timed("m"):
        pass
    meters.loads.taken("m", 1, 100)
    found = labels_by_name(meters)
    assert found.keys() - NAMES.keys() == PROCESS
    assert {name: labels for name, labels in found.items() if name in NAMES} == NAMES


def test_gateways_in_one_process_count_apart():
    one, other = Meters(), Meters()
    one.request_meter("m", 1, "classify").failed("busy")
    assert b'code="busy"' in one.exposition()
    assert b'code="busy"' not in other.exposition()


@pytest.mark.parametrize(
    "other",
    [("n", 1, "classify"), ("m", 2, "classify"), ("m", 1, "detect")],
    ids=["another model", "another version", "another task"],
)
def test_models_versions_and_tasks_are_counted_apart(other):
    meters = Meters()
    first, second = meters.request_meter("m", 1, "classify"), meters.request_meter(*other)
    assert first is not second
    first.answered(1.0, Stages())
    meters.exposition()
    model, version, task = other
    labels = {"model": model, "version": str(version), "task": task, "code": "ok"}
    assert meters.registry.get_sample_value("tidegate_requests_total", labels) == 0


def test_answers_are_counted_when_enough_wait_and_once_only():
    meters = Meters()
    meter = meters.request_meter("m", 1, "classify")
    labels = {"model": "m", "version": "1", "task": "classify", "code": "ok"}
    for _ in range(FOLD_AT - 1):
        meter.answered(0.1, Stages())
    assert meters.registry.get_sample_value("tidegate_requests_total", labels) == 0
    meter.answered(0.1, Stages())
    assert meters.registry.get_sample_value("tidegate_requests_total", labels) == FOLD_AT
    meters.exposition()
    assert meters.registry.get_sample_value("tidegate_requests_total", labels) == FOLD_AT


def test_what_nobody_asks_takes_next_to_no_series():
    """A version has some seventy of them once it answers, and a repository has many that never do."""
    meters = Meters()
    before = meters.exposition()
    meters.request_meter("m", 1, "classify")
    more = set(meters.exposition().splitlines()) - set(before.splitlines())
    assert [line for line in more if b'model="m"' in line] == [
        b'tidegate_requests_total{code="ok",model="m",task="classify",version="1"} 0.0'
    ]
    meters.request_meter("m", 1, "classify").answered(0.1, Stages())
    assert meters.exposition().count(b'model="m"') <= 70


def test_a_batch_is_counted_where_its_rows_lie():
    meters = Meters()
    meters.batch_cut("m", 1, 4, "full", 7)
    value, labels = meters.registry.get_sample_value, {"graph": "m", "version": "1"}
    assert value("tidegate_batch_rows_bucket", {**labels, "le": "4.0"}) == 1
    assert value("tidegate_batch_rows_bucket", {**labels, "le": "2.0"}) == 0
    assert value("tidegate_waiting_rows", labels) == 7
