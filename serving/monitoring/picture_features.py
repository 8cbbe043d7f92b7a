"""What a picture looks like, in a few numbers, from the pixels that a model sees."""

from __future__ import annotations

from typing import Final

import numpy as np

from serving.tensors import Array

SAMPLED: Final = 48  # pixels along a side that brightness and colour are read from
CROP: Final = 96  # pixels along a side of the middle that sharpness is read from: there strides would lie
COLOURED: Final = 0.15  # saturation from which a pixel has a hue


def picture_features(pixels: Array) -> dict[str, float]:
    """uint8 [height, width, channels] -> brightness and contrast from 0 to 1; sharpness, the variance of a Laplacian in
    grey levels; of three channels also saturation, and which share of what has a hue is mostly red, and blue.

    Source of sharpness: J. L. Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.
    """
    height, width, channels = pixels.shape
    step = max(1, max(height, width) // SAMPLED)
    sample = pixels[::step, ::step].astype(np.int16)
    grey = sample.astype(np.float32) @ np.full(channels, 1 / channels, np.float32)  # 10 times as quick as mean(axis=2)
    found = {"brightness": float(grey.mean()) / 255, "contrast": float(grey.std()) / 255}
    if min(height, width) > 2:
        found["sharpness"] = _sharpness(pixels)
    return {**found, **_colours(sample)} if channels == 3 else found


def _sharpness(pixels: Array) -> float:
    """Of the middle of the picture, by its only channel, or green, which is most of what eyes call bright."""
    height, width, channels = pixels.shape
    top, left = max(0, (height - CROP) // 2), max(0, (width - CROP) // 2)
    middle = pixels[top : top + CROP, left : left + CROP, channels // 2].astype(np.int16)
    around = middle[:-2, 1:-1] + middle[2:, 1:-1] + middle[1:-1, :-2] + middle[1:-1, 2:]
    return float((around - 4 * middle[1:-1, 1:-1]).var(dtype=np.float32))


def _colours(sample: Array) -> dict[str, float]:
    """Of int16 [rows, columns, 3]."""
    red, green, blue = sample[..., 0], sample[..., 1], sample[..., 2]
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    saturation = (most - least) / np.maximum(most, np.int16(1), dtype=np.float32)
    coloured = saturation > COLOURED
    count = int(np.count_nonzero(coloured))
    found = {"saturation": float(saturation.mean())}
    if count:
        is_red = coloured & (red == most)
        found["red_share"] = np.count_nonzero(is_red) / count
        found["blue_share"] = np.count_nonzero(coloured & (blue == most) & ~is_red) / count
    return found
