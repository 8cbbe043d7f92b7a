"""Picture files to model inputs, by the very calls that serve them: training and serving cannot drift apart."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from serving.codecs.image import open_image
from serving.codecs.preprocessing import ImagePreprocessing
from serving.tensors import Array


def encode_pictures(files: Iterable[bytes], preprocessing: ImagePreprocessing) -> Array:
    """JPEG, PNG or WebP files as uint8 [N, size, size, channels]. ImageInvalid for a damaged one."""
    return np.stack([preprocessing.apply(open_image(file)) for file in files])


def as_png(pixels: Array) -> bytes:
    """uint8 [height, width] (grey) or [height, width, 3] as the PNG file that a caller could have sent."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
