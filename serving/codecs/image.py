"""Pictures that callers send, as pixels. The only way in: nothing else of the gateway decodes an image.

Opening reads the header alone. Pixels are decoded and resampled in one go when asked for, and only as finely as the
asked size needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import PIL.Image

from serving.codecs import jpeg, png, refusals, webp
from serving.codecs.header import Header
from serving.codecs.orientation import UPRIGHT, Box, Orientation, read_orientation
from serving.tensors import Array

Format = Literal["JPEG", "PNG", "WEBP"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]

MAX_SIDE = 8192
MAX_PIXELS = 25_000_000

_FILTERS = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class Image:
    """A picture whose header has been read. Its size is the upright one, as it is meant to be looked at."""

    format: Format
    width: int
    height: int
    data: bytes = field(repr=False)
    stored: Header = field(repr=False)
    orientation: Orientation

    def pixels(
        self,
        size: tuple[int, int],
        *,
        box: Box | None = None,
        resample: Resample = "bicubic",
        channels: Literal[1, 3] = 3,
    ) -> Array:
        """The part `box` of the upright picture (None: the whole) resampled to `size` (width, height) in one step.

        uint8 [height, width, channels]: RGB over white, or grey by ITU-R 601. Resampling is antialiased except for
        "nearest". Colour profiles are ignored. ImageInvalid for damaged data; ValueError for a size below 1 or a box
        that is empty or reaches outside.
        """
        box = box or (0, 0, self.width, self.height)
        self._check(size, box)
        nearest = resample == "nearest"
        reduction = 1 if nearest else min((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
        picture, shrink = self._decode(reduction, grey=channels == 1)
        turn = self.orientation
        if nearest and turn != UPRIGHT:
            # Between two equally near pixels the direction decides, so the picture is turned before it is sampled.
            picture, turn = PIL.Image.fromarray(np.ascontiguousarray(turn.upright(np.asarray(picture)))), UPRIGHT
        left, top, right, bottom = turn.stored_box(box, self.width, self.height)
        shrunk = (left / shrink, top / shrink, right / shrink, bottom / shrink)
        resized = picture.resize(turn.size(*size), _FILTERS[resample], shrunk)
        return np.array(turn.upright(np.asarray(resized)), order="C").reshape(size[1], size[0], channels)

    def _check(self, size: tuple[int, int], box: Box) -> None:
        if min(size) < 1:
            raise ValueError(f"size {size} is below 1 x 1")
        left, top, right, bottom = box
        if not (0 <= left < right <= self.width and 0 <= top < bottom <= self.height):
            raise ValueError(f"box {box} is no part of a picture of {self.width} x {self.height}")

    def _decode(self, reduction: float, *, grey: bool) -> tuple[PIL.Image.Image, int]:
        """The stored pixels as mode L or RGB, shrunk by a whole number that is at most `reduction`, and that number."""
        shrink = 1
        if self.format == "JPEG":
            picture, shrink = jpeg.decode(self.data, self.stored, reduction, grey=grey)
        else:
            picture = png.decode(self.data) if self.format == "PNG" else webp.decode(self.data)
        mode = "L" if grey else "RGB"
        return picture if picture.mode == mode else picture.convert(mode), shrink


def open_image(data: bytes) -> Image:
    """Read the header of a JPEG, PNG or WebP file, known by its content; no pixel is decoded.

    ImageInvalid for anything else and for a damaged header; ImageTooLarge above MAX_SIDE or MAX_PIXELS.
    """
    kind = _format(data)
    header = _READERS[kind](data)
    width, height = header.width, header.height
    if min(width, height) < 1:
        raise refusals.no_pixels(width, height)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise refusals.too_large(width, height, max_side=MAX_SIDE, max_pixels=MAX_PIXELS)
    orientation = read_orientation(header.exif)
    return Image(kind, *orientation.size(width, height), data, header, orientation)


_READERS = {"JPEG": jpeg.read_header, "PNG": png.read_header, "WEBP": webp.read_header}


def _format(data: bytes) -> Format:
    if not data:
        raise refusals.empty()
    if data.startswith(jpeg.SIGNATURE):
        return "JPEG"
    if data.startswith(png.SIGNATURE):
        return "PNG"
    if webp.matches(data):
        return "WEBP"
    raise refusals.unknown_format()
