"""A checkpoint's preprocessor: what is done to pictures outside of the graph, and what to pixels inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from exporters.errors import CheckpointUnsupported
from exporters.hub.checkpoint import Checkpoint
from serving.codecs.preprocessing import ImagePreprocessing
from serving.tensors import Array

FILES: Final = ("preprocessor_config.json", "processor_config.json")
NESTED: Final = "image_processor"  # where processor_config.json has it
RESAMPLES: Final = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True, slots=True)
class Seeing:
    """How pictures are seen. mean, scale: float32, one for each channel, of pixels from 0 to 255."""

    preprocessing: ImagePreprocessing
    mean: Array
    scale: Array

    def pixels_in(self) -> nn.Module:
        """uint8 [N, height, width, 3] -> float32 [N, 3, height, width] as the network was trained on."""
        return _PixelsIn(torch.from_numpy(self.mean), torch.from_numpy(self.scale))


class _PixelsIn(nn.Module):
    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("scale", scale.view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        # Transposed while they are bytes: a quarter of the memory to move.
        return (pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.scale


def read_seeing(checkpoint: Checkpoint, side: int) -> Seeing:
    """Of a network that takes squares of `side` pixels. CheckpointUnsupported: no preprocessor, or one that differs."""
    stated = _stated(checkpoint)
    resize, size = _sizes(stated)
    if size != side:
        raise _unfit(f"it makes pictures of {size} pixels, and the network takes {side}")
    if resize is not None and resize < size:
        raise _unfit(f"it crops {size} pixels from pictures of {resize}")
    resample = RESAMPLES.get(int(stated.get("resample") or 0))
    if resample is None:
        raise _unfit(f"its resample is {stated.get('resample')}; expected one of {sorted(RESAMPLES)}")
    factor = float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0
    mean, deviation = _normal(stated)
    preprocessing = ImagePreprocessing.model_validate({"resize": resize, "size": size, "resample": resample})
    return Seeing(preprocessing, (mean / factor).astype(np.float32), (deviation / factor).astype(np.float32))


def _stated(checkpoint: Checkpoint) -> Mapping[str, Any]:
    for name in FILES:
        found = checkpoint.json(name)
        nested = (found or {}).get(NESTED, found)
        if isinstance(nested, dict) and "size" in nested:
            return nested
    remedy = "Save it there too: AutoImageProcessor.from_pretrained(name).save_pretrained(folder)."
    raise CheckpointUnsupported(f"{checkpoint.folder.name} has no {FILES[0]}.", remedy=remedy)


def _normal(stated: Mapping[str, Any]) -> tuple[Array, Array]:
    """Mean and standard deviation of each channel."""
    if not stated.get("do_normalize", True):
        return np.zeros(3), np.ones(3)
    try:
        mean, deviation = (np.asarray(stated[name], np.float64) for name in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError):
        raise _unfit("it normalises, and states no image_mean or image_std") from None
    if mean.shape != (3,) or deviation.shape != (3,):
        raise _unfit("its image_mean and image_std are not of three channels")
    return mean, deviation


def _sizes(stated: Mapping[str, Any]) -> tuple[int | None, int]:
    """Short side before the centred crop, or None where there is none; side of the square that is seen."""
    size = stated["size"]
    short = size if isinstance(size, int) else size.get("shortest_edge")
    whole = None if isinstance(size, int) else _side(size)
    crop = _side(stated.get("crop_size")) if stated.get("do_center_crop") else None
    if not stated.get("do_resize", True):
        raise _unfit("it does not resize, so pictures have no fixed size")
    if whole is not None and crop in (None, whole):
        return None, whole
    if short is not None and crop is not None:
        return int(short), crop
    if isinstance(size, int):  # of older files: the whole picture, squeezed into a square
        return None, size
    raise _unfit(f"its size {size} and crop_size {stated.get('crop_size')} make no square")


def _side(size: Any) -> int | None:
    """The side of a square; None for anything else."""
    if isinstance(size, int):
        return size
    height, width = ((size or {}).get(name) for name in ("height", "width"))
    return int(height) if height is not None and height == width else None


def _unfit(why: str) -> CheckpointUnsupported:
    return CheckpointUnsupported(f"Its preprocessor cannot be taken: {why}.", remedy=f"Correct {FILES[0]}.")
