"""The verdict as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtests.outcome import Made
from loadtests.summary import Row
from loadtests.verdict import Check, Verdict

HEAD = ("", "DUE", "ANSWERED", "GOOD/s", "p50 ms", "p90 ms", "p99 ms", "MAY BE", "ERRORS", "GOODPUT", "")
MARKS: Mapping[bool | None, str] = {True: "kept", False: "BROKEN", None: "-"}


def text(rows: Sequence[Row], changes: Sequence[Made], errors: Mapping[str, int], verdict: Verdict) -> str:
    """The table, what went wrong, and the verdict in one sentence."""
    lines = columns([HEAD, *(cells(row, verdict) for row in rows)])
    lines += [told(made) for made in changes]
    lines += [f"{count} x {code}" for code, count in errors.items()]
    lines += [f"{check.subject}: {check.name}: {measured(check)}" for check in verdict.checks if check.passed is False]
    return "\n".join([*lines, verdict.sentence])


def cells(row: Row, verdict: Verdict) -> tuple[str, ...]:
    mine = [check.passed for check in verdict.checks if check.subject == row.name]
    mark = False if False in mine else True if True in mine else None
    return (
        row.name,
        f"{row.due:,}",
        f"{row.answered:,}",
        f"{row.good / row.seconds:.1f}",
        *(f"{seconds * 1e3:.1f}" for seconds in (row.p50_s, row.p90_s, row.p99_s)),
        f"{row.promise.p99_s * 1e3:.0f}",
        f"{row.error_rate:.2%}",
        f"{row.goodput:.2%}",
        MARKS[mark],
    )


def measured(check: Check) -> str:
    """What was found, and what may be."""
    if check.detail and check.unit == "count":
        return check.detail
    shown = [_shown(value, check) for value in (check.measured, check.limit)]
    return f"{shown[0]}, {'at least' if check.least else 'at most'} {shown[1]}"


def told(made: Made) -> str:
    version = f"/{made.version}" if made.version else ""
    end = f"refused: {made.refused}" if made.refused else f"took {made.seconds:.2f} s"
    return f"{made.at_s:.1f} s: {made.action} {made.model}{version}, {end}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells one below the other: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _shown(value: float, check: Check) -> str:
    if check.unit == "s":
        return f"{value * 1e3:.0f} ms"
    return f"{value:.2%}" if check.unit == "share" else f"{value:.0f}"
