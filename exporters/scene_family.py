"""What all families trained on emoji scenes share; a family adds its network, its loss and its measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Generator, Tensor

from exporters import augmentation
from exporters.data.scene_rows import held_out_scenes
from exporters.data.splits import Splits
from exporters.family import TrainedFamily, some_rows
from serving.picture_task import PIXELS
from serving.repository.manifest import Licence
from serving.tensors import Tensors

SIDE = 128  # pixels that the networks see, of scenes of 256


class SceneFamily(TrainedFamily):
    """Networks take RGB pixels uint8 [N, 128, 128, 3]."""

    intended_use = (
        "Find emoji of forty kinds on pictures, each a fifth to a half as long as the picture. To learn from and to "
        "test with: it knows no things on photos."
    )
    preprocessing: ClassVar = {"resize": None, "letterbox": True, "size": SIDE, "resample": "bilinear", "channels": 3}
    compact = True

    def asked(self, data: Splits | None = None) -> Sequence[Tensors | str]:
        if data is not None:
            return super().asked(data)
        return some_rows({PIXELS: held_out_scenes(SceneFamily.preprocessing)})

    def licence(self) -> Licence:
        attribution = "Scenes drawn with Noto Emoji (Google, OFL-1.1) on photos of scikit-image."
        return Licence(spdx="Apache-2.0", source="trained by tidegate from random weights", attribution=attribution)

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """Other light, and a little noise."""
        pictures = inputs[0].permute(0, 3, 1, 2).float() / 255
        pictures = augmentation.contrast(pictures, generator, least=0.6)
        pictures = augmentation.noise(pictures, generator, deviation=0.04)
        return ((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1), *inputs[1:])
