"""How a picture becomes a model's input pixels: said once per version, done alike in training and in serving."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.codecs.image import Image, Resample
from serving.codecs.orientation import Box
from serving.tensors import Array


class ImagePreprocessing(BaseModel):
    """What a manifest says under `preprocessing`.

    With `resize`, the picture is thought resized until its short side has that many pixels, and the centred square of
    `size` pixels is taken. Without (null), the whole picture is squeezed into the square.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: int | None = Field(ge=1, description="short side in pixels before the centre crop; null for no crop")
    size: int = Field(ge=1, le=4096, description="side of the square that the model sees, in pixels")
    resample: Resample = "bicubic"
    channels: Literal[1, 3] = 3

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.resize is not None and self.size > self.resize:
            raise ValueError(f"size {self.size} is more than resize {self.resize}: the crop would reach outside")
        return self

    def apply(self, image: Image) -> Array:
        """The model's view of the picture: uint8 [size, size, channels]. ImageInvalid for damaged data."""
        size = (self.size, self.size)
        return image.pixels(size, box=self._box(image), resample=self.resample, channels=self.channels)

    def _box(self, image: Image) -> Box | None:
        """The part that is seen, in pixels of the picture: to resample it alone saves the resized picture between."""
        if self.resize is None:
            return None
        side = min(image.width, image.height) * (self.size / self.resize)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return left, top, left + side, top + side
