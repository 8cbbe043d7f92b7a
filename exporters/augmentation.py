"""Changes to training pictures that a viewer would not mind. Each picture of a batch gets its own.

All take and give float32 [N, channels, height, width] from 0 to 1 and draw from the generator they are given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Placing:
    """How far a picture may be moved about: degrees to either side, shift and slant as shares of the side.

    scale: least and most, of the height; narrowing: least and most of the width against that.
    """

    degrees: float
    shift: float
    slant: float
    scale: tuple[float, float]
    narrowing: tuple[float, float]


def place(pictures: Tensor, generator: Generator, limits: Placing) -> Tensor:
    """Scaled, slanted, turned and moved at random within the limits; 0 around it."""
    count = len(pictures)
    angle = _between(-math.radians(limits.degrees), math.radians(limits.degrees), count, generator)
    height = _between(*limits.scale, count, generator)
    width = height * _between(*limits.narrowing, count, generator)
    slant = _between(-limits.slant, limits.slant, count, generator)
    across = _between(-2 * limits.shift, 2 * limits.shift, count, generator)  # the grid's side is 2
    down = _between(-2 * limits.shift, 2 * limits.shift, count, generator)
    # From a place in the new picture to the place in the old one that is seen there.
    cosine, sine = torch.cos(angle), torch.sin(angle)
    first = torch.stack([(cosine + slant * sine) / width, (slant * cosine - sine) / width, across], 1)
    second = torch.stack([sine / height, cosine / height, down], 1)
    grid = functional.affine_grid(torch.stack([first, second], 1), list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="zeros", align_corners=False)


def sharpen(pictures: Tensor, generator: Generator, *, strongest: float) -> Tensor:
    """Greys pushed towards black and white by a random amount, as a thin pen or a scanner would."""
    strength = _between(1.0, strongest, len(pictures), generator).view(-1, 1, 1, 1)
    middle = _between(0.2, 0.7, len(pictures), generator).view(-1, 1, 1, 1)
    return ((pictures - middle) * strength + middle).clamp(0, 1)


def contrast(pictures: Tensor, generator: Generator, *, least: float) -> Tensor:
    """Black to white squeezed into a random part of the range that is at least `least` wide."""
    width = _between(least, 1.0, len(pictures), generator).view(-1, 1, 1, 1)
    dark = _between(0.0, 1.0, len(pictures), generator).view(-1, 1, 1, 1) * (1 - width)
    return pictures * width + dark


def invert(pictures: Tensor, generator: Generator, *, share: float) -> Tensor:
    """A random share of the pictures as their negatives."""
    chosen = (torch.rand(len(pictures), generator=generator, device=generator.device) < share).view(-1, 1, 1, 1)
    return torch.where(chosen, 1 - pictures, pictures)


def mirror(pictures: Tensor, generator: Generator, *, share: float) -> Tensor:
    """A random share of the pictures, left and right exchanged."""
    chosen = (torch.rand(len(pictures), generator=generator, device=generator.device) < share).view(-1, 1, 1, 1)
    return torch.where(chosen, pictures.flip(3), pictures)


def noise(pictures: Tensor, generator: Generator, *, deviation: float) -> Tensor:
    """Normal noise of a random strength up to `deviation`."""
    strength = _between(0.0, deviation, len(pictures), generator).view(-1, 1, 1, 1)
    return (pictures + torch.randn(pictures.shape, generator=generator, device=generator.device) * strength).clamp(0, 1)


def _between(low: float, high: float, count: int, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low
