"""Drift: the measures by hand, thresholds by simulation, and shifted data that raise the alert of the right feature."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from sklearn.datasets import load_digits

from serving.monitoring.drift import (
    FALSE_ALARMS,
    LEAST_ROWS,
    MAJOR_SHIFT,
    MARGIN,
    chi_square,
    jensen_shannon,
    judge,
    kolmogorov_smirnov,
    psi,
    threshold,
)
from serving.monitoring.features import row_features
from serving.monitoring.picture_features import picture_features
from serving.monitoring.reference import columns_of, make_bins, make_reference
from serving.monitoring.windows import Layout, Window

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=20).filter(
    lambda pairs: all(sum(column) > 0 for column in zip(*pairs, strict=True))
)


def arrays(*counts):
    return [np.array(one, float) for one in counts]


def test_the_measures_by_hand():
    same, half, all_first = [50, 50], [75, 25], [100, 0]
    assert psi(*arrays(same, same)) == 0
    p, q = 75.5 / 101, 0.5
    by_hand = (p - q) * math.log(p / q) + ((1 - p) - q) * math.log((1 - p) / q)
    assert psi(*arrays(same, half)) == pytest.approx(by_hand)
    assert kolmogorov_smirnov(*arrays(same, half)) == 0.25
    assert kolmogorov_smirnov(*arrays([10, 0, 0], [0, 0, 7])) == 1
    assert jensen_shannon(*arrays(all_first, [0, 100])) == pytest.approx(1, abs=0.06), "but for the smoothing"
    assert jensen_shannon(*arrays(same, same)) == 0


@given(COUNTS)
def test_the_measures_are_what_they_are_called(pairs):
    one, other = np.array(pairs, float).T
    assert 0 <= psi(one, other) == pytest.approx(psi(other, one))
    assert -1e-12 <= jensen_shannon(one, other) <= 1
    assert 0 <= kolmogorov_smirnov(one, other) <= 1 + 1e-9
    assert jensen_shannon(one, other) <= psi(one, other), "Jeffreys' divergence bounds it"


@pytest.mark.parametrize("freedom", [1, 3, 9, 20])
@pytest.mark.parametrize("tail", [0.01, 0.001, 0.0003])
def test_chi_square_is_a_few_percent_off_at_most_and_not_too_small(freedom, tail):
    assert 0.99 < chi_square(freedom, tail) / chi2.isf(tail, freedom) < 1.06


def test_the_threshold_falls_with_rows_to_what_is_called_a_major_shift():
    assert threshold(10, 10**6, 10**6, 0.001) == MAJOR_SHIFT
    few = [threshold(10, 100, rows, 0.001) for rows in (100, 200, 1000)]
    assert few == sorted(few, reverse=True)
    assert few[0] == pytest.approx(MARGIN * chi2.isf(0.001, 9) * 2 / 100, rel=0.03)
    assert threshold(10, 100, 100, 0.0001) > few[0]
    assert threshold(20, 100, 100, 0.001) > few[0]
    assert threshold(10, 0, 100, 0.001) == math.inf


def test_too_few_rows_are_not_judged():
    bins = make_bins([float(i) for i in range(100)])
    assert judge(bins, [LEAST_ROWS - 1, 0, 0, 0, 0], 1) is None
    found = judge(bins, [LEAST_ROWS, 0, 0, 0, 0], 1)
    assert found is not None
    assert (found.rows, found.alert) == (LEAST_ROWS, True)
    assert judge(make_bins(["a", "b"] * 50), [80, 80, 0], 1).ks is None, "kinds have no order"


KINDS = 1 / np.arange(1, 41) ** 1.2
SOURCES: dict[str, Callable] = {
    "numbers": lambda chance, rows: chance.standard_normal(rows).tolist(),
    "counts": lambda chance, rows: chance.poisson(0.7, rows).astype(float).tolist(),
    "kinds": lambda chance, rows: [f"kind {i}" for i in chance.choice(40, rows, p=KINDS / KINDS.sum())],
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("reference_rows", "window_rows"), [(40, 1000), (300, 300), (1000, 100)])
def test_one_window_in_a_hundred_gives_a_false_alarm_at_most(source, reference_rows, window_rows):
    """Of a version with 16 features. More of them, and real data: tests/promises/test_false_alarms.py."""
    chance, draw, features = np.random.default_rng(7), SOURCES[source], 16
    references, windows, alarms = 150, 20, 0
    whole = draw(chance, 4000)
    for _ in range(references):
        bins = next(filter(None, (make_bins(draw(chance, reference_rows)) for _ in range(100))))
        shares = np.bincount([bins.place(value) for value in whole], minlength=len(bins.counts)) / len(whole)
        for counts in chance.multinomial(window_rows, shares, windows):
            alarms += judge(bins, counts, features).alert
    assert alarms / (references * windows) * features <= FALSE_ALARMS * 1.1  # 2 alarms are still chance


def alerts_of(usual: list, now: list) -> set[str]:
    """The features that give an alert when a window has seen `now`, and `usual` is the reference."""
    layout = Layout(make_reference(len(usual), columns_of(usual), {}).inputs)
    window = Window(layout)
    for i, features in enumerate(now):
        window.add(layout.places(features), i * 0.05)
    counts = layout.split(window.counts(len(now) * 0.05))
    found = {name: judge(bins, counts[name], len(layout.bins)) for name, bins in layout.bins.items()}
    return {name for name, finding in found.items() if finding and finding.alert}


PICTURES = [np.kron(one, np.ones((4, 4))).astype(np.uint8) * 15 for one in load_digits().images]
PICTURES = [np.asarray(PIL.Image.fromarray(one).filter(PIL.ImageFilter.SMOOTH))[..., np.newaxis] for one in PICTURES]
LABELS = load_digits().target


def looked_at(pictures):
    return [picture_features(one) for one in pictures]


def blurred(pixels):
    return np.asarray(PIL.Image.fromarray(pixels[..., 0]).filter(PIL.ImageFilter.GaussianBlur(1)))[..., np.newaxis]


def test_pictures_as_they_were_give_no_alert_and_shifted_ones_the_right_one():
    usual, later = looked_at(PICTURES[::2]), PICTURES[1::2]
    assert alerts_of(usual, looked_at(later)) == set()
    assert "brightness" in alerts_of(usual, looked_at([one // 4 * 3 for one in later]))
    # Blur is told from sharpness first; what it does to contrast may show too, what it does to brightness does not.
    assert {"sharpness"} <= alerts_of(usual, looked_at(map(blurred, later))) <= {"sharpness", "contrast"}


def test_another_mix_of_categories_is_the_alert_of_the_class_alone():
    chance = np.random.default_rng(3)

    def answers(labels):
        return [{"reply_class": str(label), "reply_score": chance.beta(8, 2)} for label in labels]

    usual = answers(LABELS[::2])
    assert alerts_of(usual, answers(LABELS[1::2])) == set()
    mixed = [label for label in LABELS[1::2] if label in (0, 1, 2) or chance.random() < 0.3]
    assert alerts_of(usual, answers(mixed)) == {"reply_class"}


def houses(chance, decade: int, rows: int) -> list:
    """Houses as they are sold in a decade after 2000: dearer, of the same kinds; the newest are younger."""
    size = chance.lognormal(7.4, 0.35, rows)
    built = 2000 + 10 * decade - chance.gamma(2, 18, rows)
    price = size * 180 * 1.45**decade * chance.lognormal(0, 0.25, rows)
    town = chance.choice(["Ames", "Boone", "Nevada"], rows, p=[0.6, 0.25, 0.15])
    kind = chance.choice(["detached", "flat", "terrace"], rows, p=[0.7, 0.2, 0.1])
    columns = zip(size, built, price, town, kind, chance.integers(1, 6, rows), chance.random(rows), strict=True)
    names = ("sqft", "built", "price", "town", "kind", "bedrooms")
    return [row_features({**dict(zip(names, row, strict=False)), "lot": None if gone < 0.1 else row[0] * 3})
            for *row, gone in columns]  # fmt: skip


def test_another_decade_of_houses_is_the_alert_of_their_prices_and_years_alone():
    chance = np.random.default_rng(11)
    usual = houses(chance, 0, 1000)
    assert alerts_of(usual, houses(chance, 0, 1000)) == set()
    assert alerts_of(usual, houses(chance, 1, 1000)) == {"price", "built"}


def test_columns_that_go_missing_are_an_alert():
    chance = np.random.default_rng(12)
    usual, later = houses(chance, 0, 1000), houses(chance, 0, 1000)
    gone = [{**row, "missing_share": row["missing_share"] + 1 / 7} for row in later]
    assert alerts_of(usual, gone) == {"missing_share"}
