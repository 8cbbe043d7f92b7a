"""Two towers that learn which picture goes with which text: linear maps into one space, behind what was learned before.

Source: A. Radford et al., https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from exporters.efficientnet_lite import EfficientNetLite0, load_published
from exporters.published import published_weights, rounded
from exporters.static_words import WordTable
from serving.tensors import Array

STAGES: Final = (4, 7, 10, 14)  # blocks at the end of a resolution or a width
LAST: Final = 1280  # features of the last layer
FEATURES: Final = 40 + 80 + 112 + 192 + LAST
WORDS: Final = "minilm-static"
Scores = tuple[Tensor, Tensor, Tensor]  # both embeddings, and the scale of their products
SHARPEST: Final = 0.07  # temperature, where CLIP begins: sharper ones learn a thousand pairs by heart


class Seeing(nn.Module):
    """RGB pixels uint8 [N, 224, 224, 3] -> what EfficientNet-Lite0 sees: float32 [N, 1704], means over the picture, of
    its last layer and of earlier ones, which tell more of drawings. Frozen, in weights of 8 bits.
    """

    def __init__(self) -> None:
        super().__init__()
        body = load_published()
        del body._fc  # noqa: SLF001 - its name in the weights; nothing asks for ImageNet's classes
        _fold(body)
        self.body = body.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        body = self.body
        seen = functional.relu6(body._conv_stem(body.pixels(pixels)))  # noqa: SLF001
        found = []
        for i, block in enumerate(body._blocks):  # noqa: SLF001
            seen = block(seen)
            if i in STAGES:
                found.append(seen.mean((2, 3)))
        found.append(functional.relu6(body._conv_head(seen)).mean((2, 3)))  # noqa: SLF001
        return torch.cat(found, dim=1)


def class_features(seen: Array) -> Array:
    """ImageNet's classes as if they were pictures: float32 [1000, 1704].

    Of each the direction in which the classifier's weights ask for it, as far from the mean of what was seen, float32
    [N, 1704], as pictures lie; earlier layers' features, of which the classifier knows nothing, are at their mean.
    """
    asked = load_published()._fc.weight.detach().numpy()  # noqa: SLF001
    asked = asked - asked.mean(axis=0)
    away = np.zeros((len(asked), FEATURES), np.float32)
    away[:, -LAST:] = asked / np.linalg.norm(asked, axis=1, keepdims=True) * LAST**0.5
    found: Array = (seen.mean(axis=0) + away * seen.std(axis=0)).astype(np.float32)
    return found


class Reading(nn.Module):
    """Token ids and mask int64 [N, L] -> the mean of their words' vectors, float32 [N, 128]: minilm-static's own."""

    def __init__(self) -> None:
        super().__init__()
        weights = published_weights(WORDS)
        self.table = WordTable(weights["table.steps"], weights["table.scales"])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return functional.normalize(self.table(input_ids, attention_mask), dim=1)


class Tower(nn.Module):
    """Features float32 [N, inputs] -> embeddings float32 [N, dimensions] of length 1: one linear map."""

    def __init__(self, inputs: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        map_to_space = nn.Linear(inputs, dimensions, bias=False)
        self.project = nn.Sequential(nn.BatchNorm1d(inputs, affine=False), nn.Dropout(dropout), map_to_space)

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(self.project(features), dim=1)


class Pairs(nn.Module):
    """Features of pictures and of texts, row by row of one thing -> both embeddings and the scale of their products."""

    def __init__(self, seen: int, read: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        self.image = Tower(seen, dimensions, dropout)
        self.text = Tower(read, dimensions, dropout)
        self.scale = nn.Parameter(torch.tensor(-math.log(SHARPEST)))

    def forward(self, seen: Tensor, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.image(seen), self.text(read), self.scale.clamp(max=-math.log(SHARPEST)).exp()


def contrastive_loss(scores: Scores, things: Tensor) -> Tensor:
    """How badly each picture finds its text among the batch's, and each text its picture: a scalar.

    things: int64 [N]; other rows of the same thing count neither for nor against.
    """
    products = _products(scores, things)
    own = torch.arange(len(things))
    return (functional.cross_entropy(products, own) + functional.cross_entropy(products.T, own)) / 2


def found_share(scores: Scores, things: Tensor) -> Tensor:
    """The share of pictures that find their text among the batch's."""
    return (_products(scores, things).argmax(dim=1) == torch.arange(len(things))).float().mean()


def _products(scores: Scores, things: Tensor) -> Tensor:
    image, text, scale = scores
    same = (things[:, None] == things[None]) & ~torch.eye(len(things), dtype=torch.bool)
    return (image @ text.T * scale).masked_fill(same, -1e4)


def _fold(body: EfficientNetLite0) -> None:
    """Each batch norm into the convolution that stands before it, whose weights are then rounded."""
    for module in body.modules():
        for convolution, norm in (
            ("_conv_stem", "_bn0"),
            ("_expand_conv", "_bn0"),
            ("_depthwise_conv", "_bn1"),
            ("_project_conv", "_bn2"),
            ("_conv_head", "_bn1"),
        ):
            here, behind = getattr(module, convolution, None), getattr(module, norm, None)
            if isinstance(here, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d):
                folded = fuse_conv_bn_eval(here, behind)
                here.weight = nn.Parameter(torch.from_numpy(rounded(folded.weight.detach().numpy())))
                here.bias = folded.bias
                setattr(module, norm, nn.Identity())
