"""What all classifiers of Fashion-MNIST share; a family adds its network and its recipe."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from exporters import augmentation
from exporters.classification import batch_accuracy, classification_measures, smooth_cross_entropy
from exporters.data.fashion_mnist import CLASSES, SIDE, load_fashion_mnist
from exporters.data.splits import Splits
from exporters.family import Predict, TrainedFamily
from exporters.layers import ProbabilitiesOut
from exporters.measures.measured import Measured
from serving.repository.manifest import Licence

MEAN, SCALE = 72.9, 90.0  # of the training pixels
PLACING = augmentation.Placing(degrees=4, shift=0.06, slant=0.03, scale=(0.92, 1.08), narrowing=(0.95, 1.05))


class FashionClassifier(TrainedFamily):
    """Clothes on black, one piece a picture. Networks take uint8 [N, 28, 28, 1] and give scores float32 [N, 10]."""

    task = "classify"
    intended_use = (
        "Name the one piece of clothing on a small grey picture, light on black, as in Fashion-MNIST. To learn from "
        "and to test with, not for photos."
    )
    preprocessing: ClassVar = {"resize": None, "size": SIDE, "resample": "bilinear", "channels": 1}
    tolerance = 1e-4
    score_name = "accuracy"
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

    def served(self, network: nn.Module) -> nn.Module:
        return ProbabilitiesOut(network)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return smooth_cross_entropy(scores, targets)

    def score(self, scores: Tensor, targets: Tensor) -> Tensor:
        return batch_accuracy(scores, targets)

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """Clothes may face either way, and stand a little elsewhere."""
        pictures = inputs[0].permute(0, 3, 1, 2).float() / 255
        pictures = augmentation.mirror(pictures, generator, share=0.5)
        pictures = augmentation.place(pictures, generator, PLACING)
        return ((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1),)

    def measure(self, predict: Predict, data: Splits) -> Measured:
        return classification_measures(predict, data, self.labels())
