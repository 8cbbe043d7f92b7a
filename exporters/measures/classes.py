"""Measures of classification: by class, and their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporters.measures.measured import rounded
from serving.repository.manifest import Table
from serving.tensors import Array


def accuracy(probabilities: Array, targets: Array) -> float:
    """Share of rows of float32 [N, classes] whose most probable class is the target, int64 [N]."""
    return float((probabilities.argmax(axis=1) == targets).mean())


def top_k_accuracy(probabilities: Array, targets: Array, k: int) -> float:
    """Share of rows whose target is among the k most probable classes."""
    from sklearn.metrics import top_k_accuracy_score

    classes = np.arange(probabilities.shape[1])
    return float(top_k_accuracy_score(targets, probabilities, k=k, labels=classes))


def macro_f1(found: Array, targets: Array, class_count: int) -> float:
    """The mean of the classes' F1, each class counting alike; classes that are neither found nor there are left out."""
    from sklearn.metrics import f1_score

    present = np.union1d(found, targets)
    present = present[present < class_count]
    return float(f1_score(targets, found, labels=present, average="macro", zero_division=0.0))


def confusion(found: Array, targets: Array, class_count: int) -> Array:
    """int64 [classes, classes]: how many rows of the target (row) were given to a class (column)."""
    from sklearn.metrics import confusion_matrix

    matrix: Array = confusion_matrix(targets, found, labels=np.arange(class_count))
    return matrix


def per_class_table(found: Array, targets: Array, labels: Sequence[str]) -> Table:
    """Precision, recall, F1 and support of each class. Precision of a class that is never found is 0."""
    from sklearn.metrics import precision_recall_fscore_support

    classes = np.arange(len(labels))
    figures = precision_recall_fscore_support(targets, found, labels=classes, zero_division=0.0)
    rows = tuple(
        (label, rounded(precision), rounded(recall), rounded(f1), int(support))
        for label, precision, recall, f1, support in zip(labels, *figures, strict=True)
    )
    return Table(columns=("class", "precision", "recall", "f1", "support"), rows=rows)


def confusion_table(found: Array, targets: Array, labels: Sequence[str]) -> Table:
    """The confusion matrix, a row for each target."""
    counts = confusion(found, targets, len(labels))
    rows = tuple((label, *map(int, row)) for label, row in zip(labels, counts, strict=True))
    return Table(columns=("class", *labels), rows=rows)
