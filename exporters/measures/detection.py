"""Average precision of boxes as COCO defines it, by COCO's own pycocotools. Why it: docs/decisions/0012-measures.md.

Source: https://cocodataset.org/#detection-eval
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from exporters.measures.measured import rounded
from serving.repository.manifest import Table
from serving.tensors import Array

ALL_SIZES: Final = 0  # place on the evaluation's axis of sizes
AP50: Final = 0  # place on its axis of overlaps
MOST_BOXES: Final = 2  # place on its axis of how many boxes of a picture count: 1, 10, 100


@dataclass(frozen=True, slots=True)
class Boxes:
    """What is on one picture. boxes: [n, 4] as xmin, ymin, xmax, ymax in pixels; class_ids: [n]; scores: [n] of boxes
    that were found, None for the truth.
    """

    boxes: Array
    class_ids: Array
    scores: Array | None = None


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """COCO's figures, 0 to 1, each None where the truth has no such box.

    ap: mean over overlaps of 0.5 to 0.95 and over classes; small: below 32 x 32 pixels, large: above 96 x 96;
    ar100: recall with 100 boxes a picture; by_class: AP of each class, and ap50_by_class its AP at overlap 0.5.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar100: float | None
    by_class: tuple[float | None, ...]
    ap50_by_class: tuple[float | None, ...]


def average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], class_count: int) -> AveragePrecision:
    """How well the boxes found on each picture match its truth. ValueError: other pictures than truths, no scores."""
    from pycocotools.cocoeval import COCOeval

    if len(found) != len(truth):
        raise ValueError(f"Boxes were found on {len(found)} pictures; there is truth of {len(truth)}.")
    if any(boxes.scores is None for boxes in found):
        raise ValueError("Boxes that were found need scores.")
    with redirect_stdout(io.StringIO()):  # it reports its progress
        evaluation = COCOeval(_dataset(truth, class_count), _dataset(found, class_count), "bbox")
        evaluation.params.imgIds = list(range(len(truth)))
        evaluation.params.catIds = list(range(class_count))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [_figure(value) for value in evaluation.stats]
    precision: Array = evaluation.eval["precision"][:, :, :, ALL_SIZES, MOST_BOXES]  # [overlaps, recalls, classes]
    return AveragePrecision(
        ap=stats[0],
        ap50=stats[1],
        ap75=stats[2],
        ap_small=stats[3],
        ap_medium=stats[4],
        ap_large=stats[5],
        ar100=stats[8],
        by_class=tuple(_figure(precision[:, :, i].mean()) for i in range(class_count)),
        ap50_by_class=tuple(_figure(precision[AP50, :, i].mean()) for i in range(class_count)),
    )


def per_class_table(measured: AveragePrecision, truth: Sequence[Boxes], labels: Sequence[str]) -> Table:
    """AP, AP50 and true boxes of each class."""
    class_ids = np.concatenate([np.zeros(0, np.int64), *(boxes.class_ids for boxes in truth)]).astype(np.int64)
    counts = np.bincount(class_ids, minlength=len(labels))
    figures = zip(labels, measured.by_class, measured.ap50_by_class, counts, strict=True)
    rows = tuple((label, rounded(ap), rounded(ap50), int(count)) for label, ap, ap50, count in figures)
    return Table(columns=("class", "ap", "ap50", "boxes"), rows=rows)


def _figure(value: float) -> float | None:
    """COCO says -1 where there is nothing to measure."""
    return None if value < 0 else float(value)


def _dataset(pictures: Sequence[Boxes], class_count: int) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(pictures))],
        "categories": [{"id": i} for i in range(class_count)],
        "annotations": list(_annotations(pictures)),
    }
    coco.createIndex()
    return coco


def _annotations(pictures: Sequence[Boxes]) -> Iterator[dict[str, Any]]:
    number = 0  # from 1: a match with number 0 is taken for none
    for picture, found in enumerate(pictures):
        scores = np.ones(len(found.boxes)) if found.scores is None else found.scores
        for (xmin, ymin, xmax, ymax), class_id, score in zip(found.boxes, found.class_ids, scores, strict=True):
            number += 1
            width, height = float(xmax - xmin), float(ymax - ymin)
            yield {
                "id": number,
                "image_id": picture,
                "category_id": int(class_id),
                "bbox": [float(xmin), float(ymin), width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": float(score),
            }
