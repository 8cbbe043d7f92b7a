"""MediaPipe's selfie segmentation, the general model, with its published weights: which pixels show a person.

Source: https://github.com/google-ai-edge/mediapipe/blob/master/docs/solutions/selfie_segmentation.md
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from exporters.data.files import HUMAN_MODELS, human_models_file
from exporters.data.photo_boxes import ASTRONAUT, CAMERA
from exporters.data.photos import Photo, card, read_photos
from exporters.data.splits import HeldOut, Rows
from exporters.family import Family, Predict
from exporters.measures.measured import Measured
from exporters.tfjs.network import load
from serving.picture_task import PIXELS
from serving.repository.digests import digest_file
from serving.repository.manifest import Licence, Metric
from serving.tensors import Array

FILES: Final = ("selfie.json", "selfie.bin")
PERSON: Final = "activation_10"  # the node that gives the probability of a person

SIDE: Final = 256
BACKGROUND_CLASS: Final = 0
PERSON_CLASS: Final = 1
PUBLISHED: Final = (
    "Intersection over union for persons is 95 to 97 % by region, as published by Google for phone pictures of people "
    "close by; it is not measured here. The sample photos guard the conversion: how much of them is person was "
    "measured with the original graph. They say nothing of accuracy at large."
)


class Posed(NamedTuple):
    """A photo of a person, the share of it that the original graph calls person, and points as (x, y) in shares of
    width and height: of the person, and of what is behind.
    """

    photo: Photo
    coverage: float
    person: tuple[tuple[float, float], ...]
    background: tuple[tuple[float, float], ...]


POSED: Final = (
    Posed(
        CAMERA,
        coverage=0.3277,
        person=((0.41, 0.22), (0.2, 0.5), (0.1, 0.8)),
        background=((0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.75, 0.3), (0.8, 0.8)),
    ),
    Posed(
        ASTRONAUT,
        coverage=0.5455,
        person=((0.47, 0.22), (0.3, 0.7), (0.6, 0.6)),
        background=((0.05, 0.1), (0.97, 0.03), (0.72, 0.3), (0.1, 0.3)),
    ),
)


class Selfie(nn.Module):
    """RGB pixels uint8 [N, 256, 256, 3] -> the probability that each shows a person, float32 [N, 256, 256]."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, pixels: Tensor) -> Tensor:
        (person,) = self.graph(pixels.to(torch.float32) / 255)
        probability: Tensor = person.squeeze(3)
        return probability


class PersonOut(nn.Module):
    """A network that gives the probability of one class, as the segment task's graph: the more probable of that class
    and the background for each pixel, and its probability.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        person = self.network(pixels)
        return (person > 0.5).to(torch.uint8), torch.maximum(person, 1 - person)


class SelfieSegmentation(Family[HeldOut]):
    """Shipped weights: nothing is trained."""

    model = "selfie"
    task = "segment"
    intended_use = (
        "Tell people from what is behind them, on pictures of people within two metres: video calls, portraits. All "
        "people are one region. It finds a person where there is none: close-ups of a cat, a flower or a cup may be "
        "called one. Not for decisions about people."
    )
    preprocessing: ClassVar = {"resize": None, "size": SIDE, "resample": "bilinear", "channels": 3}
    tolerance = 1e-2
    floors: ClassVar = {"points_right": 1.0, "coverage_error": 0.01}
    golden_rows = 2
    compact = True

    def licence(self) -> Licence:
        digests = " and ".join(f"{name} {digest_file(human_models_file(name))}" for name in FILES)
        return Licence(
            spdx="MIT AND Apache-2.0",
            source=f"{HUMAN_MODELS} on npm, {digests}",
            attribution="Package: Vladimir Mandic, 2021, MIT. Selfie segmentation: MediaPipe, Google, Apache-2.0.",
        )

    def labels(self) -> tuple[str, ...]:
        return ("background", "person")

    def data(self, *, quick: bool) -> HeldOut:
        del quick  # two photos
        photos = [posed.photo for posed in POSED]
        pixels = read_photos(photos, self.preprocessing)
        return HeldOut(card(photos, PUBLISHED), Rows({PIXELS: pixels}, np.array([posed.coverage for posed in POSED])))

    def network(self) -> nn.Module:
        human_models_file(FILES[1])  # a message that says how to get it, in place of the reader's
        return Selfie(load(human_models_file(FILES[0]), [PERSON])).eval()

    def served(self, network: nn.Module) -> nn.Module:
        return PersonOut(network)

    def measure(self, predict: Predict, data: HeldOut) -> Measured:
        maps = predict(data.test.inputs)["class_map"]
        coverage = (maps == PERSON_CLASS).mean(axis=(1, 2))
        right = [mark for one, posed in zip(maps, POSED, strict=True) for mark in points_right(one, posed)]
        errors = np.abs(coverage - data.test.targets)
        metrics = {
            "points_right": Metric(value=float(np.mean(right)), rows=len(right)),
            "coverage_error": Metric(value=float(errors.max()), rows=len(maps), higher_is_better=False),
        }
        return Measured(metrics)


def points_right(class_map: Array, posed: Posed) -> list[bool]:
    """Whether each of the photo's points has its class in uint8 [height, width]."""
    wanted: list[tuple[Any, int]] = [(point, PERSON_CLASS) for point in posed.person]
    wanted += [(point, BACKGROUND_CLASS) for point in posed.background]
    height, width = class_map.shape
    return [class_map[round(y * (height - 1)), round(x * (width - 1))] == kind for (x, y), kind in wanted]


PLUGIN = SelfieSegmentation
