"""Non-maximum suppression by class, as a part of a detector's graph: each row with thresholds of its own.

ONNX's NonMaxSuppression takes one pair of thresholds a run, so requests with different ones could not share a batch,
and how many boxes it gives depends on the data. Here the best candidates of each row are compared with each other, and
what is left comes in outputs of a fixed size with a count, which Triton and TensorRT take.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop


class Detections(NamedTuple):
    """The detect task's outputs, in the order of its signature: the best first, zeros from its count on.

    boxes float32 [N, most, 4] as xmin, ymin, xmax, ymax; scores float32 [N, most]; class_ids int32 [N, most]; counts
    int32 [N, 1].
    """

    boxes: Tensor
    scores: Tensor
    class_ids: Tensor
    counts: Tensor


class Limits(NamedTuple):
    """What each row's caller asks for: float32 [N, 1], float32 [N, 1] and int32 [N, 1]."""

    score_threshold: Tensor  # boxes of a lower score do not count
    iou_threshold: Tensor  # of two boxes of one class that overlap more than this, only the better one counts
    max_detections: Tensor


class DetectionsOut(nn.Module):
    """A network that gives boxes float32 [N, A, 4] and scores float32 [N, A, C], with the detect task's inputs and
    outputs: what suppression leaves of them.
    """

    def __init__(self, network: nn.Module, *, candidates: int, most: int) -> None:
        super().__init__()
        self.network = network
        self.candidates = candidates
        self.most = most

    def forward(
        self, pixels: Tensor, score_threshold: Tensor, iou_threshold: Tensor, max_detections: Tensor
    ) -> tuple[Tensor, ...]:
        boxes, scores = self.network(pixels)
        limits = Limits(score_threshold, iou_threshold, max_detections)
        return tuple(suppress(boxes, scores, limits, candidates=self.candidates, most=self.most))


def suppress(boxes: Tensor, scores: Tensor, limits: Limits, *, candidates: int, most: int) -> Detections:
    """The boxes that greedy suppression leaves, the best first.

    boxes: float32 [N, A, 4] as xmin, ymin, xmax, ymax; scores: float32 [N, A, C], each class by itself, so one box may
    stand for several classes. Only the `candidates` highest of a row's A * C scores are looked at; at most `most` are
    given, whatever max_detections says.
    """
    classes = scores.shape[2]
    flat = scores.flatten(1)
    score, place = flat.topk(min(candidates, flat.shape[1]), dim=1)
    class_id = place % classes
    box = boxes.gather(1, (place // classes).unsqueeze(2).expand(-1, -1, 4))
    rivals = (class_id.unsqueeze(2) == class_id.unsqueeze(1)) & (iou(box) > limits.iou_threshold.unsqueeze(2))
    kept = keep_best(rivals.triu(1), score >= limits.score_threshold)
    return _gathered(kept, Detections(box, score, class_id, limits.max_detections), most)


def iou(boxes: Tensor) -> Tensor:
    """Intersection over union of each box with each: float32 [N, K, 4] -> float32 [N, K, K]. 0 for empty boxes."""
    low, high = boxes[:, :, :2], boxes[:, :, 2:]
    area = (high - low).clamp(min=0).prod(dim=2)
    common = torch.minimum(high.unsqueeze(2), high.unsqueeze(1)) - torch.maximum(low.unsqueeze(2), low.unsqueeze(1))
    shared = common.clamp(min=0).prod(dim=3)
    return shared / (area.unsqueeze(2) + area.unsqueeze(1) - shared).clamp(min=torch.finfo(torch.float32).tiny)


def keep_best(rivals: Tensor, valid: Tensor) -> Tensor:
    """Which of the candidates, the best first, stay: bool [N, K].

    rivals: bool [N, K, K], true at [i, j] where i would put out j, only for i before j; valid: bool [N, K].

    A candidate stays if none that stays puts it out. Saying that of all at once, again and again until nothing
    changes, ends at what going through them in order gives: after n rounds the first n are settled, and most rows are
    after two or three. A row's result does not depend on how many more rounds its neighbours need.
    """

    def unsettled(kept: Tensor, changes: Tensor) -> Tensor:
        del kept
        return changes > 0

    def settle(kept: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
        del changes
        now = valid & ~(rivals & kept.unsqueeze(2)).any(dim=1)
        return now, (now != kept).sum()

    kept: Tensor = while_loop(unsettled, settle, (valid.clone(), valid.sum()))[0]  # type: ignore[no-untyped-call]
    return kept


def _gathered(kept: Tensor, found: Detections, most: int) -> Detections:
    """The kept candidates moved to the front, cut to each row's own limit, with zeros behind them. `found.counts`: that
    limit.
    """
    size = kept.shape[1]
    limit = found.counts.clamp(max=min(most, size))
    rank = torch.arange(size, 0, -1, dtype=torch.float32).expand_as(kept)
    front, place = torch.where(kept, rank, torch.zeros_like(rank)).topk(min(most, size), dim=1)
    chosen = (front > 0) & (torch.arange(min(most, size)) < limit)
    return Detections(
        boxes=found.boxes.gather(1, place.unsqueeze(2).expand(-1, -1, 4)) * chosen.unsqueeze(2),
        scores=found.scores.gather(1, place) * chosen,
        class_ids=(found.class_ids.gather(1, place) * chosen).to(torch.int32),
        counts=chosen.sum(dim=1, keepdim=True).to(torch.int32),
    )
