"""What all models of class maps share: their measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from exporters.family import Predict
from exporters.measures.measured import PER_CLASS, Measured
from exporters.measures.segmentation import (
    dice_by_class,
    iou_by_class,
    mean_of_present,
    per_class_table,
    pixel_accuracy,
    pixel_confusion,
)
from serving.picture_task import PIXELS
from serving.repository.manifest import Metric
from serving.tensors import Array


def segmentation_measures(predict: Predict, pixels: Array, truth: Array, labels: Sequence[str]) -> Measured:
    """Mean IoU, mean Dice and pixel accuracy beside a map of nothing but the most frequent class, and `per_class`.

    pixels: uint8 [N, height, width, 3]; truth: uint8 [N, h, w], as large as the graph's class maps. With labels
    `background` and one more, `foreground_iou` is that one's.
    """
    counts, rows = len(labels), len(truth)
    matrix = pixel_confusion(predict({PIXELS: pixels})["class_map"], truth, counts)
    plain = np.zeros_like(matrix)
    plain[:, matrix.sum(axis=1).argmax()] = matrix.sum(axis=1)
    measures: dict[str, Callable[[Array], float]] = {
        "mean_iou": lambda m: mean_of_present(iou_by_class(m)),
        "mean_dice": lambda m: mean_of_present(dice_by_class(m)),
        "pixel_accuracy": pixel_accuracy,
    }
    if counts == 2 and labels[0] == "background":
        measures["foreground_iou"] = lambda m: float(np.nan_to_num(iou_by_class(m)[1]))
    name = "the most frequent class everywhere"
    metrics = {
        key: Metric(value=measure(matrix), rows=rows, baseline=measure(plain), baseline_name=name)
        for key, measure in measures.items()
    }
    return Measured(metrics, {PER_CLASS: per_class_table(matrix, labels)})
