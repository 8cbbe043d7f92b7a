"""A one-pass detector: each cell of a grid says what is centred in it, and where its edges are.

Sources: J. Redmon et al., https://arxiv.org/abs/1506.02640 (one pass, objectness, classes and boxes by cell), and
https://arxiv.org/abs/1612.08242 (several boxes a cell, each from a prior size)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.data.emoji import NAMES
from exporters.data.limits import with_limits
from exporters.data.scene_rows import load_scenes, padded_boxes
from exporters.data.splits import Splits
from exporters.detection import detection_measures, padded_truth
from exporters.family import Predict, Recipe
from exporters.measures.measured import Measured
from exporters.nms import DetectionsOut
from exporters.one_pass import GRID, PRIORS, REACH, STRIDE, BoxesAndScores, Network, boxes_of
from exporters.scene_family import SceneFamily
from serving.picture_task import PIXELS


class Yolo(SceneFamily):
    """The forty things of the emoji scenes."""

    model = "yolo"
    task = "detect"
    tolerance = 2e-3  # of boxes, which are in pixels
    floors: ClassVar = {"ap50": 0.75}
    recipe = Recipe(
        epochs=10,
        batch_size=32,
        optimizer="adam",
        learning_rate=3e-3,
        warm_up=0.1,
        weight_decay=2e-2,
        patience=10,
        precision="bfloat16",
    )
    quick_recipe = Recipe(epochs=2, batch_size=16, optimizer="adam", learning_rate=2e-3, patience=2)
    quick_floors: ClassVar = {"ap50": 0.0}

    def labels(self) -> tuple[str, ...]:
        return NAMES

    def data(self, *, quick: bool) -> Splits:
        return with_limits(load_scenes(self.preprocessing, padded_boxes, quick=quick))

    def network(self) -> nn.Module:
        return Network()

    def served(self, network: nn.Module) -> nn.Module:
        return DetectionsOut(BoxesAndScores(network), candidates=200, most=100)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return detection_loss(scores, targets)

    def score(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Share of the things whose own cell names them as the likeliest, with a box that fits by half."""
        slots, owners = responsible(targets, reach=0.0)
        found = scores[slots]
        overlap = overlap_of(boxes_of(scores)[slots], owners[:, 1:])
        return ((found[:, 5:].argmax(dim=1) == owners[:, 0]) & (overlap > 0.5)).float().mean()

    def measure(self, predict: Predict, data: Splits) -> Measured:
        truth = padded_truth(data.test.targets)
        return detection_measures(predict, data.test.inputs[PIXELS], truth, self.labels())


def responsible(targets: Tensor, *, reach: float) -> tuple[tuple[Tensor, ...], Tensor]:
    """Which boxes of which cells shall find which thing.

    targets: float32 [N, things, 5] of class (-1: none), xmin, ymin, xmax, ymax. Gives places in [N, priors, 8, 8] and
    for each its thing, float32 [M, 5]. With `reach` the cells beside the centre's own that lie within reach too.
    """
    row, place = torch.nonzero(targets[:, :, 0] >= 0, as_tuple=True)
    things = targets[row, place]
    centre = (things[:, 1:3] + things[:, 3:5]) / 2 / STRIDE
    longer = (things[:, 3:5] - things[:, 1:3]).amax(dim=1, keepdim=True)
    prior = (longer.log() - torch.tensor(PRIORS).log()).abs().argmin(dim=1)
    cells, rows, priors, owners = [], [], [], []
    for across, down in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)) if reach else ((0, 0),):
        step = torch.tensor([across, down])
        cell = centre.floor().clamp(0, GRID - 1) + step
        inside = ((cell >= 0) & (cell < GRID)).all(dim=1)
        near = ((centre - cell).clamp(-reach, 1 + reach) == centre - cell).all(dim=1) if across or down else inside
        chosen = inside & near
        cells.append(cell[chosen].long())
        rows.append(row[chosen])
        priors.append(prior[chosen])
        owners.append(things[chosen])
    # The centre's own cell is written last, where two want one.
    cell = torch.cat(cells[::-1])
    return (torch.cat(rows[::-1]), torch.cat(priors[::-1]), cell[:, 1], cell[:, 0]), torch.cat(owners[::-1])


def detection_loss(raw: Tensor, targets: Tensor) -> Tensor:
    """Objectness of all boxes, and class and overlap of those that shall find something; a scalar, mean over rows."""
    slots, owners = responsible(targets, reach=REACH - 0.1)
    found = raw[slots]
    overlap = overlap_of(boxes_of(raw)[slots], owners[:, 1:])
    wanted = torch.zeros(raw.shape[:4])
    wanted[slots] = overlap.detach().clamp(min=0.3)  # a box that fits better is the more certain one
    objectness = functional.binary_cross_entropy_with_logits(raw[..., 4], wanted, reduction="sum")
    classes = functional.cross_entropy(found[:, 5:], owners[:, 0].long(), reduction="sum")
    return (objectness + 0.5 * classes + 2.0 * (1 - overlap).sum()) / len(raw)


def overlap_of(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised intersection over union of pairs of boxes [M, 4]: float32 [M], from -1 to 1.

    Source: https://arxiv.org/abs/1902.09630
    """
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (others[:, 2:] - others[:, :2]).prod(dim=1) - shared
    around = torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])
    hull = around.prod(dim=1)
    return shared / union - (hull - union) / hull


PLUGIN = Yolo
