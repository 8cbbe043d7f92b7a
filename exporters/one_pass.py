"""The network of the one-pass detector: of each cell of a grid what is centred in it, and where its edges are.

Its family, which trains it, is families/yolo.py; captioners look at scenes through it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.data.emoji import NAMES
from exporters.layers import PixelsIn
from exporters.scene_family import SIDE

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
