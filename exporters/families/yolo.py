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
from exporters.layers import PixelsIn
from exporters.measures.measured import Measured
from exporters.nms import DetectionsOut
from exporters.scene_family import SIDE, SceneFamily
from serving.picture_task import PIXELS

STRIDE = 16  # pixels of a cell
GRID = SIDE // STRIDE
PRIORS = (30.0, 50.0)  # sides of the boxes that a cell begins with, in pixels
CLASSES = len(NAMES)
# A cell may place a centre half a cell outside of itself, so its neighbours learn the same thing.
REACH = 0.5


class Block(nn.Module):
    """Two convolutions around which the input goes too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_convolution(channels, channels, 1), *_convolution(channels, channels, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.inner(inputs)
        return outputs


def _convolution(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.SiLU()


class Network(nn.Module):
    """RGB pixels uint8 [N, 128, 128, 3] -> raw float32 [N, 2, 8, 8, 5 + 40]: for each prior of each cell the centre
    (x, y), the sides (width, height), the objectness, the classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            PixelsIn(mean=127.5, scale=64.0),
            *_convolution(3, 16, 2),
            *_convolution(16, 32, 2),
            Block(32),
            *_convolution(32, 64, 2),
            Block(64),
            *_convolution(64, 160, 2),
            Block(160),
            Block(160),
        )
        self.head = nn.Conv2d(160, len(PRIORS) * (5 + CLASSES), 1)
        with torch.no_grad():  # things are rare: begin with 1 %
            self.head.bias.view(len(PRIORS), -1)[:, 4] = -4.6  # type: ignore[union-attr]

    def forward(self, pixels: Tensor, *limits: Tensor) -> Tensor:
        del limits  # the task's further inputs, for what comes after
        raw: Tensor = self.head(self.features(pixels))
        return raw.view(-1, len(PRIORS), 5 + CLASSES, GRID, GRID).permute(0, 1, 3, 4, 2)


def boxes_of(raw: Tensor) -> Tensor:
    """float32 [..., 8, 8, 5 + classes] with the priors on the axis before -> boxes [..., 8, 8, 4] as xmin, ymin, xmax,
    ymax in pixels of the model's input.
    """
    cells = torch.arange(GRID, dtype=torch.float32)
    corner = torch.stack([cells.expand(GRID, GRID), cells.unsqueeze(1).expand(GRID, GRID)], dim=2)
    centre = (corner + raw[..., 0:2].sigmoid() * (1 + 2 * REACH) - REACH) * STRIDE
    prior = torch.tensor(PRIORS).view(-1, 1, 1, 1)
    half = prior * (2 * raw[..., 2:4].sigmoid()) ** 2 / 2
    return torch.cat([centre - half, centre + half], dim=-1)


class BoxesAndScores(nn.Module):
    """The network's boxes, float32 [N, 128, 4] inside the picture, and scores, float32 [N, 128, 40]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        raw: Tensor = self.network(pixels)
        scores = raw[..., 4:5].sigmoid() * raw[..., 5:].softmax(dim=-1)
        return boxes_of(raw).flatten(1, 3).clamp(0, SIDE), scores.flatten(1, 3)


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
