"""Arrivals: as many as the rate says, at times of chance, and the same ones for the same seed."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import Phase, constant, due_times, length_s

phases = st.lists(st.builds(Phase, st.floats(0.1, 20), st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=4)


@given(phases, st.integers(0, 1000))
def test_times_are_in_order_within_the_phases_and_the_same_for_the_same_seed(given_phases, seed):
    times = list(due_times(given_phases, seed))
    assert times == sorted(times)
    assert all(0 <= time_s <= length_s(given_phases) + 1e-9 for time_s in times)
    assert times == list(due_times(given_phases, seed))


@given(st.floats(0.1, 10), st.floats(0, 50), st.floats(0, 50), st.floats(0, 1))
def test_a_phase_reaches_each_count_when_its_rate_has_added_up_to_it(seconds, first, last, share):
    phase = Phase(seconds, first, last)
    count = share * phase.expected
    time_s = phase.when(count)
    if count > 1e-3:
        rate = first + (last - first) * time_s / seconds
        assert (first + rate) / 2 * time_s == pytest.approx(count, rel=1e-3)


def test_a_constant_rate_is_poisson():
    times = list(due_times(constant(100, 200), seed=1))
    gaps = [after - before for before, after in pairwise(times)]
    assert len(times) == pytest.approx(20_000, rel=0.03)
    # Of exponential gaps the spread is as large as the mean; of a metronome it is none.
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)


def test_a_ramp_has_a_quarter_of_its_requests_in_its_first_half():
    times = list(due_times([Phase(100, 0, 200)], seed=2))
    assert sum(time_s < 50 for time_s in times) / len(times) == pytest.approx(0.25, abs=0.02)


def test_sources_together_make_the_whole():
    whole = sum(len(list(due_times(constant(100, 50), seed, share=0.25))) for seed in range(4))
    assert whole == pytest.approx(5000, rel=0.05)


def test_a_phase_without_a_rate_is_a_pause():
    times = list(due_times([Phase(10, 10, 10), Phase(10, 0, 0), Phase(10, 10, 10)], seed=3))
    assert not [time_s for time_s in times if 10 < time_s < 20]
    assert [time_s for time_s in times if time_s > 20]
