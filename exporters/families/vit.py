"""A vision transformer: patches of the picture as tokens, through an encoder of self-attention.

Source: A. Dosovitskiy et al., https://arxiv.org/abs/2010.11929
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from exporters import augmentation
from exporters.data.fashion_mnist import CLASSES, SIDE
from exporters.family import Recipe
from exporters.fashion import MEAN, SCALE, FashionClassifier
from exporters.layers import PixelsIn
from exporters.transformer import Layer

PATCH = 4  # pixels from one patch to the next
WIDTH, HEADS, DEPTH = 64, 4, 4


class Network(nn.Module):
    """Pixels uint8 [N, 28, 28, 1] -> scores float32 [N, 10]: 49 patches, their mean is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = PixelsIn(mean=MEAN, scale=SCALE)
        # Two small steps see more in few epochs than one large one. Source: https://arxiv.org/abs/2106.14881
        self.patches = nn.Sequential(
            nn.Conv2d(1, WIDTH // 2, 3, stride=2, padding=1),
            nn.BatchNorm2d(WIDTH // 2),
            nn.ReLU(),
            nn.Conv2d(WIDTH // 2, WIDTH, 3, stride=2, padding=1),
        )
        self.places = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2, WIDTH) * 0.02)
        self.layers = nn.Sequential(*(Layer(WIDTH, HEADS, dropout=0.0) for _ in range(DEPTH)))
        self.classes = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(CLASSES)))

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patches(self.pixels(pixels)).flatten(2).transpose(1, 2) + self.places
        scores: Tensor = self.classes(self.layers(tokens).mean(dim=1))
        return scores


class Vit(FashionClassifier):
    """Clothes of Fashion-MNIST. 157,000 parameters."""

    model = "vit"
    floors: ClassVar = {"accuracy": 0.88}
    recipe = Recipe(
        epochs=8, batch_size=128, optimizer="adam", learning_rate=3e-3, warm_up=0.1, weight_decay=5e-2, patience=8
    )
    quick_recipe = Recipe(epochs=3, batch_size=64, optimizer="adam", learning_rate=1e-3, warm_up=0.1, patience=3)
    quick_floors: ClassVar = {"accuracy": 0.4}

    def network(self) -> nn.Module:
        return Network()

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """Either way round, and no more: in few epochs a transformer does not learn enough to be held back."""
        pictures = augmentation.mirror(inputs[0].permute(0, 3, 1, 2), generator, share=0.5)
        return (pictures.permute(0, 2, 3, 1),)


PLUGIN = Vit
