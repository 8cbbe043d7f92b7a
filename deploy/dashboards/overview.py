"""Is all well? Answers, promises, load, gateways, and what fires."""

from __future__ import annotations

from typing import Final

from deploy.dashboards.panels import Dashboard, Panel, number, table

OVERVIEW: Final = Dashboard(
    "overview",
    "tidegate",
    ("model",),
    (
        number(
            "Error budget used, last 6 hours",
            "How many times faster than a month allows: 1 uses the budget of 99.9 % up in 30 days. docs/slo.md.",
            "tidegate:errors:ratio_rate6h / 0.001",
            limit=1,
        ),
        number(
            "Latency budget used, last 6 hours",
            "As beside it, of the promise that 99 % of answers come in time.",
            "tidegate:slow:ratio_rate6h / 0.01",
            limit=1,
        ),
        Panel(
            "Requests by model",
            "Requests that reached a model, however they ended.",
            {'sum by (model) (rate(tidegate_requests_total{model=~"$model"}[$__rate_interval]))': "{{model}}"},
            "reqps",
        ),
        Panel(
            "Failures by code",
            "Requests that reached a model and got an error, by its code, or whose caller left.",
            {
                'sum by (code) (rate(tidegate_requests_total{model=~"$model",code!="ok"}[$__rate_interval]))': (
                    "{{code}}"
                ),
            },
            "reqps",
        ),
        Panel(
            "HTTP and gRPC answers",
            "Answers of the gateways by status: numbers of HTTP, names of gRPC.",
            {"sum by (status) (rate(tidegate_http_responses_total[$__rate_interval]))": "{{status}}"},
            "reqps",
        ),
        Panel(
            "Seconds of answers, 99th percentile",
            "Of answered requests, from routing to reply.",
            {
                "histogram_quantile(0.99, sum by (le, model) "
                '(rate(tidegate_request_duration_seconds_bucket{model=~"$model"}[$__rate_interval])))': "{{model}}",
            },
            "s",
        ),
        Panel(
            "In flight, and waiting",
            "Requests that are being answered, and requests of graphs that wait for their run.",
            {
                "sum by (instance) (tidegate_in_flight_requests)": "{{instance}} in flight",
                "sum by (instance) (nv_inference_pending_request_count)": "{{instance}} waiting",
            },
        ),
        Panel(
            "Processor and memory",
            "Cores that each gateway keeps busy, and its memory in GiB.",
            {
                'rate(process_cpu_seconds_total{job="gateway"}[$__rate_interval])': "{{instance}} cores",
                'process_resident_memory_bytes{job="gateway"} / 1024^3': "{{instance}} GiB",
            },
        ),
        Panel(
            "Gateways and the ledger",
            "Gateways that live, those that follow older pointers, and whether each can change them (1).",
            {
                "max(tidegate_gateways)": "gateways",
                "max(tidegate_gateways_behind)": "behind",
                "tidegate_ledger_connected": "{{instance}} connected",
            },
        ),
        Panel(
            "Jobs",
            "That have no end yet, and the seconds that the oldest of them has waited that could be begun.",
            {
                "max by (state) (tidegate_jobs)": "{{state}}",
                "max(tidegate_job_queue_age_seconds)": "oldest, seconds",
            },
        ),
        Panel(
            "Ends of jobs",
            "By how they ended; lost is to another gateway, which goes on with them.",
            {
                "sum by (outcome) (rate(tidegate_job_ends_total[$__rate_interval]))": "{{outcome}}",
                "sum(rate(tidegate_jobs_accepted_total[$__rate_interval]))": "accepted",
            },
            "reqps",
        ),
        table(
            "Alerts that fire",
            "Each has a page in docs/runbooks.",
            {'ALERTS{alertstate="firing"}': ""},
        ),
    ),
)
