"""Evidence that may be looked at after every block: what it is worth, and how often it is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.evidence import (
    OtherKind,
    Sample,
    WorseThanLimit,
    WorseThanOther,
    mean_evidence,
    upper_bound,
    with_groups,
)

TRIALS = 200
BLOCKS = 40
ALPHA = 0.05


def share_accused(trial: Callable[[np.random.Generator], float]) -> float:
    """Of so many trials, the share whose evidence was ever enough at ALPHA. `trial` gives the most it ever was."""
    most = [trial(np.random.default_rng(seed)) for seed in range(TRIALS)]
    return float(np.mean([one >= math.log(1 / ALPHA) for one in most]))


def drawn(chance: np.random.Generator, rate: float, bad: float) -> Sample:
    rows = chance.poisson(rate)
    return Sample(rows, chance.binomial(rows, bad))


def beside(chance: np.random.Generator, ours: float, theirs: float, share: float = 0.5) -> float:
    test, most = WorseThanOther(), -math.inf
    for _ in range(BLOCKS):
        test.add(drawn(chance, 50 * share, ours), drawn(chance, 50 * (1 - share), theirs))
        most = max(most, test.log_e)
    return most


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("bad", [0.0, 0.01, 0.3])
def test_a_version_that_is_no_worse_is_hardly_ever_accused_however_often_one_looks(bad, share):
    assert share_accused(lambda chance: beside(chance, bad, bad, share)) <= ALPHA
    assert share_accused(lambda chance: beside(chance, bad / 2, bad, share)) <= ALPHA / 2


def test_times_may_be_bad_for_both():
    """Half of all fails for a while, of both: nobody is accused."""

    def trial(chance: np.random.Generator) -> float:
        test, most = WorseThanOther(), -math.inf
        for block in range(BLOCKS):
            bad = 0.5 if 10 <= block < 25 else 0.01
            test.add(drawn(chance, 25, bad), drawn(chance, 25, bad))
            most = max(most, test.log_e)
        return most

    assert share_accused(trial) <= ALPHA


def test_a_version_that_is_worse_is_found_out():
    assert share_accused(lambda chance: beside(chance, 0.05, 0.0)) > 0.99
    assert share_accused(lambda chance: beside(chance, 0.45, 0.3)) > 0.8


def test_looking_at_each_row_and_at_all_together_are_both_allowed():
    """Blocks may be of any size: of one row, evidence comes as well."""
    test = WorseThanOther()
    for _ in range(12):
        test.add(Sample(1, 1), Sample(1, 0))
    assert test.log_e > math.log(100)


@pytest.mark.parametrize("limit", [0.001, 0.1, 0.5])
def test_a_limit_that_is_kept_is_not_said_to_be_broken(limit):
    def trial(chance: np.random.Generator) -> float:
        test, most = WorseThanLimit(limit), -math.inf
        for _ in range(BLOCKS):
            test.add(drawn(chance, 25, limit))
            most = max(most, test.log_e)
        return most

    assert share_accused(trial) <= ALPHA


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.9))
def test_badness_in_between_is_evidence_of_no_more_than_all_or_nothing(values, limit):
    """By convexity: the factor of a value is below the mean of those of 0 and 1 by that value's weight."""
    factors = []
    for value in (0.0, 1.0):
        test = WorseThanLimit(limit)
        test.add(Sample(1, value))
        factors.append(math.exp(test.log_e))
    for value in values:
        test = WorseThanLimit(limit)
        test.add(Sample(1, value))
        assert math.exp(test.log_e) <= (1 - value) * factors[0] + value * factors[1] + 1e-9


def kinds(chance: np.random.Generator, ours: np.ndarray, theirs: np.ndarray) -> float:
    test, most = OtherKind.of(len(ours)), -math.inf
    for _ in range(BLOCKS):
        candidate, other = (chance.multinomial(chance.poisson(20), shares) for shares in (ours, theirs))
        test.add(candidate.astype(float), other.astype(float))
        most = max(most, test.log_e)
    return most


def test_inputs_of_one_kind_are_not_told_apart():
    even, steep = np.full(10, 0.1), np.array([0.55, *[0.05] * 9])
    assert share_accused(lambda chance: kinds(chance, even, even)) <= ALPHA
    assert share_accused(lambda chance: kinds(chance, steep, steep)) <= ALPHA
    assert share_accused(lambda chance: kinds(chance, even, steep)) > 0.99


def test_blocks_of_one_side_alone_say_nothing():
    beside_other, kind = WorseThanOther(), OtherKind.of(2)
    beside_other.add(Sample(100, 100), Sample(0, 0))
    kind.add(np.array([100.0, 0.0]), np.zeros(2))
    assert beside_other.log_e == pytest.approx(0)
    assert kind.log_e == 0


@given(st.integers(1, 10_000), st.floats(0, 1), st.sampled_from([0.1, 0.01, 0.0001]))
def test_the_upper_bound_is_above_what_was_seen_and_falls_with_more_of_it(rows, share, chance):
    bound = upper_bound(Sample(rows, share * rows), chance)
    assert share - 1e-9 <= bound <= 1
    assert upper_bound(Sample(rows * 2, share * rows * 2), chance) <= bound + 1e-9
    assert upper_bound(Sample(0, 0), chance) == 1


def test_the_upper_bound_holds_as_often_as_it_says():
    chance = np.random.default_rng(0)
    missed = [upper_bound(Sample(200, chance.binomial(200, 0.03)), ALPHA) < 0.03 for _ in range(1000)]
    assert np.mean(missed) <= ALPHA


def test_several_tests_as_one_cost_the_logarithm_of_their_number():
    assert mean_evidence([]) == 0
    assert mean_evidence([5.0, 5.0]) == pytest.approx(5)
    assert mean_evidence([8.0, -50.0]) == pytest.approx(8 - math.log(2))
    assert with_groups(0.0, [10.0], 32) == pytest.approx(10 - math.log(64), abs=0.01)
    assert with_groups(10.0, [], 32) == pytest.approx(10 - math.log(2), abs=0.01)
