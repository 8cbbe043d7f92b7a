"""AlexNet for small pictures: five convolutions, ReLU, overlapping max pooling, two hidden dense layers with dropout.

Source: A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from exporters.data.fashion_mnist import CLASSES
from exporters.family import Recipe
from exporters.fashion import MEAN, SCALE, FashionClassifier
from exporters.layers import PixelsIn


class Network(nn.Sequential):
    """Pixels uint8 [N, 28, 28, 1] -> scores float32 [N, 10]. Channels and kernels are cut down to 28 pixels; the order
    of the layers is the source's. No batch norm: it came three years later.
    """

    def __init__(self) -> None:
        super().__init__(
            PixelsIn(mean=MEAN, scale=SCALE),
            *_convolution(1, 32, 5),
            nn.MaxPool2d(3, stride=2, padding=1),
            *_convolution(32, 64, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
            *_convolution(64, 96, 3),
            *_convolution(96, 96, 3),
            *_convolution(96, 64, 3),
            nn.MaxPool2d(3, stride=2),
            nn.Flatten(),
            *_dense(64 * 3 * 3, 512),
            *_dense(512, 512),
            nn.Linear(512, len(CLASSES)),
        )


def _convolution(channels_in: int, channels_out: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has one
    return convolution, nn.ReLU()


def _dense(numbers_in: int, numbers_out: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    dense = nn.Linear(numbers_in, numbers_out)
    nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
    nn.init.zeros_(dense.bias)
    return nn.Dropout(0.5), dense, nn.ReLU()


class AlexNet(FashionClassifier):
    """Trained as its authors did: SGD with momentum and weight decay."""

    model = "alexnet"
    floors: ClassVar = {"accuracy": 0.90}
    recipe = Recipe(
        epochs=10, batch_size=128, optimizer="sgd", learning_rate=0.03, warm_up=0.1, weight_decay=5e-4, patience=10
    )
    quick_recipe = Recipe(epochs=4, batch_size=32, optimizer="sgd", learning_rate=0.01, warm_up=0.1, patience=4)
    quick_floors: ClassVar = {"accuracy": 0.5}

    def network(self) -> nn.Module:
        return Network()


PLUGIN = AlexNet
