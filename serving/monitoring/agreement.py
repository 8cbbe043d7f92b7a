"""How far two versions agree on one request, from 0 to 1, by what their task gives. All functions are pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from serving.tensors import Array, Tensors

IOU_MATCH: Final = 0.5  # boxes of one class that overlap so far mean the same thing


def same_top(one: Sequence[object], other: Sequence[object]) -> float:
    """1 if both begin with the same label, or neither has one."""
    return float(list(one[:1]) == list(other[:1]))


def matched_boxes(boxes: Array, classes: Array, other_boxes: Array, other_classes: Array) -> float:
    """Share of boxes that found a partner of their class: twice the pairs by all boxes; 1 when there are none.

    boxes: [n, 4] of xmin, ymin, xmax, ymax; classes: [n]. Pairs are made greedily, the largest overlap first, as COCO's
    evaluation makes them.
    """
    if not len(boxes) and not len(other_boxes):
        return 1.0
    overlaps = box_iou(boxes, other_boxes) * (classes[:, np.newaxis] == other_classes[np.newaxis])
    pairs = 0
    while overlaps.size and (best := overlaps.max()) >= IOU_MATCH:
        row, column = np.argwhere(overlaps == best)[0]
        overlaps[row, :] = overlaps[:, column] = 0.0
        pairs += 1
    return 2 * pairs / (len(boxes) + len(other_boxes))


def box_iou(boxes: Array, others: Array) -> Array:
    """Intersection over union of each box with each other one: [n, 4] and [m, 4] to float64 [n, m]."""
    a, b = (np.asarray(one, dtype=np.float64).reshape(-1, 4) for one in (boxes, others))
    low = np.maximum(a[:, np.newaxis, :2], b[np.newaxis, :, :2])
    high = np.minimum(a[:, np.newaxis, 2:], b[np.newaxis, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(np.clip(one[:, 2:] - one[:, :2], 0, None), axis=-1) for one in (a, b)]
    union = areas[0][:, np.newaxis] + areas[1][np.newaxis] - shared
    ious: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious


def mask_iou(mask: Array, other: Array) -> float:
    """Mean over the classes that either map shows of their intersection over union; 0 for maps of different sizes.

    mask: [height, width] of class numbers, 0 for nothing; two maps of nothing agree.
    """
    if mask.shape != other.shape:
        return 0.0
    classes = np.setdiff1d(np.union1d(mask, other), [0])
    if not classes.size:
        return 1.0
    return float(np.mean([_iou(mask == one, other == one) for one in classes]))


def cosine(one: Array, other: Array) -> float:
    """The cosine of the angle between two vectors, 0 for blunt angles, other lengths, and what is not finite."""
    a, b = (np.asarray(vector, dtype=np.float64).ravel() for vector in (one, other))
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    if np.array_equal(a, b):
        return 1.0
    with np.errstate(all="ignore"):
        value = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return min(1.0, max(0.0, value)) if np.isfinite(value) else 0.0


def shared_words(one: str, other: str) -> float:
    """Share of words that both texts have: twice those by all words, each as often as it comes, in any order; 1 when
    there are none. That is the F1 of ROUGE-1. Source: C.-Y. Lin, https://aclanthology.org/W04-1013
    """
    words, others = Counter(one.split()), Counter(other.split())
    if not words and not others:
        return 1.0
    return 2 * (words & others).total() / (words.total() + others.total())


def same_tensors(one: Tensors, other: Tensors) -> float:
    """Mean over the outputs: cosine of numbers, share of equal values of all else; 0 for outputs of other names."""
    if one.keys() != other.keys():
        return 0.0
    return float(np.mean([_same_tensor(one[name], other[name]) for name in one])) if one else 1.0


def _same_tensor(one: Array, other: Array) -> float:
    if one.shape != other.shape:
        return 0.0
    if one.dtype.kind == other.dtype.kind == "f":
        return cosine(one, other)
    return float(np.mean(one == other)) if one.size else 1.0


def _iou(one: Array, other: Array) -> float:
    return float(np.sum(one & other) / np.sum(one | other))
