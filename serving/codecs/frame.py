"""Where a model's square of pixels lies on the caller's picture, and the way back from the one to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.codecs.orientation import Box
from serving.tensors import Array


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of a picture, in its upright pixels, that fills a model's square. It may reach outside: what it covers
    there is no part of the picture.

    left, top, right, bottom: of that part; width, height: of the picture.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int

    @property
    def box(self) -> Box:
        """What of the picture the model sees."""
        return max(0, self.left), max(0, self.top), min(self.width, self.right), min(self.height, self.bottom)

    def to_picture(self, boxes: Array, size: int) -> tuple[Array, Array]:
        """Boxes in pixels of the model's square of side `size`, as boxes in pixels of the picture, cut at its edges.

        boxes: float [n, 4] as xmin, ymin, xmax, ymax. Gives float64 [n, 4], and bool [n]: of which something is left.
        """
        scale = np.array([self.right - self.left, self.bottom - self.top] * 2) / size
        moved = boxes.astype(np.float64) * scale + np.array([self.left, self.top] * 2)
        moved = np.clip(moved, 0, np.array([self.width, self.height] * 2))
        return moved, (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])

    def to_square(self, x: Array, y: Array, size: tuple[int, int]) -> tuple[Array, Array]:
        """Places on the picture as places on a grid of `size` (columns, rows) that fills the model's square."""
        across = (x - self.left) * (size[0] / (self.right - self.left))
        return across, (y - self.top) * (size[1] / (self.bottom - self.top))
