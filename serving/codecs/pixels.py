"""Pictures that models made, as PNG, and back."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

from serving.tensors import Array


def picture_png(pixels: Array) -> bytes:
    """uint8 [height, width, 3] as a PNG, the same bytes for the same pixels."""
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def pixels_of(png: bytes) -> Array:
    """What picture_png was given."""
    with PIL.Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        return np.array(picture)
