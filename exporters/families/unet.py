"""A U-Net: an encoding arm down, a decoding arm up, and on each level what the one saw handed to the other.

Source: O. Ronneberger, P. Fischer, T. Brox, https://arxiv.org/abs/1505.04597
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.data.emoji import NAMES
from exporters.data.scene_rows import load_scenes, small_class_map
from exporters.data.splits import Splits
from exporters.family import Predict, Recipe
from exporters.layers import PixelsIn
from exporters.measures.measured import Measured
from exporters.scene_family import SIDE, SceneFamily
from exporters.segmentation import segmentation_measures
from serving.picture_task import PIXELS

CLASSES = 1 + len(NAMES)
WIDTHS = (24, 48, 96, 160)  # channels of the levels, 64 to 8 pixels wide


def _convolutions(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        convolution = nn.Conv2d(channels, channels_out, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels_out), nn.ReLU()]
    return nn.Sequential(*layers)


class Network(nn.Module):
    """RGB pixels uint8 [N, 128, 128, 3] -> scores float32 [N, 41, 64, 64]: nothing, and the forty things."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(PixelsIn(mean=127.5, scale=64.0), nn.Conv2d(3, WIDTHS[0], 4, stride=2, padding=1))
        self.down = nn.ModuleList(
            _convolutions(before, width) for before, width in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False)
        )
        self.halve = nn.MaxPool2d(2)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, stride=2) for width, below in pairwise(WIDTHS))
        self.up = nn.ModuleList(_convolutions(2 * width, width) for width in WIDTHS[:-1])
        self.classes = nn.Conv2d(WIDTHS[0], CLASSES, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        features, seen = self.stem(pixels), []
        for level, down in enumerate(self.down):
            features = down(self.halve(features) if level else features)
            seen.append(features)
        for level in reversed(range(len(self.up))):
            features = self.up[level](torch.cat([seen[level], self.enlarge[level](features)], dim=1))
        scores: Tensor = self.classes(features)
        return scores


class Served(nn.Module):
    """The network with the segment task's outputs: the most probable class of each pixel, and how probable it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        scores = functional.interpolate(self.network(pixels), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        confidence, class_map = scores.softmax(dim=1).max(dim=1)
        return class_map.to(torch.uint8), confidence


class Unet(SceneFamily):
    """The forty things of the emoji scenes, pixel by pixel."""

    model = "unet"
    task = "segment"
    tolerance = 1e-3
    floors: ClassVar = {"mean_iou": 0.75}
    recipe = Recipe(
        epochs=8,
        batch_size=32,
        optimizer="adam",
        learning_rate=4e-3,
        warm_up=0.1,
        weight_decay=2e-2,
        patience=8,
        precision="bfloat16",
    )
    quick_recipe = Recipe(epochs=2, batch_size=16, optimizer="adam", learning_rate=2e-3, patience=2)
    quick_floors: ClassVar = {"mean_iou": 0.0}

    def labels(self) -> tuple[str, ...]:
        return ("background", *NAMES)

    def data(self, *, quick: bool) -> Splits:
        return load_scenes(self.preprocessing, small_class_map, quick=quick)

    def network(self) -> nn.Module:
        return Network()

    def served(self, network: nn.Module) -> nn.Module:
        return Served(network)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of the pixels, and what their classes' overlap lacks: things cover few of the pixels."""
        coarse = targets[:, ::2, ::2].long()
        return functional.cross_entropy(scores, coarse) + 1 - soft_dice(scores.softmax(dim=1), coarse)

    def score(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Share of the things' pixels that are given to their class."""
        coarse = targets[:, ::2, ::2]
        right = (scores.argmax(dim=1) == coarse) & (coarse > 0)
        return right.sum() / (coarse > 0).sum().clamp(min=1)

    def measure(self, predict: Predict, data: Splits) -> Measured:
        return segmentation_measures(predict, data.test.inputs[PIXELS], data.test.targets, self.labels())


def soft_dice(probabilities: Tensor, targets: Tensor) -> Tensor:
    """How far the classes that are there overlap, from 0 to 1: float32 [N, classes, h, w] and int64 [N, h, w].

    Source: F. Milletari, N. Navab, S. Ahmadi, https://arxiv.org/abs/1606.04797, over classes
    """
    wanted = functional.one_hot(targets, probabilities.shape[1]).permute(0, 3, 1, 2)
    shared = (probabilities * wanted).sum((2, 3))
    sizes = (probabilities + wanted).sum((2, 3))
    there = wanted.amax((2, 3)) > 0
    return (2 * shared / sizes.clamp(min=1))[there].mean()


PLUGIN = Unet
