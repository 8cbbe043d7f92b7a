"""May a version go live? A pure decision: measurements in, checks out.

files > digests > external_data > load > signature > warm_up      each needs the one before it
golden, batch, finite, varied, agreement, latency, metric         each by itself
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from serving.repository.manifest import Manifest, Metric
from serving.verdict import UNFORCEABLE, Check
from serving.versions.measurements import Report, Step

NOT_RUN: Final = "not run: what comes before it failed"
PLAIN: Final = "a plain Triton model has no manifest: nothing to compare with"


@dataclass(frozen=True, slots=True)
class Bars:
    """What a version must reach.

    latency_ratio: of the stable version's median; latency_slack_s: a difference below it is no failure, since tiny
    graphs double by chance; metric_margin: how much worse than the stable version's a metric may be, as a share of it;
    golden_tolerance: largest absolute difference, where the manifest states none; agreement: least share of the
    stable version's golden rows that get the same label; least_spread: of outputs over golden rows that differ.
    """

    latency_ratio: float = 2.0
    latency_slack_s: float = 0.001
    metric_margin: float = 0.01
    golden_tolerance: float = 1e-3
    agreement: float = 0.5
    least_spread: float = 1e-6


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known of a version. A problem is why it fails there, None that it does not.

    digests_problem also says so where files were not read at all. age_s: how long ago the child reported, None for
    just now. manifest, stable: None for plain models; stable_version: None when none is live.
    """

    files: int
    files_problem: str | None
    digests_problem: str | None
    report: Report
    manifest: Manifest | None
    stable: Manifest | None
    stable_version: int | None
    age_s: float | None = None


Judge = Callable[[Step, Findings, Bars], Check]


@dataclass(frozen=True, slots=True)
class _Point:
    """A check that a child measures: the step that it is made of, and what makes it.

    told_by: further steps whose problem is this check's; died_in: likewise for deaths; derived: the step is mainly
    another check's, which tells of problems and deaths.
    """

    name: str
    step: str
    judge: Judge
    told_by: tuple[str, ...] = ()
    died_in: tuple[str, ...] = ()
    derived: bool = False


def judge(findings: Findings, bars: Bars) -> tuple[Check, ...]:
    """Every check, in order. Those that were not run, or have nothing to compare with, neither pass nor fail."""
    checks = [_files(findings), _digests(findings)]
    if findings.files_problem or findings.digests_problem:
        checks += [Check(name=point.name, passed=None, detail=NOT_RUN) for point in _POINTS]
    else:
        checks += [_from_child(point, findings, bars) for point in _POINTS]
        checks = _closed(checks)
    checks.append(_metric(findings, bars, sound=not any(c.name in UNFORCEABLE and c.passed is False for c in checks)))
    return tuple(checks)


def _closed(checks: list[Check]) -> list[Check]:
    """Silence is no consent: what did not show that it loads and fits has failed, if nothing else says so."""
    shown = {check.name for check in checks if check.passed}
    if shown >= _NEEDED or any(check.passed is False for check in checks):
        return checks
    failure = "The child told nothing of it. Try again; the gateway's log says more."
    missing = next(check.name for check in checks if check.name in _NEEDED - shown)
    return [Check(name=missing, passed=False, detail=failure) if c.name == missing else c for c in checks]


def _files(findings: Findings) -> Check:
    if findings.files_problem:
        return Check(name="files", passed=False, detail=findings.files_problem)
    return Check(name="files", passed=True, measured=findings.files, detail="plain files of known kinds")


def _digests(findings: Findings) -> Check:
    if findings.files_problem:
        return Check(name="digests", passed=None, detail=NOT_RUN)
    if findings.digests_problem:
        return Check(name="digests", passed=False, detail=findings.digests_problem)
    if findings.manifest is None:
        return Check(name="digests", passed=None, detail=PLAIN)
    manifest = findings.manifest
    count = len(manifest.files) + sum(map(len, manifest.graph_files.values()))
    return Check(name="digests", passed=True, measured=count, detail="every file is as the manifest says")


def _from_child(point: _Point, findings: Findings, bars: Bars) -> Check:
    steps = findings.report.steps
    step = next((steps[name] for name in point.told_by if name in steps and steps[name].problem), steps.get(point.step))
    if findings.report.died_in in (point.step, *point.died_in) and not point.derived:
        return Check(name=point.name, passed=False, detail=findings.report.death or "")
    if step is None:
        return Check(name=point.name, passed=None, detail=NOT_RUN)
    check = _measured(point, step, findings, bars)
    if findings.age_s is None or check.passed is None:
        return check
    return check.model_copy(update={"detail": f"{check.detail} (vetted {findings.age_s:.0f} s ago)"})


def _measured(point: _Point, step: Step, findings: Findings, bars: Bars) -> Check:
    if step.problem and point.derived:
        return Check(name=point.name, passed=None, detail="not run: the golden rows could not be used")
    if step.problem:
        return Check(name=point.name, passed=False, detail=step.problem)
    if step.skipped and point.judge is not _finite:
        return Check(name=point.name, passed=None, detail=f"nothing to compare: {step.skipped}")
    return point.judge(step, findings, bars)


def _external(step: Step, _: Findings, __: Bars) -> Check:
    count = step.figures["tensors"]
    return Check(
        name="external_data", passed=True, measured=count, detail="tensors outside of the model file, all listed"
    )


def _load(step: Step, _: Findings, __: Bars) -> Check:
    detail = f"loaded in a child in {step.seconds:.2f} s, {step.peak_bytes / 2**20:.0f} MiB at most"
    return Check(name="load", passed=True, measured=step.seconds, detail=detail)


def _signature(step: Step, _: Findings, __: Bars) -> Check:
    return Check(name="signature", passed=True, measured=step.figures.get("graphs"), detail="tensors as they must be")


def _warm_up(step: Step, _: Findings, __: Bars) -> Check:
    detail = f"ran with up to {step.figures['rows']:.0f} rows"
    return Check(name="warm_up", passed=True, measured=step.figures["rows"], detail=detail)


def _golden(step: Step, findings: Findings, bars: Bars) -> Check:
    limit = tolerance(findings.manifest, bars)
    far, other = step.figures["difference"], step.figures["other_top_1"]
    detail = f"largest difference over {step.figures['rows']:.0f} golden rows"
    if not far <= limit:  # said this way round, NaN fails
        detail += "; export it again: it does not give what the trained network gave"
    elif other:
        detail += f"; {other:.0f} of them have another best label"
    return Check(name="golden", passed=far <= limit and not other, measured=_figure(far), limit=limit, detail=detail)


def _batch(step: Step, findings: Findings, bars: Bars) -> Check:
    limit, far = tolerance(findings.manifest, bars), step.figures["difference"]
    detail = f"largest difference between a row alone and in a batch of up to {step.figures['rows']:.0f}"
    if not far <= limit:
        detail += "; rows must not mix: reduce over other axes than the batch axis, or set max_batch_size to 1"
    return Check(name="batch", passed=far <= limit, measured=_figure(far), limit=limit, detail=detail)


def _finite(step: Step, findings: Findings, _: Bars) -> Check:
    warm = findings.report.steps.get("warm_up", Step(name="warm_up"))
    source = step if "nan" in step.figures else warm  # golden's figures have the warm-up's in them
    if "nan" not in source.figures:
        return Check(name="finite", passed=None, detail="nothing to compare: no rows were run")
    nan, infinite = source.figures["nan"], source.figures["infinite"]
    detail = f"{nan:.0f} values are NaN, {infinite:.0f} are infinite"
    if nan or infinite:
        detail += "; train it again, or look for overflows in the graph"
    return Check(name="finite", passed=not (nan or infinite), measured=nan + infinite, limit=0, detail=detail)


def _varied(step: Step, _: Findings, bars: Bars) -> Check:
    rows, found = step.figures["differing_rows"], step.figures["spread"]
    if rows < 2:
        return Check(name="varied", passed=None, detail="nothing to compare: its golden rows are all the same")
    if step.figures["nan"] or step.figures["infinite"]:
        return Check(name="varied", passed=None, detail="nothing to compare: its outputs are not finite")
    passed = found > bars.least_spread
    detail = f"how far the outputs of {rows:.0f} different rows lie apart"
    if not passed:
        detail += "; it answers the same whatever it is asked"
    return Check(name="varied", passed=passed, measured=_figure(found), limit=bars.least_spread, detail=detail)


def _agreement(step: Step, findings: Findings, bars: Bars) -> Check:
    share = step.figures["share"]
    detail = f"share of {step.figures['rows']:.0f} golden rows of version {findings.stable_version} with the same label"
    if not share >= bars.agreement:
        detail += "; look whether the labels are in the order of the scores"
    return Check(name="agreement", passed=share >= bars.agreement, measured=share, limit=bars.agreement, detail=detail)


def _latency(step: Step, findings: Findings, bars: Bars) -> Check:
    mine, theirs = step.figures["seconds"], step.figures["stable_seconds"]
    ratio = mine / theirs if theirs > 0 else math.inf
    slow = ratio > bars.latency_ratio and mine - theirs > bars.latency_slack_s
    detail = (
        f"of version {findings.stable_version}'s time: {mine * 1e3:.2f} against {theirs * 1e3:.2f} ms a run of"
        f" {step.figures['rows']:.0f} rows, medians of {step.figures['runs']:.0f}"
    )
    if ratio > bars.latency_ratio and not slow:
        detail += f"; less than {bars.latency_slack_s * 1e3:g} ms apart"
    return Check(name="latency", passed=not slow, measured=_figure(ratio), limit=bars.latency_ratio, detail=detail)


def _metric(findings: Findings, bars: Bars, *, sound: bool) -> Check:
    """The metric that lies closest to its limit or furthest beyond it."""
    if not sound:
        return Check(name="metric", passed=None, detail=NOT_RUN)
    mine = findings.manifest.metrics if findings.manifest else {}
    for name, metric in mine.items():
        if metric.floor is not None and not _lead(metric, metric.floor) >= 0:
            return Check(
                name="metric",
                passed=False,
                measured=_figure(metric.value),
                limit=metric.floor,
                detail=f"{name} misses its floor",
            )
    if findings.stable is None or not findings.stable.metrics:
        return Check(name="metric", passed=None, detail="nothing to compare: no version is live that states metrics")
    checks = [
        _compared(name, mine.get(name), before, findings, bars) for name, before in findings.stable.metrics.items()
    ]
    return next((check for check in checks if not check.passed), checks[0])


def _compared(name: str, mine: Metric | None, before: Metric, findings: Findings, bars: Bars) -> Check:
    whose = f"version {findings.stable_version}'s {before.value:g}"
    if mine is None:
        return Check(name="metric", passed=False, detail=f"{name} is not stated; expected it beside {whose}")
    margin = bars.metric_margin * abs(before.value)
    limit = before.value - margin if before.higher_is_better else before.value + margin
    sign = 1 if before.higher_is_better else -1
    passed = sign * (mine.value - limit) >= 0
    detail = f"{name}, against {whose}" + ("" if passed else "; train it longer, or measure both on the same rows")
    return Check(name="metric", passed=passed, measured=_figure(mine.value), limit=limit, detail=detail)


def tolerance(manifest: Manifest | None, bars: Bars) -> float:
    """How far outputs may lie apart: as the version was published with, else as the bars say."""
    return manifest.parity.tolerance if manifest and manifest.parity else bars.golden_tolerance


def _lead(metric: Metric, other: float) -> float:
    return metric.value - other if metric.higher_is_better else other - metric.value


def _figure(value: float) -> float | str:
    """JSON has no NaN."""
    return value if math.isfinite(value) else "not finite"


_POINTS: Final = (
    _Point("external_data", "external_data", _external, told_by=("start",), died_in=("start",)),
    _Point("load", "load", _load),
    # What only a run shows of a signature, such as the number of scores, is told by the task's answer.
    _Point("signature", "signature", _signature, told_by=("answer",), died_in=("stable",)),
    _Point("warm_up", "warm_up", _warm_up, died_in=("answer",)),
    _Point("golden", "golden", _golden),
    _Point("batch", "batch", _batch),
    _Point("finite", "golden", _finite, derived=True),
    _Point("varied", "golden", _varied, derived=True),
    _Point("agreement", "agreement", _agreement),
    _Point("latency", "latency", _latency),
)
_NEEDED: Final = frozenset({"external_data", "load", "signature"})
