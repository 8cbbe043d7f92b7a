"""What the commands print for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first row being their heads."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def models_text(listing: Row) -> str:
    """What `tidegate models` prints."""
    columns = ("name", "task", "versions", "stable", "canary", "shadow", "previous", "ready")
    heads = [column.upper() for column in columns]
    rows = [row | {"ready": "unloaded"} if row.get("unloaded") else row for row in listing["models"]]
    return table([heads, *([_cell(row[column]) for column in columns] for row in rows)])


def verdict_text(verdict: Row) -> str:
    """A verdict, point by point."""
    marks = {True: "ok", False: "FAILED", None: "-"}
    rows = [["CHECK", "", "MEASURED", "LIMIT", "DETAIL"]]
    run = [check for check in verdict["checks"] if not check["detail"].startswith("not run")]
    for check in run:
        figures = [_figure(check["measured"]), _figure(check["limit"])]
        rows.append([check["name"], marks[check["passed"]], *figures, check["detail"]])
    against = f", compared with {verdict['stable']}" if verdict["stable"] else ""
    left = len(verdict["checks"]) - len(run)
    unrun = f"\nNot run after that: {left} more checks." if left else ""
    said = "passed" if verdict["passed"] else "did not pass"
    return f"{table(rows)}{unrun}\n{verdict['model']}/{verdict['version']} {said} the gate{against}."


def outcome_text(outcome: Row) -> str:
    """A change, in a few lines."""
    moved = f" {_cell(outcome['from'])} -> {_cell(outcome['to'])}" if outcome["from"] or outcome["to"] else ""
    lines = [f"{outcome['model']}: {outcome['action']}{moved or ' changes nothing'}. {_standing(outcome)}."]
    if outcome["cold"]:
        lines.append("It had to be loaded first.")
    if outcome["late"]:
        lines.append(f"NOT following yet: {', '.join(outcome['late'])}.")
    if outcome["gateways"] or outcome["late"]:
        gateways = "1 gateway follows" if outcome["gateways"] == 1 else f"{outcome['gateways']} gateways follow"
        lines.append(f"{gateways} after {outcome['seconds']:.2f} s.")
    else:
        lines.append("No gateway runs on this state; the next one starts so.")
    if way := _way_back(outcome):
        lines.append(f"The way back: {way}.")
    return "\n".join(lines)


def _standing(outcome: Row) -> str:
    """Who is live after a change."""
    if outcome["action"] == "unload":
        return f"Out of service; {outcome['stable']} stays stable"
    trial = ""
    if outcome["canary"]:
        trial = f", version {outcome['canary']['version']} gets {outcome['canary']['percent']:g} %"
    elif outcome["shadow"]:
        trial = f", version {outcome['shadow']} gets copies"
    return f"Stable is {outcome['stable']}{trial}"


def _way_back(outcome: Row) -> str:
    """What undoes it, if anything does."""
    if outcome["action"] == "unload":
        return f"POST /admin/models/{outcome['model']}/load"
    if outcome["canary"] or outcome["shadow"]:
        return f"tidegate rollback {outcome['model']} ({outcome['stable']} stays stable)"
    return f"tidegate rollback {outcome['model']} (to {outcome['previous']})" if outcome["previous"] else ""


def history_text(records: Sequence[Row]) -> str:
    """A history, a line each."""
    if not records:
        return "No change was made yet."
    rows = [["TIME", "ACTION", "FROM", "TO", "WHO", "GATE", "WHY"]]
    for one in records:
        action = f"{one['action']} {one['percent']:g} %" if one.get("percent") else one["action"]
        rows.append(
            [one["time"], action, _cell(one["from"]), _cell(one["to"]), one["who"], _gate(one["verdict"]), one["why"]]
        )
    return table(rows)


def guard_text(state: Row) -> str:
    """A policy in a few lines, and how the trial stands, signal by signal."""
    policy = state["policy"]
    said = "set by an operator" if state["said"] else "as published, or this gateway's default"
    steps = ", ".join(f"{step:g}" for step in policy["steps"])
    lines = [
        f"{state['model']}: the guard's mode is {policy['mode']} ({said}).",
        f"A canary climbs {steps} %, each step {policy['step_s']:g} s and {policy['step_requests']} requests at least;"
        f" a promotion is watched for {policy['watch_s']:g} s.",
        f"Let pass: {policy['slowdown']:g} times the seconds, {policy['errors']:.1%} more failures,"
        f" {policy['disagreement']:.0%} of copies answered otherwise, {policy['loss']:g} of the live metric,"
        f" inputs with a PSI of {policy['drift']:g}. Risk {policy['risk']:.1%}.",
    ]
    trial = state["trial"]
    if trial is None:
        return "\n".join([*lines, "Nothing is on trial."])
    rows = [["SIGNAL", "EVIDENCE", "MEASURED", "LIMIT", "DETAIL"]]
    for one in trial["signals"]:
        evidence = "-" if one["strength"] is None else f"{one['strength']:.2f}"
        rows.append([one["name"], evidence, one["measured"] or "-", one["limit"] or "-", one["detail"]])
    percent = f" with {trial['percent']:g} %" if trial["kind"] == "canary" else ""
    lines += [
        f"On trial: version {trial['version']} ({trial['kind']}{percent}) against {trial['against']},"
        f" {trial['requests']:,} requests since {trial['began']}.",
        table(rows),
        f"It says: {trial['decision']}, since {trial['why']}.",
    ]
    return "\n".join(lines)


def _gate(summary: Row | None) -> str:
    if summary is None:
        return "-"
    return f"FORCED past {','.join(summary['failed'])}" if summary["forced"] else "passed"


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict) and "percent" in value:
        return f"{value['version']} ({value['percent']:g} %)"
    if isinstance(value, dict):
        agreement = "no copies yet" if value["agreement"] is None else f"{value['agreement']:.1%} agree"
        return f"{value['version']} ({agreement})"
    return str(value)
