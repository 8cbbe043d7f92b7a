"""EfficientNet-Lite0 with its published ImageNet weights: 1,000 kinds of things on photos."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import nn

from exporters.data import imagenet
from exporters.data.photos import load_photos
from exporters.data.splits import HeldOut
from exporters.efficientnet_lite import ATTRIBUTION, load_published, provenance
from exporters.family import Family, Predict
from exporters.layers import ProbabilitiesOut
from exporters.measures.measured import Measured
from exporters.provenance import package_version
from serving.repository.manifest import Licence, Metric
from serving.tasks.classify import PROBABILITIES

PUBLISHED = (
    "ImageNet top-1 of EfficientNet-Lite0 is 75.1 % as published by its authors; it is not measured here. The sample "
    "photos, which were chosen because ImageNet has a class for what they show, guard the conversion: they say nothing "
    "of accuracy at large."
)


class EfficientNet(Family[HeldOut]):
    """Shipped weights: nothing is trained."""

    model = "efficientnet-lite0"
    task = "classify"
    intended_use = "Name the main thing on a photo, out of ImageNet's 1,000 classes. It knows no people and no others."
    preprocessing: ClassVar = {"resize": 256, "size": 224, "resample": "bicubic", "channels": 3}
    tolerance = 1e-3
    floors: ClassVar = {"top_1_on_sample_photos": 1.0}
    golden_rows = 2
    compact = True

    def licence(self) -> Licence:
        names = package_version(imagenet.DISTRIBUTION)
        return Licence(
            spdx="Apache-2.0",
            source=provenance(),
            attribution=f"{ATTRIBUTION} Class names: {names} on PyPI, MIT.",
        )

    def labels(self) -> tuple[str, ...]:
        return imagenet.imagenet_labels()

    def data(self, *, quick: bool) -> HeldOut:
        del quick  # six photos
        return load_photos(self.preprocessing, note=PUBLISHED)

    def network(self) -> nn.Module:
        return load_published()

    def served(self, network: nn.Module) -> nn.Module:
        return ProbabilitiesOut(network)

    def measure(self, predict: Predict, data: HeldOut) -> Measured:
        best = predict(data.test.inputs)[PROBABILITIES].argmax(axis=1)
        right = data.test.targets[np.arange(len(best)), best]
        baseline = data.test.targets.mean()
        metric = Metric(value=float(right.mean()), rows=len(right), baseline=float(baseline), baseline_name="guessing")
        return Measured({"top_1_on_sample_photos": metric})


PLUGIN = EfficientNet
