"""Who is live, and how the version on trial does beside the one that serves."""

from __future__ import annotations

from typing import Final

from deploy.dashboards.panels import Dashboard, Panel, table

OF: Final = 'model=~"$model"'
RATE: Final = "[$__rate_interval]"
ROLES: Final = "* on (model, version) group_right () tidegate:live_versions"

ROLLOUT: Final = Dashboard(
    "rollout",
    "tidegate: versions that come and go",
    ("model",),
    (
        table(
            "Who is live",
            "The version in each role.",
            {f"max by (model, role) (tidegate_live_version{{{OF}}})": ""},
        ),
        Panel(
            "Live versions over time",
            "A step is a promotion or a rollback.",
            {f"max by (model, role) (tidegate_live_version{{{OF}}})": "{{model}} {{role}}"},
        ),
        Panel(
            "The canary's share",
            "As it was set, in percent; 0 without a canary.",
            {f"max by (model) (tidegate_canary_percent{{{OF}}})": "{{model}}"},
            "percent",
            most=100,
        ),
        Panel(
            "Requests by version",
            "How traffic is in fact divided.",
            {f"sum by (model, version) (rate(tidegate_requests_total{{{OF}}}{RATE}))": "{{model}}/{{version}}"},
            "reqps",
        ),
        Panel(
            "Failures by role",
            "The share of requests that failed through no fault of the caller, over five minutes.",
            {f"tidegate:role_errors:ratio_rate5m{{{OF}}}": "{{model}}/{{version}} {{role}}"},
            "percentunit",
        ),
        Panel(
            "Seconds of answers by role, 99th percentile",
            "Of the version that has the role.",
            {
                "histogram_quantile(0.99, sum by (le, model, version) "
                f"(rate(tidegate_request_duration_seconds_bucket{{{OF}}}{RATE}))) {ROLES}": (
                    "{{model}}/{{version}} {{role}}"
                )
            },
            "s",
        ),
        Panel(
            "Agreement of the shadow",
            "Mean over the copies that were compared: 1 is the same answer.",
            {
                f"sum by (model, version) (rate(tidegate_shadow_agreement_total{{{OF}}}{RATE})) / "
                f'sum by (model, version) (rate(tidegate_shadow_requests_total{{{OF},outcome="compared"}}{RATE}))': (
                    "{{model}}/{{version}}"
                )
            },
            "percentunit",
            most=1,
        ),
        Panel(
            "Copies for the shadow",
            "compared, failed, or passed by as another copy was running.",
            {
                f"sum by (model, version, outcome) (rate(tidegate_shadow_requests_total{{{OF}}}{RATE}))": (
                    "{{model}}/{{version}} {{outcome}}"
                )
            },
            "reqps",
        ),
        Panel(
            "Evidence of the guard",
            "Against a version, by signal; at 1 the guard acts.",
            {
                f"max by (model, version, signal) (tidegate_guard_evidence{{{OF}}})": (
                    "{{model}}/{{version}} {{signal}}"
                )
            },
            limit=1,
        ),
        Panel(
            "Decisions of the guard",
            "Steps forward and back, and those that it only advised.",
            {
                f"sum by (model, action) (increase(tidegate_guard_decisions_total{{{OF}}}[1h]))": (
                    "{{model}} {{action}}"
                ),
                "sum(tidegate_guard_leading)": "gateways that lead",
            },
        ),
        Panel(
            "Loads",
            "Versions that were to be loaded, by outcome, in an hour.",
            {f"sum by (model, outcome) (increase(tidegate_loads_total{{{OF}}}[1h]))": "{{model}} {{outcome}}"},
        ),
        Panel(
            "Seconds of loads, 90th percentile",
            "From the files to a version that is warm, over an hour.",
            {"histogram_quantile(0.9, sum by (le) (rate(tidegate_load_duration_seconds_bucket[1h])))": "all gateways"},
            "s",
        ),
        Panel(
            "Revision of the pointers",
            "That each gateway follows: lines that part are gateways that disagree.",
            {"tidegate_ledger_revision": "{{instance}}"},
        ),
        Panel(
            "Ready versions",
            "How many gateways have each one loaded.",
            {f"sum by (model, version) (tidegate_model_ready{{{OF}}})": "{{model}}/{{version}}"},
        ),
    ),
)
