"""How a camera was held: the Exif orientation tag, and turning boxes and pixels by it.

Only the first Exif block counts. Orientation in XMP or in ImageMagick's text chunks is not read.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from serving.tensors import Array

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; pixel (0, 0) covers 0 to 1."""

_TAG = 0x0112
_SHORT = 3
# Entries are sorted by tag, so no more than these can stand at or before this one.
_MOST_ENTRIES = _TAG + 1


class Orientation(NamedTuple):
    """The way from stored to upright pixels: first swap the axes, then mirror x, then mirror y."""

    swapped: bool
    mirrored_x: bool
    mirrored_y: bool

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size after turning. It is its own inverse."""
        return (height, width) if self.swapped else (width, height)

    def stored_box(self, box: Box, width: int, height: int) -> Box:
        """Where the upright `box` lies in stored coordinates; width and height are the upright picture's."""
        left, top, right, bottom = box
        if self.mirrored_x:
            left, right = width - right, width - left
        if self.mirrored_y:
            top, bottom = height - bottom, height - top
        return (top, left, bottom, right) if self.swapped else (left, top, right, bottom)

    def upright(self, stored: Array) -> Array:
        """Stored pixels [height, width, ...] turned upright, as a view."""
        turned = stored.swapaxes(0, 1) if self.swapped else stored
        return turned[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]


UPRIGHT = Orientation(swapped=False, mirrored_x=False, mirrored_y=False)
_BY_TAG = {
    1: UPRIGHT,
    2: Orientation(swapped=False, mirrored_x=True, mirrored_y=False),
    3: Orientation(swapped=False, mirrored_x=True, mirrored_y=True),
    4: Orientation(swapped=False, mirrored_x=False, mirrored_y=True),
    5: Orientation(swapped=True, mirrored_x=False, mirrored_y=False),
    6: Orientation(swapped=True, mirrored_x=True, mirrored_y=False),
    7: Orientation(swapped=True, mirrored_x=True, mirrored_y=True),
    8: Orientation(swapped=True, mirrored_x=False, mirrored_y=True),
}


def read_orientation(exif: bytes) -> Orientation:
    """The orientation that an Exif block names; UPRIGHT where it names none or is damaged."""
    try:
        return _BY_TAG.get(_tag_value(exif), UPRIGHT)
    except struct.error:
        return UPRIGHT


def _tag_value(exif: bytes) -> int:
    """The tag's value, 0 where it is missing; struct.error where the block ends too early."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 0
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (entries,) = struct.unpack_from(f"{order}H", exif, directory)
    for index in range(min(entries, _MOST_ENTRIES)):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, directory + 2 + 12 * index)
        if tag == _TAG:
            return int(value) if kind == _SHORT else 0
    return 0
