"""Pictures that cost a server what photos cost: drawn here, of the size and weight of photos, each one another."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import PIL.Image

EXAMPLE: Final = "example"
QUALITY: Final = 90
SIZE: Final = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")
OCTAVES: Final = (4, 8, 16, 32, 64, 128)  # blobs of these sizes make areas, edges and textures
GRAIN: Final = 14.0  # of a sensor; it is what makes a JPEG of 640 x 427 weigh 130 KiB and not 30


def photo(width: int, height: int, seed: int = 0) -> bytes:
    """A JPEG of soft areas, edges and grain, of about 4 bits a pixel as photos from cameras have."""
    shift = np.random.default_rng(seed).integers(0, (height, width))
    pixels = np.roll(_canvas(width, height), shift, axis=(0, 1))
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


@cache
def _canvas(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Drawn once for each size, which takes a while; photos are views of it."""
    chance = np.random.default_rng(0)
    canvas = np.zeros((height, width, 3), np.float32)
    for size in OCTAVES:
        shape = (height // size + 2, width // size + 2, 3)
        blobs = PIL.Image.fromarray(chance.integers(0, 256, shape, np.uint8))
        canvas += np.asarray(blobs.resize((width, height), PIL.Image.Resampling.BICUBIC), np.float32) * size**0.5
    canvas /= sum(size**0.5 for size in OCTAVES)
    canvas += chance.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def named(picture: str, count: int) -> list[tuple[bytes, str]]:
    """So many pictures with their media types: WIDTHxHEIGHT of photos, or one file. FileNotFoundError and the like."""
    if size := SIZE.fullmatch(picture):
        return [(photo(int(size[1]), int(size[2]), seed), "image/jpeg") for seed in range(count)]
    return [(Path(picture).read_bytes(), PIL.Image.MIME[_format(Path(picture))])]


def _format(path: Path) -> str:
    with PIL.Image.open(path) as opened:
        return opened.format or "JPEG"
