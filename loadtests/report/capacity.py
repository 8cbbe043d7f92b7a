"""A search for a capacity as text."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from loadtests.capacity import Step
from loadtests.capacity_run import Comparison
from loadtests.verdict import GREEN, INVALID, RED

HEAD: Final = "OFFERED/s  FOR s  REQUESTS  ANSWERED/s   p99 ms  TOO SLOW OR NOT ANSWERED, 95 %"


def line(step: Step) -> str:
    share = f"{step.bad:.2%} ({step.range.low:.2%} to {step.range.high:.2%})"
    verdict = ("passes" if step.passed else "fails") + ("" if step.sure else ", not surely")
    offered = f"{step.rate:9.1f}  {step.seconds:5.0f}  {step.requests:8,}"
    return f"{offered}  {step.answered_rate:10.1f}  {step.p99_s * 1e3:7.0f}  {share}: {verdict}"


def sentence(found: Comparison, late_limit_s: float) -> str:
    """The capacity, how sure it is, and how it stands beside callers who wait."""
    if reason := _invalid(found, late_limit_s):
        return f"INVALID: {reason}"
    capacity, closed = found.found, " and ".join(f"{rate:.1f}" for rate in found.closed)
    sure = "both ends with 95 %" if capacity.sure else "not both ends with 95 %"
    return (
        f"Capacity {capacity.rate:.1f}/s: it passes, {capacity.above:.1f}/s does not ({sure}). {found.callers} callers "
        f"who wait got {closed}/s (before, after): the capacity is {found.ratio:.2f} of that."
    )


def exit_code(found: Comparison, late_limit_s: float, within: float | None) -> int:
    """within: how far the capacity may be from what callers who wait got, as a share."""
    if _invalid(found, late_limit_s):
        return INVALID
    return RED if within is not None and abs(found.ratio - 1) > within else GREEN


def as_data(found: Comparison) -> dict[str, Any]:
    """For JSON."""
    above = found.found.above
    return {
        "capacity": found.found.rate,
        "above": None if above == math.inf else above,
        "sure": found.found.sure,
        "callers": found.callers,
        "closed": list(found.closed),
        "ratio": found.ratio,
        "steps": [asdict(step) for step in found.found.steps],
    }


def _invalid(found: Comparison, late_limit_s: float) -> str:
    limit = found.found.limit
    if not found.found.rate:
        return "not even the lowest rate was answered as promised."
    if limit is None:
        return "no rate was too much for the server."
    if limit.late_p99_s > late_limit_s:
        return f"at {limit.rate:.1f}/s the load test itself was {limit.late_p99_s * 1e3:.0f} ms late (p99)."
    return ""
