"""The search for a capacity: against servers whose capacity is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.capacity import BAD, Range, Step, bad_range, measured, search
from loadtests.outcome import Outcome


def step(rate: float, bad: float) -> Step:
    return Step(rate, 10.0, 100, rate, 0.1, 0.0, bad, Range(bad, bad))


@given(st.floats(0.1, 50_000), st.floats(0.01, 0.5))
def test_it_is_found_from_wherever_the_search_begins(capacity, within):
    tried = []

    def measure(rate):
        tried.append(rate)
        return step(rate, 0.0 if rate <= capacity else 0.5)

    found = search(measure, 16.0, within)
    assert found.rate <= capacity < found.above <= found.rate * (1 + within) * (1 + 1e-9)
    assert found.limit is not None
    assert len(tried) < 30


def test_a_server_that_nothing_is_too_much_for_has_no_limit():
    found = search(lambda rate: step(rate, 0.0), 16.0, 0.1, most=1000)
    assert (found.above, found.limit) == (math.inf, None)
    assert found.rate >= 1000


def test_a_server_that_answers_nothing_has_no_capacity():
    assert search(lambda rate: step(rate, 1.0), 16.0, 0.1).rate == 0


@pytest.mark.parametrize(
    ("blocks", "sure", "passed"),
    [
        ([(0, 100)] * 10, True, True),
        ([(0, 10)] * 10, False, True),  # of a hundred, three in a hundred may be bad unseen
        ([(2, 100)] * 10, True, False),
        ([(0, 100)] * 9 + [(20, 100)], False, False),  # all in one block: as likely a hiccup as too much
        ([(0, 100)] * 9 + [(9, 100)], False, True),
    ],
)
def test_how_sure_a_share_is(blocks, sure, passed):
    outcomes = [
        outcome(10 * i + 9.9 * j / count, slow=j < bad) for i, (bad, count) in enumerate(blocks) for j in range(count)
    ]
    found = measured(1.0, 100.0, outcomes, 0.5)
    assert found.range == bad_range(blocks)
    assert (found.sure, found.passed) == (sure, passed)
    assert found.range.low <= found.bad <= found.range.high


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(20, 100)), min_size=10, max_size=10))
def test_the_range_holds_what_was_seen(blocks):
    found = bad_range(blocks)
    assert 0 <= found.low <= sum(bad for bad, _ in blocks) / sum(count for _, count in blocks) <= found.high <= 1


def test_what_was_not_answered_is_bad_and_does_not_count_as_answered():
    outcomes = [outcome(i / 10) for i in range(100)] + [outcome(5.0, code="queue_full")] * 100
    found = measured(20.0, 10.0, outcomes, 0.5)
    assert (found.bad, found.p99_s) == (0.5, 0.1)
    assert found.answered_rate == pytest.approx(10.0, rel=0.01)
    assert found.bad > BAD


def outcome(due_s: float, *, slow: bool = False, code: str = "") -> Outcome:
    return Outcome(due_s, 0.0, 1.0 if slow else 0.1, "classify", "m", 1, 200, code)
