"""What a running job has to tell, until it is written down."""

from __future__ import annotations

import base64

import orjson

from serving.job_store import Reached, Report
from serving.run_report import MOST_PENDING, RunReport
from serving.task import Progress


def told(report: Report) -> list[tuple[str, object]]:
    return [(one.kind, orjson.loads(one.data)) for one in report.told]


def test_steps_that_are_quicker_than_the_store_are_told_together():
    calls = []
    report = RunReport(lambda: calls.append(1))
    report.begin(1)
    assert report.pending() == Report()
    for step in (1, 2, 3):
        report.told(Progress(step, 9))
    assert len(calls) == 3
    assert told(report.pending()) == [("progress", {"step": 3, "of": 9})]
    assert report.pending().progress == Reached(3, 9)


def test_a_preview_stands_where_it_was_drawn():
    report = RunReport(lambda: None)
    report.begin(1)
    report.told(Progress(4, 9))
    report.told(Progress(5, 9, b"\x89PNG"))
    report.told(Progress(6, 9))
    preview = {"step": 5, "of": 9, "index": 0, "b64_json": base64.b64encode(b"\x89PNG").decode()}
    expected = [("progress", {"step": 5, "of": 9}), ("preview", preview), ("progress", {"step": 6, "of": 9})]
    assert told(report.pending()) == expected


def test_the_steps_of_all_requests_add_up():
    report = RunReport(lambda: None)
    report.begin(3)
    for index, step in ((0, 1), (2, 1), (0, 2)):
        report.told(Progress(step, 4, index=index))
    assert report.pending().progress == Reached(3, 12)
    report.begin(3)  # another try
    report.told(Progress(1, 4))
    assert report.pending().progress == Reached(1, 12)


def test_only_what_was_written_is_forgotten():
    report = RunReport(lambda: None)
    report.begin(1)
    report.told(Progress(1, 9, b"a"))
    first = report.pending()
    report.told(Progress(2, 9))
    report.written(first)
    assert told(report.pending()) == [("progress", {"step": 2, "of": 9})]
    report.written(report.pending())
    assert report.pending() == Report(Reached(2, 9))


def test_while_nothing_can_be_written_not_everything_is_kept():
    report = RunReport(lambda: None)
    report.begin(1)
    for step in range(1, 2 * MOST_PENDING):
        report.told(Progress(step, 9999, b"p"))
    kept = told(report.pending())
    assert len(kept) == MOST_PENDING
    assert kept[-1][1]["step"] == 2 * MOST_PENDING - 1
