"""Beam search against every text that there is, against greedy search, and where it must stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.beam_search import Beams, Hypothesis, log_probabilities

Model = Callable[[Sequence[int]], np.ndarray]
END = 0


def search(model: Model, num_beams: int, most: int, end: int = END) -> Hypothesis:
    beams = Beams.begin(num_beams, end, most)
    while not beams.done:
        assert len(beams.tokens) <= num_beams
        beams = beams.step(np.stack([model(row) for row in beams.tokens.tolist()]))
    return beams.best


def table(seed: int, vocabulary: int) -> Model:
    """Logits of a prefix: random, the same each time."""

    def logits(prefix: Sequence[int]) -> np.ndarray:
        return np.random.default_rng([seed, *prefix]).normal(0, 2, vocabulary).astype(np.float32)

    return logits


def score(model: Model, tokens: Sequence[int]) -> float:
    rows = log_probabilities(np.stack([model(tokens[:i]) for i in range(len(tokens))]))
    return float(rows[np.arange(len(tokens)), list(tokens)].mean())


def every_text(vocabulary: int, most: int) -> list[tuple[int, ...]]:
    """Those that end, up to the longest, and those that are cut there."""
    others = [token for token in range(vocabulary) if token != END]
    ended = [(*text, END) for length in range(most) for text in itertools.product(others, repeat=length)]
    return [*ended, *itertools.product(others, repeat=most)]


@given(seed=st.integers(0, 2**32), vocabulary=st.integers(2, 4), most=st.integers(1, 4))
def test_wide_beams_find_the_best_of_all_texts(seed, vocabulary, most):
    model = table(seed, vocabulary)
    texts = every_text(vocabulary, most)
    best = max(texts, key=lambda text: score(model, text))
    found = search(model, len(texts), most)
    assert found.tokens == best
    assert found.score == pytest.approx(score(model, best), abs=1e-6)


@given(seed=st.integers(0, 2**32), vocabulary=st.integers(2, 9), most=st.integers(1, 6))
def test_one_beam_is_greedy_search(seed, vocabulary, most):
    model = table(seed, vocabulary)
    tokens: list[int] = []
    while len(tokens) < most and END not in tokens:
        tokens.append(int(model(tokens).argmax()))
    found = search(model, 1, most)
    assert found.tokens == tuple(tokens)
    assert found.score == pytest.approx(score(model, tokens), abs=1e-6)


@given(seed=st.integers(0, 2**32), num_beams=st.integers(1, 8), most=st.integers(1, 6))
def test_a_text_says_its_own_score_whatever_the_width(seed, num_beams, most):
    model = table(seed, 6)
    found = search(model, num_beams, most)
    assert found.score == pytest.approx(score(model, found.tokens), abs=1e-6)
    assert END not in found.tokens[:-1]
    assert len(found.tokens) == most or found.tokens[-1] == END


def told(chances: dict[tuple[int, ...], Sequence[float]]) -> Model:
    """The logarithms of the next token's chances, by prefix."""

    def logits(prefix: Sequence[int]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.float32(chances[tuple(prefix)]))

    return logits


def test_two_beams_find_what_greedy_search_passes_by():
    """The likelier first token leads to less likely texts."""
    model = told({(): [0, 0.6, 0.4], (1,): [0.5, 0.25, 0.25], (2,): [1, 0, 0], (1, 1): [1, 0, 0], (1, 2): [1, 0, 0]})
    greedy, wide = search(model, 1, 3), search(model, 2, 3)
    assert greedy.tokens == (1, END)
    assert wide.tokens == (2, END)
    assert wide.score == pytest.approx(np.log(0.4) / 2)
    assert wide.score > greedy.score


def test_scores_are_means_so_that_a_longer_text_may_win():
    """By its sum the shorter one would: .4 against .6 * .6 * .99."""
    model = told({(): [0.4, 0.6], (1,): [0.01, 0.99], (1, 1): [0.6, 0.4], (1, 1, 1): [1, 0]})
    assert search(model, 3, 4).tokens == (1, 1, END)


@pytest.mark.parametrize("num_beams", [1, 2, 3, 8])
def test_what_is_equally_likely_goes_by_its_number(num_beams):
    flat = np.zeros(5, np.float32)
    beams = Beams.begin(num_beams, end=4, most=3).step(flat[np.newaxis])
    assert beams.tokens.ravel().tolist() == [0, 1, 2, 3][:num_beams]
    beams = beams.step(np.stack([flat] * len(beams.tokens)))
    assert beams.tokens.tolist() == [list(text) for text in itertools.product(range(4), repeat=2)][:num_beams]


@pytest.mark.parametrize(("num_beams", "tokens"), [(1, (0, 0, 0)), (4, (0, 0, 0)), (5, (4,))])
def test_of_texts_that_are_equally_likely_the_one_that_ended_first_wins(num_beams, tokens):
    assert search(lambda _: np.zeros(5, np.float32), num_beams, 3, end=4).tokens == tokens


def test_what_may_not_come_does_not():
    model = told({(): [0, 1, 0], (1,): [0, 0, 1], (1, 2): [1, 0, 0]})
    found = search(model, 8, 5)
    assert found == Hypothesis((1, 2, END), 0.0)


def test_it_ends_when_as_many_texts_have_ended_as_there_are_beams():
    """generate()'s early stopping: the third text, which would be the best, is not waited for."""
    model = told({(): [0.4, 0.6], (1,): [0.45, 0.55], (1, 1): [0, 1], (1, 1, 1): [1, 0]})
    assert search(model, 2, 5).tokens == (1, END)
    assert search(model, 3, 5).tokens == (1, 1, 1, END)


def test_an_end_that_is_not_among_the_likeliest_does_not_count():
    model = told({(): [0.2, 0.5, 0.3], (1,): [1, 0, 0], (2,): [1, 0, 0]})
    beams = Beams.begin(2, END, 4).step(model([])[np.newaxis])
    assert beams.closed == ()
    assert beams.tokens.tolist() == [[1], [2]]
