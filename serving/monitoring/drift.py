"""How far a window of requests lies from its reference, by counts in the same bins. All functions are pure.

PSI: sum of (p - q) ln(p / q). With n reference rows and m of the window, of one source, n m / (n + m) PSI is about
chi-square distributed with a degree of freedom less than bins, since to second order PSI is Pearson's statistic of
homogeneity. From there comes the threshold: of all features of a version together one window in a hundred gives a
false alarm at most, by Bonferroni, and with a MARGIN, as the tails are longer where bins hold few rows (simulated in
tests/unit/monitoring/test_drift.py). A difference that is sure and yet small is none to be woken for, so a threshold is
never below what is usually called a major shift, 0.2.

Sources: B. Yurdakul, Statistical properties of population stability index, Western Michigan University 2018; J. Lin,
Divergence measures based on the Shannon entropy, https://doi.org/10.1109/18.61115
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from serving.monitoring.reference import Bins, Numbers
from serving.tensors import Array

SMOOTHED: Final = 0.5  # added to each count, as Jeffreys' prior has it: no bin is empty
MAJOR_SHIFT: Final = 0.2
FALSE_ALARMS: Final = 0.01  # of windows of a version, all its features together
MARGIN: Final = 1.25
LEAST_ROWS: Final = 100  # of a window that is judged


@dataclass(frozen=True, slots=True)
class Finding:
    """How far a feature has drifted. js: from 0 to 1; ks: None of kinds, which have no order. threshold: of psi.

    rows: of the window that have the feature.
    """

    psi: float
    js: float
    ks: float | None
    threshold: float
    rows: int

    @property
    def alert(self) -> bool:
        return self.psi > self.threshold


def judge(bins: Bins, window: Sequence[int] | Array, features: int) -> Finding | None:
    """A window's counts against those of the reference; None while there are fewer than LEAST_ROWS.

    features: of the version that are judged beside each other, this one included.
    """
    reference, counts = np.asarray(bins.counts, np.float64), np.asarray(window, np.float64)
    rows = int(counts.sum())
    if rows < LEAST_ROWS:
        return None
    return Finding(
        psi=psi(reference, counts),
        js=jensen_shannon(reference, counts),
        ks=kolmogorov_smirnov(reference, counts) if isinstance(bins, Numbers) else None,
        threshold=threshold(len(counts), int(reference.sum()), rows, FALSE_ALARMS / features),
        rows=rows,
    )


def psi(reference: Array, window: Array) -> float:
    """The population stability index of counts [bins] each: 0 for the same shares."""
    q, p = _shares(reference), _shares(window)
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(reference: Array, window: Array) -> float:
    """The Jensen-Shannon divergence of counts [bins] each, in bits: 0 for the same shares, at most 1."""
    q, p = _shares(reference), _shares(window)
    middle = (p + q) / 2
    return float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2)


def kolmogorov_smirnov(reference: Array, window: Array) -> float:
    """The largest difference of cumulative shares, of counts [bins] each, at the bins' edges: from 0 to 1."""
    q, p = reference / max(1.0, reference.sum()), window / max(1.0, window.sum())
    return float(np.abs(np.cumsum(p) - np.cumsum(q)).max())


def threshold(bins: int, reference_rows: int, window_rows: int, false_alarms: float) -> float:
    """The PSI that a share `false_alarms` of unshifted windows exceeds, or MAJOR_SHIFT where that is more."""
    if not reference_rows or not window_rows:
        return math.inf
    chance = MARGIN * chi_square(bins - 1, false_alarms) * (1 / reference_rows + 1 / window_rows)
    return max(MAJOR_SHIFT, chance)


def chi_square(freedom: int, tail: float) -> float:
    """What a chi-square variable exceeds with probability `tail`, by Wilson and Hilferty's cube, a percent or two off
    for small tails. Source: https://doi.org/10.1073/pnas.17.12.684
    """
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    cube: float = 1 - spread + NormalDist().inv_cdf(1 - tail) * math.sqrt(spread)
    return float(freedom * cube**3)


def _shares(counts: Array) -> Array:
    smoothed = counts + SMOOTHED
    shares: Array = smoothed / smoothed.sum()
    return shares
