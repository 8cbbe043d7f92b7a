"""Will Triton run the plans that TensorRT built for a version? Part of the verdict, and never a reason to refuse.

Where a plan does not fit, the ONNX graph that was vetted runs in its place.
"""

from __future__ import annotations

from serving.repository.manifest import Manifest
from serving.tensorrt import Host, misfit
from serving.verdict import Check


def check_plans(manifest: Manifest | None, host: Host | None) -> tuple[Check, ...]:
    """One check of a version that has plans, else none. host: Triton's, None where nobody said what it has."""
    plans = manifest.plans if manifest else {}
    if not plans:
        return ()
    wrong = [f"{role}: {reason}" for role, plan in plans.items() if (reason := misfit(plan, host))]
    if wrong:
        detail = f"the ONNX graph runs in place of its plan: {'; '.join(wrong)}"
        return (Check(name="plan", passed=None, detail=detail),)
    worst = max(plans.values(), key=lambda plan: plan.parity.max_abs_difference / plan.parity.tolerance).parity
    return (
        Check(
            name="plan",
            passed=True,
            measured=worst.max_abs_difference,
            limit=worst.tolerance,
            detail="largest difference between its plans, which Triton runs, and the trained network, on such a host",
        ),
    )
