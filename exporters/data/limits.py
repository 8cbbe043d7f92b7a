"""What callers of a detector send beside the picture, as rows of data."""

from __future__ import annotations

import numpy as np

from exporters.data.splits import Rows, Splits
from serving.tensors import Tensors


def with_limits(data: Splits) -> Splits:
    """The same rows, each with limits of its own: those that callers send, in turn."""
    parts = {part: _limited(getattr(data, part)) for part in ("train", "validation", "test")}
    return Splits(card=data.card, **parts)


def _limited(rows: Rows) -> Rows:
    return Rows({**rows.inputs, **limits(len(rows))}, rows.targets)


def limits(count: int) -> Tensors:
    """Score threshold, IoU threshold and greatest number for each of so many rows, no two neighbours alike."""
    turn = np.arange(count)[:, np.newaxis]
    return {
        "score_threshold": np.array([0.35, 0.25, 0.5], np.float32)[turn % 3],
        "iou_threshold": np.array([0.5, 0.45, 0.6, 0.3], np.float32)[turn % 4],
        "max_detections": np.array([100, 20, 5, 2, 1], np.int32)[turn % 5],
    }
