"""How a picture becomes a model's input pixels: said once per version, done alike in training and in serving."""

from __future__ import annotations

from typing import Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.codecs.frame import Frame
from serving.codecs.image import Image, Resample
from serving.tensors import Array

GREY: Final = 114  # around letterboxed pictures, as detectors are used to


class ImagePreprocessing(BaseModel):
    """What a manifest says under `preprocessing`.

    With `resize`, the picture is thought resized until its short side has that many pixels, and the centred square of
    `size` pixels is taken. Without (null), the whole picture is squeezed into the square, or, with `letterbox`, put
    into its middle in its own shape, with grey around it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: int | None = Field(ge=1, description="short side in pixels before the centre crop; null for no crop")
    size: int = Field(ge=1, le=4096, description="side of the square that the model sees, in pixels")
    letterbox: bool = Field(default=False, description="keep the shape of the whole picture, on grey")
    resample: Resample = "bicubic"
    channels: Literal[1, 3] = 3

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.letterbox and self.resize is not None:
            raise ValueError("letterbox shows the whole picture, so resize must be null")
        if self.resize is not None and self.size > self.resize:
            raise ValueError(f"size {self.size} is more than resize {self.resize}: the crop would reach outside")
        return self

    def apply(self, image: Image) -> Array:
        """The model's view of the picture: uint8 [size, size, channels]. ImageInvalid for damaged data."""
        frame = self.frame(image.width, image.height)
        if not self.letterbox:
            size = (self.size, self.size)
            return image.pixels(size, box=frame.box, resample=self.resample, channels=self.channels)
        left, top, right, bottom = self._inside(frame)
        inside = image.pixels((right - left, bottom - top), resample=self.resample, channels=self.channels)
        view = np.full((self.size, self.size, self.channels), GREY, np.uint8)
        view[top:bottom, left:right] = inside
        return view

    def frame(self, width: int, height: int) -> Frame:
        """Which part of an upright picture of that size fills the square."""
        if self.letterbox:
            # The picture fills whole pixels of the square, so its shape may be off by half a pixel of those.
            scale = self.size / max(width, height)
            columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
            left, top = (self.size - columns) // 2, (self.size - rows) // 2
            across, down = width / columns, height / rows
            return Frame(
                -left * across, -top * down, (self.size - left) * across, (self.size - top) * down, width, height
            )
        if self.resize is None:
            return Frame(0, 0, width, height, width, height)
        side = min(width, height) * (self.size / self.resize)
        left_edge, top_edge = (width - side) / 2, (height - side) / 2
        return Frame(left_edge, top_edge, left_edge + side, top_edge + side, width, height)

    def _inside(self, frame: Frame) -> tuple[int, int, int, int]:
        """Where on the square the picture is: left, top, right, bottom in its pixels."""
        x, y = frame.to_square(np.array([0, frame.width]), np.array([0, frame.height]), (self.size, self.size))
        left, right = (round(float(value)) for value in x)
        top, bottom = (round(float(value)) for value in y)
        return left, top, right, bottom
