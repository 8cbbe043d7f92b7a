"""The gate as a pure decision: measurements in, checks out."""

from __future__ import annotations

import math

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from serving.repository.manifest import Manifest, Metric, Parity
from serving.verdict import Check
from serving.versions.gate import Bars, Findings, judge
from serving.versions.measurements import STEPS, Report, Step

BARS = Bars()
ORDER = (
    "files", "digests", "external_data", "load", "signature", "warm_up", "golden", "batch", "finite", "varied",
    "agreement", "latency", "metric",
)  # fmt: skip
FIGURES = {
    "external_data": {"tensors": 0},
    "load": {"graphs": 1},
    "signature": {"graphs": 1},
    "warm_up": {"rows": 8, "nan": 0, "infinite": 0},
    "golden": {
        "rows": 6,
        "difference": 1e-5,
        "other_top_1": 0,
        "nan": 0,
        "infinite": 0,
        "differing_rows": 6,
        "spread": 0.5,
    },
    "batch": {"difference": 1e-6, "rows": 8},
    "agreement": {"share": 0.9, "rows": 6},
    "latency": {"seconds": 0.010, "stable_seconds": 0.009, "rows": 1, "runs": 31},
}


def manifest(parity: float | None = None, **metrics: Metric) -> Manifest:
    published = (
        Parity(max_abs_difference=0, batch_max_abs_difference=0, tolerance=parity, rows=1, engine="x")
        if parity
        else None
    )
    return Manifest(
        task="classify",
        family="tiny",
        created="now",
        licence=tiny.LICENCE,
        code=tiny.CODE,
        files={"model.onnx": "sha256:0"},
        parity=published,
        metrics=metrics,
    )


def metric(value: float, **fields) -> Metric:
    return Metric(value=value, **fields)


def report(death: str | None = None, until: str | None = None, **changes: Step | dict[str, float]) -> Report:
    """All steps well done but for the changes; `until`: the last one that was told."""
    steps = {}
    for name in STEPS:
        change = changes.get(name, {})
        steps[name] = change if isinstance(change, Step) else Step(name=name, figures=FIGURES.get(name, {}) | change)
        if name == until:
            break
    return Report(steps, death)


def findings(found: Report | None = None, **fields) -> Findings:
    known = {
        "files": 5,
        "files_problem": None,
        "digests_problem": None,
        "report": report() if found is None else found,
        "manifest": manifest(accuracy=metric(0.9)),
        "stable": manifest(accuracy=metric(0.9)),
        "stable_version": 1,
    }
    return Findings(**(known | fields))


def check(name: str, found: Findings, bars: Bars = BARS) -> Check:
    return next(check for check in judge(found, bars) if check.name == name)


def outcomes(found: Findings) -> dict[str, bool | None]:
    return {check.name: check.passed for check in judge(found, BARS)}


def test_a_sound_version_passes_every_check_in_order():
    checks = judge(findings(), BARS)
    assert tuple(check.name for check in checks) == ORDER
    assert all(check.passed for check in checks)


@pytest.mark.parametrize(
    ("name", "changes", "passed", "fragment"),
    [
        ("golden", {"golden": {"difference": 1e-3}}, True, "6 golden rows"),
        ("golden", {"golden": {"difference": 1.1e-3}}, False, "does not give what the trained network gave"),
        ("golden", {"golden": {"difference": math.nan}}, False, "export it again"),
        ("golden", {"golden": {"other_top_1": 1}}, False, "another best label"),
        ("batch", {"batch": {"difference": 1.1e-3}}, False, "rows must not mix"),
        ("batch", {"batch": {"difference": math.nan}}, False, "rows must not mix"),
        ("finite", {"golden": {"nan": 1}}, False, "1 values are NaN"),
        ("finite", {"golden": {"infinite": 2}}, False, "2 are infinite"),
        ("varied", {"golden": {"spread": 0.0}}, False, "answers the same"),
        ("varied", {"golden": {"differing_rows": 1, "spread": 0.0}}, None, "all the same"),
        ("varied", {"golden": {"nan": 1, "spread": 0.0}}, None, "not finite"),
        ("agreement", {"agreement": {"share": 0.5}}, True, "version 1"),
        ("agreement", {"agreement": {"share": 0.49}}, False, "order of the scores"),
        ("latency", {"latency": {"seconds": 0.018}}, True, "18.00 against 9.00 ms"),
        ("latency", {"latency": {"seconds": 0.0181}}, False, "18.10 against 9.00 ms"),
        ("latency", {"latency": {"seconds": 0.0012, "stable_seconds": 0.0003}}, True, "less than 1 ms apart"),
        ("latency", {"latency": {"seconds": 0.0014, "stable_seconds": 0.0003}}, False, "of version 1's time"),
        (
            "agreement",
            {"agreement": Step(name="agreement", skipped="its labels are others")},
            None,
            "labels are others",
        ),
        ("warm_up", {"warm_up": Step(name="warm_up", problem="too slow")}, False, "too slow"),
        ("signature", {"answer": Step(name="answer", problem="3 scores for 2 labels")}, False, "3 scores for 2"),
        ("external_data", {"start": Step(name="start", problem="gone")}, False, "gone"),
    ],
)
def test_each_check_has_its_bar(name, changes, passed, fragment):
    found = check(name, findings(report(**changes)))
    assert found.passed is passed
    assert fragment in found.detail


def test_golden_rows_are_held_to_what_the_version_was_published_with():
    found = findings(manifest=manifest(parity=1e-6, accuracy=metric(0.9)))
    assert check("golden", found).passed is False
    assert check("golden", found).limit == 1e-6


@pytest.mark.parametrize(
    ("mine", "before", "passed", "fragment"),
    [
        ({"accuracy": metric(0.892)}, {"accuracy": metric(0.9)}, True, "against version 1's 0.9"),
        ({"accuracy": metric(0.890)}, {"accuracy": metric(0.9)}, False, "against version 1's 0.9"),
        ({"error": metric(1.009)}, {"error": metric(1.0, higher_is_better=False)}, True, "error"),
        ({"error": metric(1.011)}, {"error": metric(1.0, higher_is_better=False)}, False, "error"),
        ({"accuracy": metric(math.nan)}, {"accuracy": metric(0.9)}, False, "accuracy"),
        ({}, {"accuracy": metric(0.9)}, False, "not stated"),
        ({"accuracy": metric(0.4, floor=0.5)}, {}, False, "misses its floor"),
        ({"accuracy": metric(0.4)}, {}, None, "nothing to compare"),
        ({"a": metric(1), "b": metric(0)}, {"a": metric(1), "b": metric(1)}, False, "b, against"),
    ],
)
def test_metrics_may_be_a_hundredth_worse(mine, before, passed, fragment):
    found = check("metric", findings(manifest=manifest(**mine), stable=manifest(**before)))
    assert found.passed is passed
    assert fragment in found.detail


def test_what_comes_after_a_bad_file_is_not_run():
    found = outcomes(findings(Report(), files_problem="a pickle"))
    assert found == {name: False if name == "files" else None for name in ORDER}
    found = outcomes(findings(Report(), digests_problem="another digest"))
    assert found == {name: {"files": True, "digests": False}.get(name) for name in ORDER}


@pytest.mark.parametrize(
    ("last", "died"),
    [
        (None, "external_data"),
        ("start", "external_data"),
        ("external_data", "load"),
        ("load", "signature"),
        ("stable", "signature"),
        ("signature", "warm_up"),
        ("warm_up", "warm_up"),
        ("answer", "golden"),
        ("golden", "batch"),
        ("batch", "agreement"),
        ("agreement", "latency"),
        ("latency", "latency"),
    ],
)
def test_a_death_is_the_fault_of_the_step_it_came_in(last, died):
    told = Report({}, "SIGSEGV") if last is None else report("SIGSEGV", until=last)
    failed = [check for check in judge(findings(told), BARS) if check.passed is False]
    assert [check.name for check in failed] == [died]
    assert failed[0].detail == "SIGSEGV"


def test_a_child_that_told_nothing_is_no_consent():
    assert check("external_data", findings(Report())).passed is False
    found = report(external_data=Step(name="external_data"), until="external_data")
    found = Report({**found.steps, "external_data": Step(name="external_data", figures={"tensors": 0})})
    assert check("load", findings(found)).passed is False


def test_a_plain_model_has_no_digests_to_compare():
    found = judge(findings(manifest=None, stable=None), BARS)
    assert [check.name for check in found if check.passed is None] == ["digests", "metric"]


def test_what_was_measured_before_says_when():
    found = judge(findings(age_s=40.4), BARS)
    assert all("(vetted 40 s ago)" in check.detail for check in found[2:12])
    assert not any("vetted" in check.detail for check in (*found[:2], found[12]))


ANY_FIGURE = st.floats(allow_nan=True, allow_infinity=True)
ANY_STEP = st.one_of(
    st.none(),
    st.builds(lambda words: {"problem": words}, st.text(min_size=1, max_size=5)),
    st.builds(lambda words: {"skipped": words}, st.text(min_size=1, max_size=5)),
    st.just({}),
)


@given(
    steps=st.fixed_dictionaries(dict.fromkeys(STEPS, ANY_STEP)),
    golden=st.fixed_dictionaries(dict.fromkeys(FIGURES["golden"], ANY_FIGURE)),
    death=st.one_of(st.none(), st.just("SIGABRT")),
    problems=st.tuples(st.booleans(), st.booleans()),
)
def test_nothing_passes_that_did_not_show_that_it_loads_and_fits(steps, golden, death, problems):
    told = {}
    for name, fields in steps.items():
        if fields is not None:
            figures = golden if name == "golden" else FIGURES.get(name, {})
            told[name] = Step(name=name, figures=figures, **fields)
    found = findings(
        Report(told, death), files_problem="x" if problems[0] else None, digests_problem="y" if problems[1] else None
    )
    checks = judge(found, BARS)
    assert tuple(check.name for check in checks) == ORDER
    assert all(check.detail for check in checks if check.passed is not True)
    if any(check.passed is False for check in checks):
        return
    shown = {check.name for check in checks if check.passed}
    assert shown >= {"files", "digests", "external_data", "load", "signature"}
    assert not any(problems)
    assert death is None
    if {"golden"} & shown:
        assert golden["difference"] <= BARS.golden_tolerance


@given(mine=st.floats(1e-6, 10), theirs=st.floats(1e-6, 10))
def test_latency_fails_only_above_twice(mine, theirs):
    found = check("latency", findings(report(latency={"seconds": mine, "stable_seconds": theirs})))
    assert found.passed is (mine <= 2 * theirs or mine - theirs <= BARS.latency_slack_s or mine / theirs <= 2)
