"""Which requests are logged: by share and by second, so that nobody's lines crowd out others'."""

from __future__ import annotations

import json
import os

import pytest
from prometheus_client import CollectorRegistry

from serving.log_lines import Lines
from serving.observation.ended import ANSWERED, FAILED, REFUSED, Ended, method_of, outcome_of
from serving.observation.request_log import RequestLog, line_of
from serving.telemetry import Stages
from serving.trace import Trace, first_place

ENDED = Ended("http", "POST", "/v1/classify", 200, "an-id", 10.0, 10.25, "", "colours", 3, Stages(0.1, 0.2, 0.3, 0.4))


@pytest.fixture
def lines():
    null = os.open(os.devnull, os.O_WRONLY)
    lines = Lines(null)
    yield lines
    lines.close()
    os.close(null)


def outcomes(log: RequestLog) -> dict[str, float]:
    registry = CollectorRegistry()
    log.register(registry)
    return {one.labels["outcome"]: one.value for family in registry.collect() for one in family.samples}


def test_each_outcome_has_its_own_so_many_a_second(lines):
    log = RequestLog(lines, 1.0, 3)
    wanted = {outcome: sum(log.wants("/x", 5.0, outcome) for _ in range(10)) for outcome in (ANSWERED, REFUSED, FAILED)}
    assert wanted == {ANSWERED: 3, REFUSED: 3, FAILED: 3}
    assert not log.wants("/x", 5.9, FAILED)
    assert log.wants("/x", 6.0, FAILED)
    assert outcomes(log) == {"written": 0, "left_out": 22, "dropped": 0}


def test_a_share_is_of_what_did_not_fail(lines):
    log = RequestLog(lines, 0.25, 100_000)
    wanted = {outcome: sum(log.wants("/x", 5.0, outcome) for _ in range(4000)) for outcome in (ANSWERED, FAILED)}
    assert 800 < wanted[ANSWERED] < 1200
    assert wanted[FAILED] == 4000


def test_probes_are_told_of_only_when_they_fail(lines):
    log = RequestLog(lines, 1.0, 10)
    assert not log.wants("/readyz", 5.0, ANSWERED)
    assert log.wants("/readyz", 5.0, FAILED)
    assert outcomes(log)["left_out"] == 0


@pytest.mark.parametrize(("share", "per_s"), [(0.0, 100), (1.0, 0)])
def test_it_can_be_switched_off(lines, share, per_s):
    log = RequestLog(lines, share, per_s)
    assert not log.wants("/x", 5.0, FAILED)
    assert outcomes(log) == {"written": 0, "left_out": 0, "dropped": 0}


def test_what_is_written_and_what_cannot_be_is_counted(lines):
    log = RequestLog(lines, 1.0, 10)
    log.write(ENDED, None)
    lines.close()
    log.write(ENDED, None)
    assert outcomes(log) == {"written": 1, "left_out": 0, "dropped": 1}


def test_a_line_has_what_applies_and_nothing_else():
    trace = Trace(first_place())
    assert json.loads(line_of(ENDED, trace, 0.0)) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "logger": "request",
        "request_id": "an-id",
        "transport": "http",
        "method": "POST",
        "route": "/v1/classify",
        "status": 200,
        "model": "colours",
        "version": 3,
        "duration_s": 0.25,
        "queue_s": 0.1,
        "pre_s": 0.2,
        "run_s": 0.3,
        "post_s": 0.4,
        "trace_id": f"{trace.place.trace_id:032x}",
        "span_id": f"{trace.place.span_id:016x}",
    }
    refused = Ended("grpc", "ModelInfer", "ModelInfer", "UNAVAILABLE", "an-id", 1.0, 2.0, "busy")
    said = json.loads(line_of(refused, Trace(first_place(), recorded=False), 0.0))
    assert (said["level"], said["code"]) == ("error", "busy")
    assert said.keys().isdisjoint({"model", "version", "queue_s", "span_id"})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, ANSWERED), (302, ANSWERED), (404, REFUSED), (499, REFUSED), (500, FAILED), (503, FAILED), (0, ANSWERED),
        ("OK", ANSWERED), ("INVALID_ARGUMENT", REFUSED), ("CANCELLED", REFUSED), ("INTERNAL", FAILED),
        ("UNAVAILABLE", FAILED), ("DEADLINE_EXCEEDED", FAILED),
    ],
)  # fmt: skip
def test_whose_fault_a_status_is(status, outcome):
    assert outcome_of(status) == outcome


def test_methods_that_callers_make_up_have_one_name():
    assert [method_of(name) for name in ("GET", "get", "BREW", "X" * 100)] == ["GET", "_OTHER", "_OTHER", "_OTHER"]
