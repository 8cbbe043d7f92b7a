"""Layers that stand at both ends of every picture network: the task's own tensors go in and come out.

Networks are trained on what callers send, uint8 pixels with the channels last, so the graph that is exported needs no
second description of its input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelsIn(nn.Module):
    """uint8 [N, height, width, channels] -> float32 [N, channels, height, width] as `(pixels - mean) / scale`."""

    def __init__(self, mean: float, scale: float) -> None:
        super().__init__()
        self.mean = mean
        self.scale = scale

    def forward(self, pixels: Tensor) -> Tensor:
        # Transposed while they are bytes: a quarter of the memory to move.
        return (pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.scale


class ProbabilitiesOut(nn.Module):
    """A network that gives scores, as one that gives probabilities: float32 [N, classes], each row's sum 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.network(pixels)
        return torch.softmax(scores, dim=1)
