"""What all detectors share: their measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from exporters.family import Predict
from exporters.measures.detection import Boxes, average_precision, per_class_table
from exporters.measures.measured import PER_CLASS, Measured
from serving.picture_task import PIXELS
from serving.repository.manifest import Metric
from serving.tensors import Array, Tensors

SCORE: Final = 0.01  # average precision ranks all boxes, so nearly all are wanted
IOU: Final = 0.5
MOST: Final = 100  # boxes of a picture, as many as COCO counts


def detection_measures(predict: Predict, pixels: Array, truth: Sequence[Boxes], labels: Sequence[str]) -> Measured:
    """COCO's average precision and recall, and `per_class`.

    pixels: uint8 [N, height, width, 3]; truth: of each picture, in its pixels. Left out is what no true
    box is there for.
    """
    found = average_precision(boxes_found(predict(inputs_of(pixels))), truth, len(labels))
    figures = {
        "ap": found.ap,
        "ap50": found.ap50,
        "ap75": found.ap75,
        "ap_small": found.ap_small,
        "ap_medium": found.ap_medium,
        "ap_large": found.ap_large,
        "ar100": found.ar100,
    }
    metrics = {name: Metric(value=value, rows=len(truth)) for name, value in figures.items() if value is not None}
    return Measured(metrics, {PER_CLASS: per_class_table(found, truth, labels)})


def padded_truth(targets: Array) -> list[Boxes]:
    """float32 [N, things, 5] of class (-1: none), xmin, ymin, xmax, ymax as the boxes of each picture."""
    there = [target[target[:, 0] >= 0] for target in targets]
    return [Boxes(target[:, 1:], target[:, 0].astype(np.int64)) for target in there]


def inputs_of(pixels: Array) -> Tensors:
    """A detector's inputs, with the limits by which it is measured."""
    rows = len(pixels)
    return {
        PIXELS: pixels,
        "score_threshold": np.full((rows, 1), SCORE, np.float32),
        "iou_threshold": np.full((rows, 1), IOU, np.float32),
        "max_detections": np.full((rows, 1), MOST, np.int32),
    }


def boxes_found(outputs: Tensors) -> list[Boxes]:
    """A detector's outputs as the boxes of each picture: of fixed shape, of which `count` are meant."""
    columns = (outputs["count"][:, 0], outputs["boxes"], outputs["class_ids"], outputs["scores"])
    return [Boxes(boxes[:n], classes[:n], scores[:n]) for n, boxes, classes, scores in zip(*columns, strict=True)]
