"""Transfer: what a network has learned of photos, used for another, small set of pictures.

Fine-tuning goes on with the whole network at a low learning rate; feature transfer freezes it and trains a new last
layer alone.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Generator, Tensor, nn

from exporters import augmentation
from exporters.classification import Classifier
from exporters.data.emoji_kinds import KINDS, load_emoji_kinds
from exporters.data.splits import Splits
from exporters.efficientnet_lite import ATTRIBUTION, FEATURES, EfficientNetLite0, load_published, provenance
from exporters.family import Recipe
from serving.repository.manifest import Licence

SIDE = 128  # pixels
PLACING = augmentation.Placing(degrees=10, shift=0.05, slant=0.05, scale=(0.9, 1.1), narrowing=(0.95, 1.05))


class Network(nn.Module):
    """RGB pixels uint8 [N, 128, 128, 3] -> scores float32 [N, 7].

    body: gives features, float32 [N, 1280]; frozen: they stay as they are, batch norm's running means included.
    """

    def __init__(self, body: EfficientNetLite0, *, frozen: bool) -> None:
        super().__init__()
        del body._fc  # noqa: SLF001 - its name in the weights; nothing asks for ImageNet's classes
        self.body = body.requires_grad_(not frozen)
        self.frozen = frozen
        self.classes = nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, len(KINDS)))

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.classes(self.body.features(pixels))
        return scores

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.body.train(mode and not self.frozen)
        return self


class Transfer(Classifier):
    """Fine-tuning: seven kinds of emoji, of which it has seen other drawings."""

    model = "transfer"
    intended_use = (
        "Tell of which of seven kinds the one emoji on a picture is, also one that it has not seen. Shows how little "
        "data a pretrained network needs; not for photos."
    )
    preprocessing: ClassVar = {"resize": SIDE, "size": SIDE, "resample": "bicubic", "channels": 3}
    tolerance = 1e-3
    floors: ClassVar = {"accuracy": 0.75}
    recipe = Recipe(
        epochs=8,
        batch_size=32,
        optimizer="adam",
        learning_rate=3e-4,
        warm_up=0.1,
        weight_decay=1e-2,
        patience=8,
    )
    quick_recipe = Recipe(epochs=1, batch_size=16, optimizer="adam", learning_rate=3e-4, patience=1)
    quick_floors: ClassVar = {"accuracy": 0.2}
    compact = True

    def licence(self) -> Licence:
        attribution = f"{ATTRIBUTION} Pictures drawn with Noto Emoji (Google, OFL-1.1) on photos of scikit-image."
        return Licence(spdx="Apache-2.0", source=f"{self.origin} {provenance()}", attribution=attribution)

    origin: ClassVar = "fine-tuned by tidegate from"

    def labels(self) -> tuple[str, ...]:
        return tuple(KINDS)

    def data(self, *, quick: bool) -> Splits:
        return load_emoji_kinds(self.preprocessing, quick=quick)

    def network(self) -> nn.Module:
        return Network(load_published(), frozen=False)

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """Either way round, a little elsewhere, in other light."""
        pictures = inputs[0].permute(0, 3, 1, 2).float() / 255
        pictures = augmentation.mirror(pictures, generator, share=0.5)
        pictures = augmentation.place(pictures, generator, PLACING)
        pictures = augmentation.contrast(pictures, generator, least=0.7)
        return ((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1),)


class FeatureTransfer(Transfer):
    """The published network's features as they are, and a new last layer."""

    model = "transfer-features"
    origin = "its last layer trained by tidegate; the others as in"
    floors: ClassVar = {"accuracy": 0.7}
    recipe = Recipe(epochs=10, batch_size=32, optimizer="adam", learning_rate=3e-3, weight_decay=1e-2, patience=10)
    quick_recipe = Recipe(epochs=6, batch_size=16, optimizer="adam", learning_rate=3e-3, patience=6)

    def network(self) -> nn.Module:
        return Network(load_published(), frozen=True)


class FromScratch(Transfer):
    """The same network from random weights: what the two others are compared with, on the same rows."""

    model = "transfer-scratch"
    origin = "trained by tidegate from random weights; the network as in"
    floors: ClassVar = {"accuracy": 0.2}
    quick_floors: ClassVar = {"accuracy": 0.0}  # in seconds it learns nothing, which is the point
    recipe = Recipe(
        epochs=8, batch_size=32, optimizer="adam", learning_rate=2e-3, warm_up=0.1, weight_decay=1e-2, patience=8
    )

    def network(self) -> nn.Module:
        return Network(EfficientNetLite0(), frozen=False)


Transfer.variants = (FeatureTransfer, FromScratch)
Transfer.rival = FromScratch
PLUGIN = Transfer
