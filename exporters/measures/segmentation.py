"""Measures of class maps, all from one confusion matrix over the pixels of all pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from exporters.measures.measured import rounded
from serving.repository.manifest import Table
from serving.tensors import Array


def pixel_confusion(found: Iterable[Array], truth: Iterable[Array], class_count: int) -> Array:
    """int64 [classes, classes] of pairs of class maps of one shape: true class by row, found class by column.

    ValueError: maps of other shapes than their truth, or classes that there are not.
    """
    matrix = np.zeros((class_count, class_count), np.int64)
    for one, true in zip(found, truth, strict=True):
        if one.shape != true.shape:
            raise ValueError(f"A class map of {list(one.shape)} was found where the truth is {list(true.shape)}.")
        matrix += _of_picture(one, true, class_count)
    return matrix


# scikit-learn's confusion_matrix sorts labels and builds a sparse matrix, which takes a hundred times as long.
def _of_picture(found: Array, truth: Array, class_count: int) -> Array:
    highest = max(int(found.max(initial=0)), int(truth.max(initial=0)))
    if highest >= class_count:
        raise ValueError(f"Class {highest} is on a map of {class_count} classes.")
    pairs = truth.ravel().astype(np.int64) * class_count + found.ravel()
    return np.bincount(pairs, minlength=class_count**2).reshape(class_count, class_count)


def iou_by_class(matrix: Array) -> Array:
    """Intersection over union of each class, float64 [classes]; NaN for classes that are neither found nor there."""
    right, found, true = _counts(matrix)
    return _ratio(right, found + true - right)


def dice_by_class(matrix: Array) -> Array:
    """Dice of each class, which is F1 of its pixels; NaN for classes that are neither found nor there."""
    right, found, true = _counts(matrix)
    return _ratio(2 * right, found + true)


def mean_of_present(by_class: Array) -> float:
    """The mean over classes that are found or there; NaN when there are none."""
    present = by_class[~np.isnan(by_class)]
    return float(present.mean()) if present.size else float("nan")


def pixel_accuracy(matrix: Array) -> float:
    """Share of pixels that have their class; NaN without pixels."""
    return float(np.trace(matrix) / matrix.sum()) if matrix.any() else float("nan")


def per_class_table(matrix: Array, labels: Sequence[str]) -> Table:
    """IoU, Dice and true pixels of each class that is found or there."""
    figures = zip(labels, iou_by_class(matrix), dice_by_class(matrix), matrix.sum(axis=1), strict=True)
    rows = tuple((a, rounded(iou), rounded(dice), int(n)) for a, iou, dice, n in figures if not np.isnan(iou))
    return Table(columns=("class", "iou", "dice", "pixels"), rows=rows)


def _counts(matrix: Array) -> tuple[Array, Array, Array]:
    return np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio
