"""The report: one file that needs nothing else, and says what the verdict says."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

from loadtests.outcome import Made, Outcome, Recording
from loadtests.report.page import as_data, page
from loadtests.report.series import binned
from loadtests.report.table import text
from loadtests.slo import Slo, Told
from loadtests.summary import codes, late_p99_s, table
from loadtests.verdict import judge

SLO = Slo(default=Told(p99_ms=100, goodput=0.9))
OUTCOMES = [
    Outcome(i / 10, 0.001, 0.01 + i / 10_000, "classify", "m", 1 + i // 50, 200, "queue_full" if i == 7 else "")
    for i in range(100)
]
RECORDING = Recording("http://x", "Bread & <b>butter</b>", 10.0, OUTCOMES, [Made(5.0, 0.2, "promote", "m", 2)])


def judged(recording=RECORDING):
    rows = table(recording.outcomes, recording.seconds, SLO)
    return rows, judge(rows, recording.changes, late_p99_s(recording.outcomes), 0.1)


def test_the_page_stands_alone_and_escapes_what_it_is_told():
    rows, verdict = judged()
    html = page(RECORDING, rows, verdict, SLO, None)
    assert "Bread &amp; &lt;b&gt;butter" in html
    assert not re.search(r'(src|href)="(?!#)', html), "nothing is loaded from elsewhere"
    assert not re.search(r"url\((?!#)", html)
    assert "<script" not in html
    assert html.count("<svg") == 6
    assert not re.search("#0[1-4]0[1-4]0[1-6]", html), "all stand-in colours have their variable"
    assert "Red" in html
    assert "queue_full" in html


def test_a_run_in_which_nothing_was_answered_has_a_page_too():
    recording = replace(RECORDING, outcomes=[replace(one, code="broken", version=0) for one in OUTCOMES], changes=[])
    rows, verdict = judged(recording)
    assert "broken" in page(recording, rows, verdict, SLO, None)


def test_the_table_and_the_json_say_the_same():
    rows, verdict = judged()
    told = text(rows, RECORDING.changes, codes(OUTCOMES), verdict)
    data = json.loads(json.dumps(as_data(RECORDING, rows, verdict)))
    assert "all: error rate: 1.00%, at most 0.10%" in told
    assert "5.0 s: promote m/2, took 0.20 s" in told
    assert "1 x queue_full" in told
    assert data["passed"] is False
    assert data["exit_code"] == 1
    assert [row["name"] for row in data["rows"]] == [row.name for row in rows]


def test_time_is_cut_into_equal_parts():
    bins = binned(OUTCOMES, 10.0)
    assert [len(group) for group in bins.groups] == [10] * 10
    assert bins.rate(lambda one: one.answered) == [9.0] + [10.0] * 9
    assert bins.rates_by(lambda one: one.code) == {"queue_full": [1.0] + [0.0] * 9}
    assert bins.latency_s(1.0)[-1] == OUTCOMES[-1].latency_s
    assert math.isnan(binned([], 5.0).latency_s(0.5)[0])
