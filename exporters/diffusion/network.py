"""A U-Net that is told how much noise there is, and what the picture should show.

Sources: J. Ho et al., https://arxiv.org/abs/2006.11239 (blocks and timesteps), R. Rombach et al.,
https://arxiv.org/abs/2112.10752 (cross-attention to a text)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS: Final = 8  # of channels, that are normed together
HEADS: Final = 4
WAVES: Final = 32  # that a timestep is told by, each as sine and cosine
SLOWEST: Final = 10_000  # their longest, in timesteps
SKETCHED: Final = 48  # channels of what a text lets expect
FASTER: Final = 8.0  # how much faster than others its weights learn
TOLD: Final = 96  # numbers that each block is told timestep and text by


class UNet(nn.Module):
    """Noisy float32 [N, channels, side, side], timestep [N, 1] and context [N, tokens, memory] -> float32 as the first.

    shape: channels and sides of the first; widths: channels at each resolution, which halves from one to the next;
    patch: pixels along a side of what the first layer takes as one place.
    """

    def __init__(self, shape: tuple[int, int, int], widths: Sequence[int], memory: int, patch: int = 1) -> None:
        super().__init__()
        channels, first, last = shape[0], widths[0], widths[-1]
        self.told = Told(memory)
        self.sketch = Sketch(memory, (SKETCHED, shape[1] // patch, shape[2] // patch))
        self.cut = nn.PixelUnshuffle(patch)
        self.begin = convolution(channels * patch**2 + SKETCHED, first)
        self.down = nn.ModuleList(Level(width, width, memory) for width in widths)
        self.smaller = nn.ModuleList(convolution(wide, narrow, stride=2) for wide, narrow in pairwise(widths))
        self.middle = Level(last, last, memory)
        self.up = nn.ModuleList(Level(2 * width, width, memory) for width in reversed(widths))
        self.larger = nn.ModuleList(larger(narrow, wide) for narrow, wide in pairwise(reversed(widths)))
        self.end = nn.Sequential(normed(first), convolution(first, channels * patch**2), nn.PixelShuffle(patch))

    def forward(self, noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        told = self.told(timestep, context)
        seen = self.begin(torch.cat([self.cut(noisy), self.sketch(context)], dim=1))
        kept = []
        for i, level in enumerate(self.down):
            seen = level(seen, told, context)
            kept.append(seen)
            seen = self.smaller[i](seen) if i < len(self.smaller) else seen
        seen = self.middle(seen, told, context)
        for i, level in enumerate(self.up):
            seen = level(torch.cat([seen, kept.pop()], dim=1), told, context)
            seen = self.larger[i](seen) if i < len(self.larger) else seen
        prediction: Tensor = self.end(seen)
        return prediction


class Told(nn.Module):
    """Timestep and the context's sum -> float32 [N, TOLD, 1, 1].

    The tokens are added up by pooling: ONNX Runtime sums an axis of one row in another order than of several, and a
    picture must not depend on whom it shares its batches with.
    """

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Conv2d(2 * WAVES, TOLD, 1), nn.SiLU(), nn.Conv2d(TOLD, TOLD, 1))
        self.text = nn.Conv2d(memory, TOLD, 1)

    def forward(self, timestep: Tensor, context: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(WAVES) * (-math.log(SLOWEST) / WAVES))
        angles = timestep * rates
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return functional.silu(self.time(waves[:, :, None, None]) + self.text(sum_of(context)))


class Sketch(nn.Module):
    """What a text lets expect at each place, laid beside what is seen: context -> float32 [N, channels, side, side].

    Most of what is known of a thing is kept here: blocks of convolutions, which know no place by itself, learn drawings
    by heart more slowly.
    """

    def __init__(self, memory: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.text = nn.Conv2d(memory, TOLD, 1)
        self.picture = nn.Conv2d(TOLD, math.prod(shape), 1)
        nn.init.normal_(self.picture.weight, std=1 / (FASTER * TOLD**0.5))

    def forward(self, context: Tensor) -> Tensor:
        known = functional.silu(self.text(sum_of(context)))
        sketch: Tensor = FASTER * self.picture(known).unflatten(1, self.shape)[..., 0, 0]
        return sketch


class Level(nn.Module):
    """What is seen at one resolution, float32 [N, before, side, side] -> [N, width, side, side]: a residual block, and
    a look at the text.
    """

    def __init__(self, before: int, width: int, memory: int) -> None:
        super().__init__()
        self.first = nn.Sequential(normed(before), convolution(before, width))
        self.norm = nn.GroupNorm(GROUPS, width)
        self.tell = nn.Conv2d(TOLD, 2 * width, 1)
        self.second = convolution(width, width)
        self.straight = nn.Conv2d(before, width, 1) if before != width else nn.Identity()
        self.look = Look(width, memory)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)  # at first nothing is added, so that deep networks learn as fast as shallow ones

    def forward(self, seen: Tensor, told: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.tell(told).chunk(2, dim=1)
        added = self.second(functional.silu(self.norm(self.first(seen)) * (1 + scale) + shift))
        level: Tensor = self.look(self.straight(seen) + added, context)
        return level


class Look(nn.Module):
    """Each place looks at the text: float32 [N, width, side, side] and context, added to what was there."""

    def __init__(self, width: int, memory: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.pair = nn.Linear(memory, 2 * width)  # keys and values
        self.out = nn.Linear(width, width)

    def forward(self, seen: Tensor, context: Tensor) -> Tensor:
        places = self.norm(seen.flatten(2).transpose(1, 2))
        query = self.query(places).unflatten(2, (HEADS, -1)).transpose(1, 2)
        keys, values = self.pair(context).unflatten(2, (2, HEADS, -1)).permute(2, 0, 3, 1, 4)
        # Written out: for so few tokens torch's own attention takes four times as long to learn.
        weights = torch.softmax(query @ keys.transpose(2, 3) * query.shape[3] ** -0.5, dim=3)
        looked = self.out((weights @ values).transpose(1, 2).flatten(2))
        added: Tensor = looked.transpose(1, 2).unflatten(2, seen.shape[2:])
        return seen + added


def sum_of(context: Tensor) -> Tensor:
    """Over the tokens: float32 [N, memory, 1, 1]."""
    mean = functional.avg_pool1d(context.transpose(1, 2), context.shape[1])
    return (mean * context.shape[1]).unsqueeze(3)


def convolution(before: int, width: int, *, stride: int = 1) -> nn.Conv2d:
    """Over three places each way, with the edges filled up."""
    return nn.Conv2d(before, width, 3, stride=stride, padding=1)


def normed(width: int) -> nn.Sequential:
    """What stands before a convolution."""
    return nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU())


def larger(before: int, width: int) -> nn.Sequential:
    """Twice the resolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2.0), convolution(before, width))
