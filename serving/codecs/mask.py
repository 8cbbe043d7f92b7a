"""Maps of classes in the size of the caller's picture, and as they are sent: COCO's run lengths, palette PNG."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import PIL.Image
import pycocotools.mask

from serving.codecs.frame import Frame
from serving.tensors import Array

BAND: Final = 1 << 20  # pixels that are worked on at once, so that large pictures take little memory
GOLDEN_ANGLE: Final = 0.381966  # of a turn: hues of neighbours lie far apart, however many there are


def enlarge(class_map: Array, confidence: Array, frame: Frame, classes: int) -> Array:
    """The map in the picture's own pixels: uint8 [height, width]. What the model did not see is class 0.

    class_map: uint8 [rows, columns], below `classes`; confidence: float32 of that shape, the probability of that class.
    Each class's probability is interpolated linearly, and the greatest wins, so edges are smooth. Of two classes both
    probabilities are known; of more, those that are not the greatest count as 0.
    """
    present = np.unique(class_map)
    found = np.full((frame.height, frame.width), present[0] if len(present) == 1 else 0, np.uint8)
    left, top, right, bottom = (round(edge) for edge in frame.box)
    if len(present) > 1:
        across, down = frame.to_square(
            np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5, (class_map.shape[1], class_map.shape[0])
        )
        soft = [_across(_probability(class_map, confidence, one, classes), across) for one in present]
        step = max(1, BAND // max(1, right - left))
        for first in range(0, bottom - top, step):
            rows = down[first : first + step]
            found[top + first : top + first + len(rows), left:right] = present[_greatest(soft, rows)]
    outside = np.ones_like(found, np.bool_) if (left, top, right, bottom) != (0, 0, frame.width, frame.height) else None
    if outside is not None:
        outside[top:bottom, left:right] = False
        found[outside] = 0
    return found


def run_lengths(mask: Array) -> tuple[list[int], str]:
    """bool [height, width] as COCO's compressed run lengths, as pycocotools reads them: `size` and `counts`."""
    encoded = pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))
    return [int(length) for length in encoded["size"]], encoded["counts"].decode("ascii")


def from_run_lengths(size: list[int], counts: str) -> Array:
    """The mask of run lengths: bool [height, width]."""
    found: Array = pycocotools.mask.decode({"size": size, "counts": counts.encode("ascii")}).astype(np.bool_)
    return found


def read_run_lengths(size: Sequence[int], counts: str | Sequence[int]) -> Array:
    """As `from_run_lengths`, of run lengths that somebody sent, compressed or not. ValueError: they are no mask of that
    size. (pycocotools takes what it is given on trust.)

    Source: rleFrString of https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    lengths = np.asarray(_decompressed(counts) if isinstance(counts, str) else counts, dtype=np.object_)
    pixels = size[0] * size[1]
    if any(not 0 <= length <= pixels for length in lengths) or sum(lengths) != pixels:
        raise ValueError(f"expected run lengths of {pixels} pixels together, none of them negative")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths.astype(np.int64)).reshape(size[1], size[0]).T


def palette_png(class_map: Array, *, background: bool) -> bytes:
    """uint8 [height, width] as a PNG whose pixel values are the classes, each class in a colour of its own.

    background: class 0 is nothing, and black.
    """
    picture = PIL.Image.fromarray(class_map, "P")
    picture.putpalette(bytes(channel for number in range(256) for channel in colour(number, background=background)))
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def colour(class_id: int, *, background: bool) -> tuple[int, int, int]:
    """A class's colour, red, green and blue: the same everywhere."""
    if background and class_id == 0:
        return 0, 0, 0
    hue = (class_id * GOLDEN_ANGLE) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.6)[class_id // 8 % 2], (1.0, 0.75)[class_id // 16 % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def _decompressed(text: str) -> list[int]:
    """Five bits a character, the lowest first; from the fourth length on, differences to the one before the last."""
    lengths: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("expected COCO's compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("expected COCO's compressed run lengths; they break off")
    return lengths


def _probability(class_map: Array, confidence: Array, one: int, classes: int) -> Array:
    other = 1 - confidence if classes == 2 else np.zeros_like(confidence)
    return np.where(class_map == one, confidence, other)


def _across(values: Array, places: Array) -> Array:
    """float32 [rows, columns] at places along the rows: float32 [rows, places]."""
    before, after, share = _between(places, values.shape[1])
    mixed: Array = values[:, before] * (1 - share) + values[:, after] * share
    return mixed


def _greatest(soft: list[Array], rows: Array) -> Array:
    """Which of the maps is greatest at each row's place: int64 [rows, columns]; of equals the first."""
    before, after, share = _between(rows, len(soft[0]))
    share = share[:, np.newaxis]
    best, greatest = np.zeros((len(rows), soft[0].shape[1]), np.int64), None
    for number, values in enumerate(soft):
        here = values[before] * (1 - share) + values[after] * share
        if greatest is None:
            greatest = here
            continue
        best[here > greatest] = number
        np.maximum(greatest, here, out=greatest)
    return best


def _between(places: Array, count: int) -> tuple[Array, Array, Array]:
    """The cells around places on a row of `count` cells, and how far each place is from the first to the second."""
    middle = np.clip(places - 0.5, 0, count - 1)
    before = np.minimum(middle.astype(np.int64), max(0, count - 2))
    return before, np.minimum(before + 1, count - 1), (middle - before).astype(np.float32)
