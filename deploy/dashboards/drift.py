"""Whether what comes and what is answered still looks as in training, and what callers say of the answers."""

from __future__ import annotations

from typing import Final

from deploy.dashboards.panels import Dashboard, Panel

CHOSEN: Final = 'model=~"$model",version=~"$version"'
FEATURE: Final = "{{model}}/{{version}} {{feature}}"
METRIC: Final = "{{model}}/{{version}} {{metric}}"


def highest(name: str) -> str:
    """Of all gateways, by version and feature."""
    return f"max by (model, version, feature) ({name}{{{CHOSEN}}})"


DRIFT: Final = Dashboard(
    "drift",
    "tidegate: drift and feedback",
    ("model", "version"),
    (
        Panel(
            "Features that drift",
            "1 while a feature is beyond its threshold.",
            {highest("tidegate_drift_alert"): FEATURE},
            most=1,
            limit=1,
        ),
        Panel(
            "Drift beside its threshold",
            "The population stability index over the threshold of the feature: from 1 on it is an alert.",
            {f"{highest('tidegate_drift_psi')} / {highest('tidegate_drift_threshold')}": FEATURE},
            limit=1,
        ),
        Panel(
            "Population stability index",
            "Between the window and the reference, by feature.",
            {highest("tidegate_drift_psi"): FEATURE},
        ),
        Panel(
            "Jensen-Shannon divergence",
            "Between the window and the reference, by feature.",
            {highest("tidegate_drift_js"): FEATURE},
            most=1,
        ),
        Panel(
            "Kolmogorov-Smirnov distance",
            "The largest distance between both distributions, by feature.",
            {highest("tidegate_drift_ks"): FEATURE},
            most=1,
        ),
        Panel(
            "Requests in the window",
            "That drift is computed over.",
            {f"max by (model, version) (tidegate_drift_window_requests{{{CHOSEN}}})": "{{model}}/{{version}}"},
        ),
        Panel(
            "By feedback",
            "The metric of the latest truths that came back, mean of the gateways.",
            {f"avg by (model, version, metric) (tidegate_feedback_score{{{CHOSEN}}})": METRIC},
        ),
        Panel(
            "By feedback, of this interval",
            "Sum of the scores over how many there were.",
            {
                "sum by (model, version, metric) "
                f"(rate(tidegate_feedback_score_sum_total{{{CHOSEN}}}[$__rate_interval])) / "
                "sum by (model, version, metric) "
                f"(rate(tidegate_feedback_scored_total{{{CHOSEN}}}[$__rate_interval]))": METRIC
            },
        ),
        Panel(
            "Truths that came",
            "scored, of a request that is not known any more, or not fit for the task.",
            {
                'sum by (model, outcome) (rate(tidegate_feedback_total{model=~"$model|_other"}[$__rate_interval]))': (
                    "{{model}} {{outcome}}"
                )
            },
            "reqps",
        ),
        Panel(
            "Requests that were kept",
            "For replay, by outcome, and the bytes that they take.",
            {
                'sum by (model, outcome) (rate(tidegate_captured_total{model=~"$model"}[$__rate_interval]))': (
                    "{{model}} {{outcome}}"
                ),
                "sum by (instance) (tidegate_capture_bytes)": "{{instance}} bytes",
            },
        ),
    ),
)
