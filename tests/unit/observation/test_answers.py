"""What is remembered of answers: bounded in number, bytes and age, and nothing of a request."""

from __future__ import annotations

import numpy as np
import pytest

from serving.monitoring.score import Score
from serving.observation.answers import OVERHEAD, Answers, Judged, Remembered

RIGHT = Score("accuracy", 1.0)


def answer(at_s: float = 0.0, gist=7) -> Remembered:
    return Remembered(None, "", at_s, gist)


def test_the_oldest_goes_when_there_are_too_many():
    answers = Answers(2, 10**6, 900.0)
    for name in (b"a", b"b", b"c"):
        answers.keep(name, answer())
    assert [answers.find(name, 0.0) is not None for name in (b"a", b"b", b"c")] == [False, True, True]


def test_the_oldest_goes_when_they_take_too_many_bytes_and_none_is_counted_twice():
    answers = Answers(1000, 20_000, 900.0)
    for i in range(100):
        answers.keep(b"%d" % i, answer(gist=np.zeros(100)))
        assert answers.bytes <= 20_000
    kept = answers.count(0.0)
    assert answers.bytes == pytest.approx(kept * (OVERHEAD + 800), rel=0.2)
    answers.keep(b"large", answer(gist=b"x" * 30_000))
    assert (answers.count(0.0), answers.bytes) == (0, 0), "what is larger than all that may be is not kept"


def test_what_is_too_old_is_not_found_and_goes_when_they_are_counted():
    answers = Answers(1000, 10**6, 60.0)
    answers.keep(b"a", answer(at_s=100.0))
    answers.keep(b"b", answer(at_s=140.0))
    assert answers.find(b"a", 160.0) is not None
    assert answers.find(b"a", 161.0) is None
    assert answers.count(161.0) == 1
    assert answers.count(1000.0) == 0
    assert answers.bytes == 0


def test_of_two_with_one_id_the_later_one_counts():
    answers = Answers(10, 10**6, 60.0)
    answers.keep(b"a", answer(gist=1))
    answers.keep(b"b", answer())
    answers.keep(b"a", answer(gist=2))
    assert answers.find(b"a", 0.0).gist == 2
    assert answers.count(0.0) == 2


def test_a_score_takes_the_gist_s_place_unless_the_answer_is_gone():
    answers = Answers(1, 10**6, 60.0)
    first = answer(gist=b"x" * 1000)
    answers.keep(b"a", first)
    answers.judge(b"a", first, b"digest", RIGHT)
    judged = answers.find(b"a", 0.0)
    assert isinstance(judged, Judged)
    assert (judged.score, judged.truth) == (RIGHT, b"digest")
    assert answers.bytes < 1000
    answers.keep(b"b", answer())
    answers.judge(b"a", first, b"digest", RIGHT)
    assert answers.find(b"a", 0.0) is None
