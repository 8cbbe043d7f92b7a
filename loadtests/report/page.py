"""The page: one HTML file that needs nothing else, to be kept and sent on."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from loadtests.outcome import Outcome, Recording
from loadtests.report import plots, table
from loadtests.report.series import binned
from loadtests.slo import Slo, Told
from loadtests.summary import Row, codes, late_p99_s
from loadtests.verdict import Verdict

STYLE = Path(__file__).with_name("page.css")


def page(recording: Recording, rows: list[Row], verdict: Verdict, slo: Slo, scenario: Told | None) -> str:
    """All of it as HTML."""
    outcomes, changes = recording.outcomes, recording.changes
    bins = binned(outcomes, recording.seconds)
    limit_s = rows[0].promise.p99_s

    def good(one: Outcome) -> bool:
        return one.answered and one.latency_s <= slo.promise(one.task, one.model, scenario).p99_s

    def version(one: Outcome) -> str:
        return f"{one.model}/{one.version}" if good(one) and one.version else ""

    from_due = "From when a request was due to the end of its answer."
    late = "Its own fault, and counted in every latency."
    figures = [
        ("Latency over time", from_due, plots.latency_over_time(bins, limit_s, changes)),
        ("Latency", "Of all requests that were answered.", plots.latency_histogram(outcomes, limit_s)),
        ("Offered, answered, in time", "Arrivals do not wait for answers.", plots.rates(bins, good, changes)),
        ("Goodput by version", "Answered within their time, by who answered.", plots.stacked(bins, version, changes)),
        ("Errors by code", _errors(recording), plots.stacked(bins, lambda one: one.code) if codes(outcomes) else ""),
        ("How late the load test sent", late, plots.late_over_time(bins, slo.generator.late_p99_ms / 1e3)),
    ]
    body = [_head(recording, verdict), _table(rows, verdict), _broken(verdict), _changes(recording)]
    body += [f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{svg}</section>" for title, note, svg in figures]
    title = escape(f"{recording.title}: {_word(verdict)}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<style>{STYLE.read_text()}</style><main>{''.join(body)}</main></html>\n"
    )


def as_data(recording: Recording, rows: list[Row], verdict: Verdict) -> dict[str, Any]:
    """The same for programs: JSON's types, seconds and shares."""
    return {
        "title": recording.title,
        "url": recording.url,
        "seconds": recording.seconds,
        "passed": verdict.passed,
        "invalid": verdict.invalid,
        "exit_code": verdict.exit_code,
        "late_p99_s": late_p99_s(recording.outcomes),
        "rows": [
            {"name": row.name, **asdict(row), "error_rate": row.error_rate, "goodput": row.goodput} for row in rows
        ],
        "checks": [asdict(check) for check in verdict.checks],
        "errors": dict(codes(recording.outcomes)),
        "changes": [asdict(made) for made in recording.changes],
    }


def _head(recording: Recording, verdict: Verdict) -> str:
    facts = (
        f"{recording.url}, {len(recording.outcomes):,} requests in {recording.seconds:.0f} s, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )
    return (
        f'<header><p class="verdict {_word(verdict).lower()}">{_word(verdict)}</p><h1>{escape(recording.title)}</h1>'
        f"<p>{escape(facts)}</p><p>{escape(verdict.sentence)}</p></header>"
    )


def _word(verdict: Verdict) -> str:
    return "Invalid" if verdict.invalid else "Green" if verdict.passed else "Red"


def _table(rows: list[Row], verdict: Verdict) -> str:
    head = "".join(f"<th>{escape(cell.lower())}</th>" for cell in table.HEAD)
    lines = []
    for row in rows:
        given = table.cells(row, verdict)
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in given)
        lines.append(f'<tr class="{given[-1].lower()}">{cells}</tr>')
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _broken(verdict: Verdict) -> str:
    broken = [check for check in verdict.checks if check.passed is False]
    items = [f"<li>{escape(f'{one.subject}: {one.name}: {table.measured(one)}')}</li>" for one in broken]
    return f"<h2>Not kept</h2><ul>{''.join(items)}</ul>" if items else ""


def _changes(recording: Recording) -> str:
    items = "".join(f"<li>{escape(table.told(made))}</li>" for made in recording.changes)
    return f"<h2>Changes meanwhile</h2><ul>{items}</ul>" if items else ""


def _errors(recording: Recording) -> str:
    found = codes(recording.outcomes)
    return ", ".join(f"{count} x {code}" for code, count in found.items()) or "None."
