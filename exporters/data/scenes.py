"""Emoji scenes: one to four things put on a ground, with their labels, boxes, masks and a sentence about them.

One world for detection, segmentation, captions, joint embeddings and diffusion. Each scene is drawn from its own seed
(part and number), so the parts share no scene, the first n are the same whatever n is, and no photo on two sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from exporters.data.backgrounds import make_background
from exporters.data.emoji import NAMES, cut_out
from exporters.data.sentences import describe
from serving.tensors import Array

if TYPE_CHECKING:
    import PIL.Image

SIDE: Final = 256  # pixels of a scene; models see fewer
PARTS: Final = ("train", "validation", "test")
SEED: Final = 20_262
MOST: Final = 4  # things
SIZES: Final = (0.2, 0.45)  # of the side
TURN: Final = 25  # degrees to either side
LEAST_SEEN: Final = 0.75  # of a thing, when others lie on it
SOLID: Final = 128  # from this opacity on a pixel belongs to the thing
TRIES: Final = 30


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is on it, the things in the order they were put down.

    pixels: uint8 [256, 256, 3]; class_ids: int64 [n]; boxes: float32 [n, 4] as xmin, ymin, xmax, ymax around what is
    seen of each; masks: bool [n, 256, 256], of which no pixel belongs to two.
    """

    pixels: Array
    class_ids: Array
    boxes: Array
    masks: Array
    sentence: str

    @property
    def class_map(self) -> Array:
        """uint8 [256, 256]: 0 where there is nothing, else the thing's class + 1."""
        found: Array = ((self.class_ids[:, None, None] + 1) * self.masks).sum(axis=0).astype(np.uint8)
        return found


def make_scene(part: str, number: int) -> Scene:
    """Scene `number` of a part of the data. PackageMissing: the font or the photos are not here."""

    generator = np.random.default_rng([SEED, PARTS.index(part), number])
    picture = make_background(SIDE, part, generator)
    class_ids: list[int] = []
    masks: list[Array] = []
    for _ in range(int(generator.integers(1, MOST + 1))):
        class_id = int(generator.integers(len(NAMES)))
        if (placed := _place(class_id, masks, generator)) is None:
            continue
        thing, corner, mask = placed
        picture.paste(thing, corner, thing)
        masks = [other & ~mask for other in masks] + [mask]
        class_ids.append(class_id)
    boxes = np.array([_around(mask) for mask in masks], np.float32)
    sentence = describe([NAMES[class_id] for class_id in class_ids], boxes)
    return Scene(np.asarray(picture.convert("RGB")), np.array(class_ids), boxes, np.array(masks), sentence)


def _place(
    class_id: int, masks: Sequence[Array], generator: np.random.Generator
) -> tuple[PIL.Image.Image, tuple[int, int], Array] | None:
    """A thing as it will be pasted, where, and its mask; None when there is no room that leaves the others seen."""
    import PIL.Image

    thing = cut_out(NAMES[class_id])
    turned = thing.rotate(generator.uniform(-TURN, TURN), PIL.Image.Resampling.BICUBIC, expand=True)
    longer = generator.uniform(*SIZES) * SIDE
    size = [max(8, round(length * longer / max(turned.size))) for length in turned.size]
    small = turned.resize((size[0], size[1]), PIL.Image.Resampling.LANCZOS)
    solid = np.asarray(small.getchannel("A")) >= SOLID
    for _ in range(TRIES):
        left, top = (int(generator.integers(0, SIDE - length + 1)) for length in small.size)
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[top : top + small.height, left : left + small.width] = solid
        if all((other & mask).sum() <= (1 - LEAST_SEEN) * other.sum() for other in masks):
            return small, (left, top), mask
    return None


def _around(mask: Array) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
