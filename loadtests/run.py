"""A load test from the outside: locust as a child process, its recording judged, the report written."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.outcome import Recording, read_recording, write_recording
from loadtests.report import table
from loadtests.report.page import as_data, page
from loadtests.slo import Slo, Told
from loadtests.summary import codes, late_p99_s
from loadtests.summary import table as rows_of
from loadtests.verdict import Verdict, judge

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
TAIL_LINES: Final = 20


class LocustFailed(Exception):
    """It made no recording. The message is what it printed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done to whom. rate, seconds: in place of the scenario's."""

    url: str
    admin_url: str
    scenario: Path
    rate: float | None = None
    seconds: float | None = None
    processes: int = 1


def record(order: Order) -> Recording:
    """Puts on the load. LocustFailed."""
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        file = Path(folder) / "recording.jsonl"
        options = ["--headless", "--only-summary", "--loglevel", "ERROR", "--host", order.url]
        options += ["--scenario", str(order.scenario), "--recording", str(file), "--admin-url", order.admin_url]
        options += ["--rate", str(order.rate or 0.0), "--seconds", str(order.seconds or 0.0)]
        if order.processes > 1:
            options += ["--processes", str(order.processes), "--sources", str(order.processes)]
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own)
        if not file.exists():
            raise LocustFailed("\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL_LINES:]))
        return read_recording(file)


def judged(recording: Recording, slo: Slo, told: Told | None, out: Path | None) -> tuple[str, Verdict]:
    """The table with its verdict. out: a folder, for report.html, verdict.json and recording.jsonl."""
    outcomes = recording.outcomes
    rows = rows_of(outcomes, recording.seconds, slo, told)
    verdict = judge(rows, recording.changes, late_p99_s(outcomes), slo.generator.late_p99_ms / 1e3)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(page(recording, rows, verdict, slo, told))
        (out / "verdict.json").write_text(json.dumps(as_data(recording, rows, verdict), indent=2) + "\n")
        write_recording(out / "recording.jsonl", recording)
    return table.text(rows, recording.changes, codes(outcomes), verdict), verdict
