"""What is remembered of answers: bounded in number, bytes and age, and nothing of a request."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.monitoring.score import Score
from serving.observation.answers import OVERHEAD, Answers, Judged, Remembered

RIGHT = Score("accuracy", 1.0)


def answer(gist=7) -> Remembered:
    return Remembered(None, "", gist)


def test_the_oldest_goes_when_there_are_too_many():
    answers = Answers(2, 10**6, 900.0)
    for name in (b"a", b"b", b"c"):
        answers.keep(name, answer(), 0.0)
    assert [answers.find(name, 0.0) is not None for name in (b"a", b"b", b"c")] == [False, True, True]


def test_the_oldest_goes_when_they_take_too_many_bytes_and_none_is_counted_twice():
    answers = Answers(1000, 20_000, 900.0)
    for i in range(100):
        answers.keep(b"%d" % i, answer(np.zeros(100)), 0.0)
        assert answers.size <= 20_000
    kept = answers.count(0.0)
    assert answers.size == pytest.approx(kept * (OVERHEAD + 800), rel=0.2)
    answers.keep(b"large", answer(b"x" * 30_000), 0.0)
    assert answers.find(b"large", 0.0) is None, "what is larger than all that may be is not kept"
    answers.keep(b"half", answer(b"x" * 10_000), 0.0)
    assert answers.find(b"half", 0.0) is not None
    assert answers.size <= 20_000


def test_what_is_too_old_is_not_found_and_goes_when_they_are_counted():
    answers = Answers(1000, 10**6, 64.0)
    answers.keep(b"a", answer(), 100.0)
    answers.keep(b"b", answer(), 140.0)
    assert answers.find(b"a", 164.0) is not None
    assert answers.find(b"a", 164.1) is None
    assert answers.find(b"b", 164.1) is not None
    assert answers.count(164.1) == 1
    assert answers.count(1000.0) == 0
    assert answers.size == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 5), st.integers(0, 3000)), max_size=80), st.integers(1, 70))
def test_the_latest_are_found_and_never_too_many(kept, most):
    answers, now_s = Answers(most, 30_000, 60.0), 0.0
    for name, pause_s, size in kept:
        now_s += pause_s
        answers.keep(b"%d" % name, answer(b"x" * size), now_s)
        assert answers.find(b"%d" % name, now_s).gist == b"x" * size
        assert answers.count(now_s) <= most
        assert answers.size <= 30_000


def test_as_many_are_remembered_as_is_said_but_for_a_part():
    answers = Answers(3200, 10**9, 900.0)
    for i in range(10_000):
        answers.keep(b"%d" % i, answer(), 0.0)
    assert 3100 <= answers.count(0.0) <= 3200
    assert [answers.find(b"%d" % i, 0.0) is not None for i in (9999, 6901, 6500)] == [True, True, False]


def test_of_two_with_one_id_the_later_one_counts():
    for most in (1, 10):
        answers = Answers(most, 10**6, 60.0)
        answers.keep(b"a", answer(1), 0.0)
        answers.keep(b"a", answer(2), 0.0)
        assert answers.find(b"a", 0.0).gist == 2


def test_a_score_takes_the_gist_s_place_unless_the_answer_is_gone():
    answers = Answers(1, 10**6, 60.0)
    first = answer(b"x" * 1000)
    answers.keep(b"a", first, 0.0)
    answers.judge(b"a", first, b"digest", RIGHT, 0.0)
    judged = answers.find(b"a", 0.0)
    assert isinstance(judged, Judged)
    assert (judged.score, judged.truth) == (RIGHT, b"digest")
    assert answers.size < 1000
    answers.keep(b"b", answer(), 0.0)
    answers.judge(b"a", first, b"digest", RIGHT, 0.0)
    assert answers.find(b"a", 0.0) is None
