"""`tidegate drift`: how far what is asked of a model lies from what it was made for."""

from __future__ import annotations

from typing import Any

import click

from serving.client import DEFAULT_URL
from serving.commands.target import ask, show
from serving.commands.text import table

HEADS = ["FEATURE", "OF", "PSI", "THRESHOLD", "JS", "KS", "ROWS", "REFERENCE", ""]


@click.command()
@click.argument("model")
@click.option("--url", help=f"The gateway's admin port.  [default: {DEFAULT_URL}]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def drift(model: str, url: str | None, as_json: bool) -> None:
    """How far a model's latest requests and replies lie from its reference, feature by feature."""
    given = {"url": url, "repository": None, "state": None, "redis": None}  # a running gateway alone has seen any
    report = ask(given, lambda client: client.drift(model), _nobody_saw)
    show(report, as_json, drift_text)


def drift_text(report: dict[str, Any]) -> str:
    """What `tidegate drift` prints: of each version a line, and its features in a table."""
    return "\n\n".join(_version_text(report["model"], version) for version in report["versions"])


def _version_text(model: str, version: dict[str, Any]) -> str:
    requests = (
        f"{version['window_requests']:,} requests in its window, {version['seen']:,} looked at since it was loaded"
    )
    head = f"{model}/{version['version']}: {version['status']}. {requests}. {version['note']}".strip()
    rows = [_row(feature) for feature in version["features"] if feature["psi"] is not None]
    return f"{head}\n{table([HEADS, *rows])}" if rows else head


def _row(feature: dict[str, Any]) -> list[str]:
    figures = ["-" if feature[name] is None else f"{feature[name]:.3f}" for name in ("psi", "threshold", "js", "ks")]
    reference = f"{feature['reference_rows']:,} rows, {feature['reference']}"
    mark = "DRIFTED" if feature["alert"] else "ok"
    return [feature["feature"], feature["of"], *figures, str(feature["rows"]), reference, mark]


async def _nobody_saw(_: Any) -> Any:
    raise click.UsageError("Drift is seen by a running gateway.")
