"""Suppression inside the graph against the book's, row by row, and rows with limits of their own in one batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exporters import parity, to_onnx
from exporters.graph_config import make_config
from exporters.nms import Limits, iou, keep_best, suppress
from serving.repository.config import TensorSpec
from serving.task import Signature

CLASSES = 3
SIGNATURE = Signature(
    inputs=(
        TensorSpec("boxes_in", "FP32", (-1, 4)),
        TensorSpec("scores_in", "FP32", (-1, CLASSES)),
        TensorSpec("score_threshold", "FP32", (1,)),
        TensorSpec("iou_threshold", "FP32", (1,)),
        TensorSpec("max_detections", "INT32", (1,)),
    ),
    outputs=(
        TensorSpec("boxes", "FP32", (-1, 4)),
        TensorSpec("scores", "FP32", (-1,)),
        TensorSpec("class_ids", "INT32", (-1,)),
        TensorSpec("count", "INT32", (1,)),
    ),
)


class Suppression(nn.Module):
    def forward(self, boxes, scores, score_threshold, iou_threshold, max_detections):
        limits = Limits(score_threshold, iou_threshold, max_detections)
        return tuple(suppress(boxes, scores, limits, candidates=60, most=40))


def overlap(one, other):
    """Intersection over union of two boxes, as the book writes it."""
    width = np.float32(min(one[2], other[2]) - max(one[0], other[0]))
    height = np.float32(min(one[3], other[3]) - max(one[1], other[1]))
    if width <= 0 or height <= 0:
        return np.float32(0)
    areas = [np.float32(box[2] - box[0]) * np.float32(box[3] - box[1]) for box in (one, other)]
    return width * height / (areas[0] + areas[1] - width * height)


def plain(boxes, scores, score_threshold, iou_threshold, max_detections):
    """The book's: drop what is below the threshold, take the best, put out its rivals, and again, class by class."""
    kept = []
    for class_id in range(scores.shape[1]):
        left = [i for i in np.argsort(-scores[:, class_id], kind="stable") if scores[i, class_id] >= score_threshold]
        while left:
            best = left.pop(0)
            kept.append((scores[best, class_id], class_id, boxes[best]))
            left = [i for i in left if not overlap(boxes[best], boxes[i]) > iou_threshold]
    kept.sort(key=lambda found: -found[0])
    return kept[:max_detections]


def some_rows(count, boxes, seed):
    """Boxes in heaps, so that many overlap; no two scores alike."""
    generator = np.random.default_rng(seed)
    middle = generator.integers(0, 5, (count, boxes, 2)) * 20 + generator.normal(0, 3, (count, boxes, 2))
    half = generator.uniform(5, 15, (count, boxes, 2))
    score = generator.permuted(np.linspace(0.001, 0.999, boxes * CLASSES)[None].repeat(count, 0), axis=1)
    return {
        "boxes_in": np.concatenate([middle - half, middle + half], axis=2).astype(np.float32),
        "scores_in": score.reshape(count, boxes, CLASSES).astype(np.float32),
    }


def with_limits(rows, generator):
    count = len(rows["boxes_in"])
    return rows | {
        "score_threshold": generator.uniform(0, 0.8, (count, 1)).astype(np.float32),
        "iou_threshold": generator.uniform(0.05, 0.95, (count, 1)).astype(np.float32),
        "max_detections": generator.integers(1, 50, (count, 1)).astype(np.int32),
    }


@pytest.fixture(scope="module")
def served():
    rows = with_limits(some_rows(2, 20, 0), np.random.default_rng(0))
    graph = to_onnx.export(Suppression(), SIGNATURE, rows)
    with parity.serve(graph, make_config(graph, "suppression", max_batch_size=8, instances=1)) as loaded:
        yield loaded


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_keeps_what_the_book_keeps(served, seed):
    rows = with_limits(some_rows(3, 20, seed), np.random.default_rng(seed))
    found = served(rows)
    for i in range(3):
        expected = plain(*(rows[spec.name][i] for spec in SIGNATURE.inputs[:2]),
                         *(rows[spec.name][i, 0] for spec in SIGNATURE.inputs[2:]))[:40]  # fmt: skip
        count = found["count"][i, 0]
        assert count == len(expected)
        assert found["class_ids"][i, :count].tolist() == [class_id for _, class_id, _ in expected]
        np.testing.assert_array_equal(found["scores"][i, :count], [score for score, _, _ in expected])
        np.testing.assert_array_equal(found["boxes"][i, :count], np.reshape([box for *_, box in expected], (-1, 4)))
        assert not found["scores"][i, count:].any()
        assert not found["boxes"][i, count:].any()
        assert not found["class_ids"][i, count:].any()


def test_eight_rows_of_eight_limits_get_together_what_each_gets_alone(served):
    generator = np.random.default_rng(1)
    rows = with_limits({name: array[:1].repeat(8, 0) for name, array in some_rows(1, 20, 7).items()}, generator)
    together = served.in_batches(rows, 8)
    alone = served.in_batches(rows, 1)
    for name, array in together.items():
        np.testing.assert_array_equal(array, alone[name])
    assert len(set(together["count"].ravel().tolist())) >= 5, "the same boxes, and other limits"


def test_a_long_chain_of_rivals_is_settled_to_its_end():
    """Each puts out the next: the first stays, so the second goes, so the third stays ..."""
    rivals = torch.diag(torch.ones(59, dtype=torch.bool), 1).unsqueeze(0)
    kept = keep_best(rivals, torch.ones(1, 60, dtype=torch.bool))
    assert kept[0].tolist() == [i % 2 == 0 for i in range(60)]


def test_what_is_not_valid_puts_nothing_out():
    rivals = torch.ones(1, 4, 4, dtype=torch.bool).triu(1)
    assert keep_best(rivals, torch.tensor([[False, False, True, True]]))[0].tolist() == [False, False, True, False]


def test_empty_boxes_overlap_nothing():
    boxes = torch.tensor([[[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0], [5.0, 5.0, 1.0, 1.0]]])
    assert not iou(boxes).any()
