"""Grounds to put things on: plain, shaded from one colour to another, or a part of a photo.

The photos are scikit-image's; each belongs to one part of the data alone, so a network is tested on grounds that it has
not seen. What a photo itself shows counts for nothing: a real rocket is no emoji.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from exporters.provenance import package_file
from serving.tensors import Array

if TYPE_CHECKING:
    import PIL.Image

# Those of the test are published with golden rows: NASA, public domain, and CC0.
PHOTOS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "coffee.png",
        "grass.png",
        "rocket.jpg",
        "ihc.png",
        "coins.png",
    ),
    "validation": ("chelsea.png", "gravel.png"),
    "test": ("retina.jpg", "hubble_deep_field.jpg", "moon.png", "cell.png"),
}  # fmt: skip


def make_background(side: int, part: str, generator: np.random.Generator) -> PIL.Image.Image:
    """RGB of side x side pixels: a quarter plain, a quarter shaded, half of them photos of `part`."""
    import PIL.Image

    kind = generator.random()
    if kind < 0.25:
        return PIL.Image.new("RGB", (side, side), _colour(generator))
    if kind < 0.5:
        return PIL.Image.fromarray(_shaded(side, generator))
    photo = _photo(str(generator.choice(PHOTOS[part])))
    crop = int(generator.uniform(0.4, 1.0) * min(photo.size))
    left, top = (int(generator.integers(0, size - crop + 1)) for size in photo.size)
    return photo.resize((side, side), PIL.Image.Resampling.BILINEAR, (left, top, left + crop, top + crop))


def _colour(generator: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in generator.integers(0, 256, 3))
    return red, green, blue


def _shaded(side: int, generator: np.random.Generator) -> Array:
    """From one colour to another, in a random direction."""
    down, across = np.mgrid[0:side, 0:side] / (side - 1) - 0.5
    angle = generator.uniform(0, 2 * np.pi)
    share = np.clip(across * np.cos(angle) + down * np.sin(angle) + 0.5, 0, 1)[..., None]
    first, second = np.array(_colour(generator)), np.array(_colour(generator))
    shaded: Array = (first * (1 - share) + second * share).astype(np.uint8)
    return shaded


@cache
def _photo(name: str) -> PIL.Image.Image:
    import PIL.Image

    with PIL.Image.open(package_file("skimage", "data", name)) as photo:
        return photo.convert("RGB")
