"""What pairs of answers say of two versions."""

from __future__ import annotations

import pytest

from serving.commands.replay_text import report_text
from serving.monitoring.side_by_side import SHOWN, Limits, Pair, Turn, report


def pair(agreement=1.0, before_s=0.01, candidate_s=0.01, name="a", failed=(False, False)) -> Pair:
    before, candidate = Turn(before_s, "cat", failed[0]), Turn(candidate_s, "dog", failed[1])
    return Pair(name, 1.8e9, agreement, before, candidate)


def test_the_worst_come_first_and_no_list_is_too_long():
    pairs = [pair(agreement=i / 200, candidate_s=0.01 * (1 + i / 100), name=str(i)) for i in range(201)]
    found = report("m", (1, 2), pairs, 3, Limits())
    assert [one.request_id for one in found.differing] == [str(i) for i in range(SHOWN)]
    assert found.differ == 200
    assert [one.request_id for one in found.slower] == [str(i) for i in range(200, 100, -1)]
    assert found.slower_count == 151
    assert found.agreement == pytest.approx(0.5)
    assert found.slowdown == pytest.approx(2.0)
    assert found.slowdown_p99 == pytest.approx(2.98)
    assert found.before.speed.median_s == pytest.approx(0.01)
    said = report_text(found.model_dump(mode="json"))
    assert said.splitlines()[:2] == [
        "m/2 against m/1, on 201 captured requests: 1 answers are the same, agreement 0.5000.",
        "3 more could not be read.",
    ]
    assert "and 190 more" in said
    assert "and 141 more" in said


@pytest.mark.parametrize(
    ("limits", "unmet"),
    [
        (Limits(), 0),
        (Limits(min_agreement=0.5, max_slowdown=2.0), 0),
        (Limits(min_agreement=0.51), 1),
        (Limits(max_slowdown=1.9), 1),
        (Limits(min_agreement=0.9, max_slowdown=1.0), 2),
    ],
)
def test_limits_are_kept_or_not(limits, unmet):
    pairs = [pair(agreement=agreement, candidate_s=0.02) for agreement in (0.0, 1.0)]
    assert len(report("m", (1, 2), pairs, 0, limits).unmet) == unmet


def test_what_failed_says_nothing_of_speed():
    pairs = [pair(), pair(agreement=0.0, candidate_s=9.0, failed=(False, True))]
    found = report("m", (1, 2), pairs, 0, Limits())
    assert (found.before.failed, found.candidate.failed, found.slowdown) == (0, 1, 1.0)
    found = report("m", (1, 2), pairs[1:], 0, Limits(max_slowdown=2.0))
    assert (found.slowdown, len(found.unmet)) == (None, 1)
    assert "-" in report_text(found.model_dump(mode="json"))
    with pytest.raises(ValueError, match="at least one"):
        report("m", (1, 2), [], 0, Limits())
