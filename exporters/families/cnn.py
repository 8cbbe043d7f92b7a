"""A plain convolutional network: three convolution blocks, two dense layers. On clothes, and on digits."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from exporters import augmentation
from exporters.classification import Classifier
from exporters.data import fashion_mnist
from exporters.data.digits import load_digits
from exporters.data.splits import Splits
from exporters.family import Recipe
from exporters.fashion import MEAN, SCALE, FashionClassifier
from exporters.layers import PixelsIn
from serving.repository.manifest import Licence

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


class Network(nn.Sequential):
    """Grey pixels uint8 [N, side, side, 1] -> scores float32 [N, 10]. `width`: channels of the first block."""

    def __init__(self, pixels: PixelsIn, side: int, width: int, dropout: float) -> None:
        super().__init__(
            pixels,
            _block(1, width),
            _block(width, 2 * width),
            _block(2 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * (side // 8) ** 2, 128),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(128, CLASSES),
        )


class DigitsCnn(Classifier):
    """Digits 0 to 9, one to a picture, light on dark or dark on light."""

    model = "digits-cnn"
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

    def data(self, *, quick: bool) -> Splits:
        del quick  # 1,797 rows
        return load_digits(self.preprocessing)

    def network(self) -> nn.Module:
        # The mean: so that a negative picture is a negated input.
        return Network(PixelsIn(mean=127.5, scale=127.5), SIDE, width=16, dropout=0.4)

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """Training rows fill their frame and are soft; callers' digits have margins, sharp strokes, either polarity."""
        pictures = inputs[0].permute(0, 3, 1, 2).float() / 255
        pictures = augmentation.place(pictures, generator, PLACING)
        pictures = augmentation.sharpen(pictures, generator, strongest=5)
        pictures = augmentation.contrast(pictures, generator, least=0.5)
        pictures = augmentation.noise(pictures, generator, deviation=0.08)
        pictures = augmentation.invert(pictures, generator, share=0.5)
        return ((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1),)


class Cnn(FashionClassifier):
    """Clothes of Fashion-MNIST. 242,000 parameters."""

    model = "cnn"
    floors: ClassVar = {"accuracy": 0.91}
    recipe = Recipe(
        epochs=9, batch_size=128, optimizer="adam", learning_rate=3e-3, warm_up=0.2, weight_decay=2e-2, patience=9
    )
    quick_recipe = Recipe(epochs=2, batch_size=64, optimizer="adam", learning_rate=3e-3, warm_up=0.2, patience=2)
    quick_floors: ClassVar = {"accuracy": 0.6}
    variants = (DigitsCnn,)

    def network(self) -> nn.Module:
        return Network(PixelsIn(mean=MEAN, scale=SCALE), fashion_mnist.SIDE, width=32, dropout=0.3)


PLUGIN = Cnn
