"""The verdict: a pure function over a table of results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.outcome import Made, Outcome, Recording, read_recording, write_recording
from loadtests.slo import Slo, Told
from loadtests.summary import ALL, codes, late_p99_s, percentile, table
from loadtests.verdict import GREEN, INVALID, RED, judge

SLO = Slo(default=Told(p99_ms=100, error_rate=0.01, goodput=0.98, requests=10))


def one(i: int = 0, latency_s: float = 0.01, **fields) -> Outcome:
    given_fields = {"task": "classify", "model": "m", "version": 1, "status": 200, **fields}
    return Outcome(due_s=i / 10, late_s=0.0, latency_s=latency_s, **given_fields)


def outcomes(count: int, **fields) -> list[Outcome]:
    return [one(i, **fields) for i in range(count)]


def verdict_of(given_outcomes, changes=(), slo=SLO, told=None):
    rows = table(given_outcomes, 10.0, slo, told)
    return judge(rows, changes, late_p99_s(given_outcomes), 0.05)


@pytest.mark.parametrize(
    ("given_outcomes", "code", "said"),
    [
        (outcomes(100), GREEN, "GREEN"),
        (outcomes(98) + outcomes(2, latency_s=0.2), RED, "classify m/1: p99"),
        (outcomes(99) + outcomes(1, latency_s=0.2), GREEN, "GREEN"),
        (outcomes(98) + outcomes(2, status=503, version=0, code="queue_full"), RED, "all: error rate"),
        (outcomes(99) + outcomes(1, status=503, version=0, code="queue_full"), GREEN, "GREEN"),
        (outcomes(50) + outcomes(50, version=2, latency_s=0.2), RED, "classify m/2: p99"),
        (outcomes(100) + outcomes(20, model="n", latency_s=0.2), RED, "classify n/1: p99"),
        (outcomes(100) + outcomes(9, task="detect", latency_s=0.2), GREEN, "GREEN"),  # too few to judge
        ([], INVALID, "nothing was sent"),
        (outcomes(9), INVALID, "too few requests"),
        ([replace(some, late_s=0.06) for some in outcomes(100)], INVALID, "could not keep up"),
    ],
)
def test_verdicts(given_outcomes, code, said):
    verdict = verdict_of(given_outcomes)
    assert verdict.exit_code == code
    assert said in verdict.sentence
    assert verdict.passed == (code == GREEN)


def test_an_answer_too_late_is_no_goodput():
    slo = Slo(default=Told(p99_ms=100, goodput=0.999, error_rate=1, requests=10))
    assert "classify m/1: goodput" in verdict_of(outcomes(99) + outcomes(1, latency_s=0.2), slo=slo).sentence


def test_a_scenario_may_allow_no_error_at_all():
    given_outcomes = outcomes(999) + outcomes(1, status=503, version=0, code="queue_full")
    assert verdict_of(given_outcomes).passed
    assert not verdict_of(given_outcomes, told=Told(error_rate=0)).passed


PROMOTED = Made(1.0, 0.5, "promote", "m", 2)


@pytest.mark.parametrize(
    ("made", "versions", "passed"),
    [
        (PROMOTED, (1, 2), True),
        (PROMOTED, (2,), True),
        (PROMOTED, (1,), False),  # it went live, and nobody met it
        (replace(PROMOTED, refused="The gate says no."), (1, 2), False),
        (Made(2.0, 0.1, "rollback", "m"), (1,), True),
    ],
)
def test_changes_are_carried_out_and_seen(made, versions, passed):
    given_outcomes = [some for version in versions for some in outcomes(50, version=version)]
    assert verdict_of(given_outcomes, [made]).passed == passed


def test_rows_are_of_all_tasks_models_and_versions():
    given_outcomes = outcomes(5) + outcomes(5, version=2) + outcomes(5, model="n") + outcomes(5, task="detect")
    given_outcomes += outcomes(1, model="n", version=0, code="queue_full")
    rows = {row.name: row.due for row in table(given_outcomes, 10.0, SLO)}
    assert rows == {
        ALL: 21,
        "classify": 16,
        "classify m": 10,
        "classify m/1": 5,
        "classify m/2": 5,
        "classify n": 6,
        "classify n/1": 5,
        "detect m/1": 5,
    }


latencies = st.lists(st.floats(0.001, 1), min_size=1, max_size=300)


@given(latencies, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_values_that_were_met(values, share):
    found = percentile(sorted(values), share)
    assert found == np.percentile(values, share * 100, method="inverted_cdf")


@given(latencies, st.floats(1, 5), st.integers(0, 20))
def test_nothing_gets_better_by_slower_answers_or_more_errors(values, times, errors):
    before = [one(i, latency_s) for i, latency_s in enumerate(values)]
    after = [one(i, latency_s * times) for i, latency_s in enumerate(values)]
    after += outcomes(errors, status=503, version=1, code="queue_full")
    if verdict_of(after).exit_code == GREEN and len(values) >= 10:
        assert verdict_of(before).exit_code == GREEN


def test_errors_are_counted_by_code():
    given_outcomes = outcomes(3) + outcomes(1, code="broken") + outcomes(2, code="queue_full")
    assert list(codes(given_outcomes).items()) == [("queue_full", 2), ("broken", 1)]


def test_a_recording_is_read_as_it_was_written(tmp_path):
    recording = Recording("http://x", "t", 3.0, outcomes(3, code="queue_full"), [PROMOTED], {"a": 1})
    write_recording(tmp_path / "r.jsonl", recording)
    assert read_recording(tmp_path / "r.jsonl") == recording
    (tmp_path / "other.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(ValueError, match="no recording"):
        read_recording(tmp_path / "other.jsonl")
