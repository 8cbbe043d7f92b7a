"""Whether a probability of 0.8 is right in 80 of 100 cases.

Source: C. Guo, G. Pleiss, Y. Sun, K. Weinberger, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from exporters.measures.measured import rounded
from serving.repository.manifest import Table
from serving.tensors import Array

BINS: Final = 15  # of equal width, as in the source


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose highest probability lies in (low, high]. The means are None where there are no rows."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


# scikit-learn's calibration_curve knows two classes only, and leaves out how many rows a bin has.
def reliability(probabilities: Array, targets: Array) -> tuple[Bin, ...]:
    """The bins of float32 [N, classes] and int64 [N] by the probability of the most probable class."""
    confidences = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    edges = np.linspace(0, 1, BINS + 1)
    places = np.clip(np.digitize(confidences, edges, right=True) - 1, 0, BINS - 1)
    return tuple(_bin(edges, i, confidences[places == i], right[places == i]) for i in range(BINS))


def _bin(edges: Array, number: int, confidences: Array, right: Array) -> Bin:
    low, high, rows = float(edges[number]), float(edges[number + 1]), len(right)
    if not rows:
        return Bin(low, high, 0, None, None)
    return Bin(low, high, rows, float(confidences.mean()), float(right.mean()))


def expected_calibration_error(probabilities: Array, targets: Array) -> float:
    """The distance between confidence and accuracy, the mean over the rows: 0 is best, 1 is worst."""
    bins = reliability(probabilities, targets)
    return sum(abs((b.confidence or 0.0) - (b.accuracy or 0.0)) * b.rows for b in bins) / len(targets)


def brier_score(probabilities: Array, targets: Array) -> float:
    """Squared distance of the probabilities from the truth, summed over classes, the mean over rows: 0 to 2."""
    from sklearn.metrics import brier_score_loss

    classes = np.arange(probabilities.shape[1])
    return float(brier_score_loss(targets, probabilities, labels=classes, scale_by_half=False))


def reliability_table(probabilities: Array, targets: Array) -> Table:
    """The bins that have rows."""
    rows = tuple(
        (rounded(b.low), rounded(b.high), rounded(b.confidence), rounded(b.accuracy), b.rows)
        for b in reliability(probabilities, targets)
        if b.rows
    )
    return Table(columns=("above", "up_to", "mean_confidence", "accuracy", "rows"), rows=rows)
