"""A residual network: blocks of two convolutions whose input is added to their output.

Source: K. He, X. Zhang, S. Ren, J. Sun, https://arxiv.org/abs/1512.03385
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from exporters.data.fashion_mnist import CLASSES
from exporters.family import Recipe
from exporters.fashion import MEAN, SCALE, FashionClassifier
from exporters.layers import PixelsIn


class Block(nn.Module):
    """Two convolutions of 3 x 3, around which the input takes a short cut: as it is, or through a convolution of 1 x 1
    where the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.short_cut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.short_cut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(inputs)))
        return functional.relu(self.second_norm(self.second(inner)) + self.short_cut(inputs))


class Network(nn.Module):
    """Pixels uint8 [N, 28, 28, 1] -> scores float32 [N, 10]. Three stages of two blocks, 28, 14 and 7 pixels wide."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.pixels = PixelsIn(mean=MEAN, scale=SCALE)
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks, channels = [], width
        for stage in range(3):
            for place in range(2):
                stride = 2 if stage and not place else 1
                blocks.append(Block(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(0.2)
        self.classes = nn.Linear(channels, len(CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.blocks(self.stem(self.pixels(pixels))).mean((2, 3))
        scores: Tensor = self.classes(self.dropout(features))
        return scores


class ResNet(FashionClassifier):
    """Clothes of Fashion-MNIST. 176,000 parameters."""

    model = "resnet"
    floors: ClassVar = {"accuracy": 0.92}
    recipe = Recipe(
        epochs=9,
        batch_size=128,
        optimizer="adam",
        learning_rate=6e-3,
        warm_up=0.2,
        weight_decay=5e-2,
        patience=9,
        precision="bfloat16",
    )
    quick_recipe = Recipe(epochs=2, batch_size=64, optimizer="adam", learning_rate=3e-3, warm_up=0.2, patience=2)
    quick_floors: ClassVar = {"accuracy": 0.5}

    def network(self) -> nn.Module:
        return Network()


PLUGIN = ResNet
