"""What all classifiers of Fashion-MNIST share; a family adds its network and its recipe."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor

from exporters import augmentation
from exporters.classification import Classifier
from exporters.data.fashion_mnist import CLASSES, SIDE, load_fashion_mnist
from exporters.data.splits import Splits
from serving.repository.manifest import Licence

MEAN, SCALE = 72.9, 90.0  # of the training pixels
PLACING = augmentation.Placing(degrees=4, shift=0.06, slant=0.03, scale=(0.92, 1.08), narrowing=(0.95, 1.05))


class FashionClassifier(Classifier):
    """Clothes on black, one piece a picture. Networks take uint8 [N, 28, 28, 1] and give scores float32 [N, 10]."""

    intended_use = (
        "Name the one piece of clothing on a small grey picture, light on black, as in Fashion-MNIST. To learn from "
        "and to test with, not for photos."
    )
    preprocessing: ClassVar = {"resize": None, "size": SIDE, "resample": "bilinear", "channels": 1}
    tolerance = 1e-4
    golden_rows = 8
    max_batch_size = 32
    compact = True

    def licence(self) -> Licence:
        attribution = "Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, Zalando Research."
        return Licence(spdx="Apache-2.0", source="trained by tidegate from random weights", attribution=attribution)

    def labels(self) -> tuple[str, ...]:
        return CLASSES

    def data(self, *, quick: bool) -> Splits:
        return load_fashion_mnist(self.preprocessing, quick=quick)

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """Clothes may face either way, and stand a little elsewhere."""
        pictures = inputs[0].permute(0, 3, 1, 2).float() / 255
        pictures = augmentation.mirror(pictures, generator, share=0.5)
        pictures = augmentation.place(pictures, generator, PLACING)
        return ((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1),)
