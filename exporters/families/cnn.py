"""A plain convolutional network on handwritten digits: three convolution blocks, two dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from exporters import augmentation
from exporters.classification import accuracy, batch_accuracy, logistic_accuracy, smooth_cross_entropy
from exporters.data.digits import load_digits
from exporters.data.splits import Splits
from exporters.family import Predict, Recipe, TrainedFamily
from exporters.layers import PixelsIn, ProbabilitiesOut
from serving.repository.manifest import Licence, Metric

SIDE = 32  # pixels
CLASSES = 10
PLACING = augmentation.Placing(degrees=12, shift=0.08, slant=0.15, scale=(0.45, 1.1), narrowing=(0.6, 1.1))


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),  # batch norm has the bias
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class DigitsNetwork(nn.Sequential):
    """Grey pixels uint8 [N, 32, 32, 1] -> scores float32 [N, 10]. 155,898 parameters."""

    def __init__(self) -> None:
        super().__init__(
            PixelsIn(mean=127.5, scale=127.5),  # so that a negative picture is a negated input
            _block(1, 16),
            _block(16, 32),
            _block(32, 64),
            nn.Flatten(),
            nn.Linear(64 * (SIDE // 8) ** 2, 128),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(128, CLASSES),
        )


class Cnn(TrainedFamily):
    """Digits 0 to 9, one to a picture, light on dark or dark on light."""

    model = "digits-cnn"
    task = "classify"
    intended_use = "Name the one handwritten digit that fills most of a picture. Not for photos of anything else."
    preprocessing: ClassVar = {"resize": SIDE, "size": SIDE, "resample": "bilinear", "channels": 1}
    tolerance = 1e-5
    floors: ClassVar = {"accuracy": 0.97}
    recipe = Recipe(
        epochs=60,
        batch_size=64,
        optimizer="adam",
        learning_rate=3e-3,
        warm_up=0.1,
        weight_decay=1e-2,
        patience=15,
    )
    quick_recipe = Recipe(epochs=5, batch_size=32, optimizer="adam", learning_rate=3e-3, warm_up=0.1, patience=5)
    quick_floors: ClassVar = {"accuracy": 0.8}
    golden_rows = 8

    def licence(self) -> Licence:
        attribution = "Digits: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, through scikit-learn."
        return Licence(spdx="Apache-2.0", source="trained by tidegate from random weights", attribution=attribution)

    def labels(self) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(CLASSES))

    def data(self) -> Splits:
        return load_digits(self.preprocessing)

    def network(self) -> nn.Module:
        return DigitsNetwork()

    def served(self, network: nn.Module) -> nn.Module:
        return ProbabilitiesOut(network)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return smooth_cross_entropy(scores, targets)

    def score(self, scores: Tensor, targets: Tensor) -> Tensor:
        return batch_accuracy(scores, targets)

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """Training rows fill their frame and are soft; callers' digits have margins, sharp strokes, either polarity."""
        pictures = inputs[0].permute(0, 3, 1, 2).float() / 255
        pictures = augmentation.place(pictures, generator, PLACING)
        pictures = augmentation.sharpen(pictures, generator, strongest=5)
        pictures = augmentation.contrast(pictures, generator, least=0.5)
        pictures = augmentation.noise(pictures, generator, deviation=0.08)
        pictures = augmentation.invert(pictures, generator, share=0.5)
        return ((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1),)

    def measure(self, predict: Predict, data: Splits) -> Mapping[str, Metric]:
        return {
            "accuracy": Metric(
                value=accuracy(predict, data.test),
                rows=len(data.test),
                baseline=logistic_accuracy(data.train, data.test),
                baseline_name="logistic regression on the pixels",
            )
        }


PLUGIN = Cnn
