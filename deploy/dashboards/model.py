"""What one model does with its requests: outcomes, stages, batches, queue, padding, memory."""

from __future__ import annotations

from typing import Final

from deploy.dashboards.panels import Dashboard, Panel

CHOSEN: Final = 'model=~"$model",version=~"$version"'
# Graphs of a model that has several are called <model>.<graph>.
GRAPHS: Final = 'graph=~"($model)([.].*)?",version=~"$version"'
NV: Final = 'model=~"($model)([.].*)?",version=~"$version"'
RATE: Final = "[$__rate_interval]"


def quantile(share: float) -> str:
    """Of the seconds of answers, by version."""
    return (
        f"histogram_quantile({share}, sum by (le, model, version) "
        f"(rate(tidegate_request_duration_seconds_bucket{{{CHOSEN}}}{RATE})))"
    )


MODEL: Final = Dashboard(
    "model",
    "tidegate: models",
    ("model", "version"),
    (
        Panel(
            "Answers and failures",
            "Requests that reached a version, by how they ended: ok, a code of an error, or caller_left.",
            {
                f"sum by (model, version, code) (rate(tidegate_requests_total{{{CHOSEN}}}{RATE}))": (
                    "{{model}}/{{version}} {{code}}"
                )
            },
            "reqps",
        ),
        Panel(
            "Seconds of answers, 50th, 90th and 99th percentile",
            "Of answered requests, from routing to reply.",
            {quantile(share): f"{{{{model}}}}/{{{{version}}}} p{share * 100:.0f}" for share in (0.5, 0.9, 0.99)},
            "s",
        ),
        Panel(
            "Where the seconds go",
            "Mean seconds of each stage of an answered request.",
            {
                f"sum by (stage) (rate(tidegate_stage_duration_seconds_sum{{{CHOSEN}}}{RATE})) / ignoring(stage) "
                f"group_left sum(rate(tidegate_request_duration_seconds_count{{{CHOSEN}}}{RATE}))": "{{stage}}"
            },
            "s",
        ),
        Panel(
            "Seconds of stages, 99th percentile",
            "Of answered requests.",
            {
                "histogram_quantile(0.99, sum by (le, stage) "
                f"(rate(tidegate_stage_duration_seconds_bucket{{{CHOSEN}}}{RATE})))": "{{stage}}"
            },
            "s",
        ),
        Panel(
            "Seconds in the queue, and in the run, by graph",
            "Means over answered requests, of gateways' own graphs and of Triton's.",
            {
                f"sum by (model, version) (rate(nv_inference_queue_duration_us{{{NV}}}{RATE})) / 1e6 "
                f"/ sum by (model, version) (rate(nv_inference_request_success{{{NV}}}{RATE}))": (
                    "{{model}}/{{version}} waits"
                ),
                f"sum by (model, version) (rate(nv_inference_compute_infer_duration_us{{{NV}}}{RATE})) / 1e6 "
                f"/ sum by (model, version) (rate(nv_inference_request_success{{{NV}}}{RATE}))": (
                    "{{model}}/{{version}} runs"
                ),
            },
            "s",
        ),
        Panel(
            "Requests that wait now, by graph",
            "In gateways' own queues.",
            {f"sum by (model, version) (nv_inference_pending_request_count{{{NV}}})": "{{model}}/{{version}}"},
        ),
        Panel(
            "Rows in a batch",
            "Mean rows that ran together.",
            {
                f"sum by (graph, version) (rate(tidegate_batch_rows_sum{{{GRAPHS}}}{RATE})) "
                f"/ sum by (graph, version) (rate(tidegate_batch_rows_count{{{GRAPHS}}}{RATE}))": (
                    "{{graph}}/{{version}}"
                )
            },
        ),
        Panel(
            "Why batches were cut",
            "free: an engine was; full: no more fits; preferred: a size that is configured; delay, deadline: "
            "somebody could wait no longer.",
            {f"sum by (reason) (rate(tidegate_batches_total{{{GRAPHS}}}{RATE}))": "{{reason}}"},
            "reqps",
        ),
        Panel(
            "Rows a second, and runs",
            "Rows of answered requests, and runs of graphs.",
            {
                f"sum by (model, version) (rate(nv_inference_count{{{NV}}}{RATE}))": "{{model}}/{{version}} rows",
                f"sum by (model, version) (rate(nv_inference_exec_count{{{NV}}}{RATE}))": "{{model}}/{{version}} runs",
            },
            "reqps",
        ),
        Panel(
            "Padding",
            "The share of the positions of rows of text that hold no token and are run for nothing.",
            {
                f"sum by (model, version) (rate(tidegate_padding_positions_total{{{CHOSEN}}}{RATE})) / "
                f"(sum by (model, version) (rate(tidegate_padding_positions_total{{{CHOSEN}}}{RATE})) "
                f"+ sum by (model, version) (rate(tidegate_token_positions_total{{{CHOSEN}}}{RATE})))": (
                    "{{model}}/{{version}}"
                )
            },
            "percentunit",
            most=1,
        ),
        Panel(
            "Memory of versions",
            "Estimated: how much the process grew over the load, at least the files.",
            {f"max by (model, version) (tidegate_model_memory_bytes{{{CHOSEN}}})": "{{model}}/{{version}}"},
            "bytes",
        ),
        Panel(
            "Ready versions",
            "How many gateways have each one loaded.",
            {f"sum by (model, version) (tidegate_model_ready{{{CHOSEN}}})": "{{model}}/{{version}}"},
        ),
    ),
)
