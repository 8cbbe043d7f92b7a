"""NanoDet-g with its published COCO weights: where 80 kinds of things are on a photo.

Source: https://github.com/RangiLyu/nanodet (config/legacy_v0.x_configs/nanodet-g.yml). How boxes are said, by the
likelihood of each of eleven distances to a side: https://arxiv.org/abs/2006.04388.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn

from exporters.data.coco import COCO_LABELS
from exporters.data.files import HUMAN_MODELS, human_models_file
from exporters.data.limits import limits
from exporters.data.photo_boxes import load_photo_boxes
from exporters.data.splits import HeldOut, Rows
from exporters.family import Family, Predict
from exporters.measures.measured import Measured
from exporters.nms import DetectionsOut
from exporters.tfjs.network import load
from serving.monitoring.agreement import box_iou
from serving.picture_task import PIXELS
from serving.repository.digests import digest_file
from serving.repository.manifest import Licence, Metric
from serving.tensors import Array, Tensors

FILES: Final = ("nanodet.json", "nanodet.bin")
SCORES: Final = ("Identity", "Identity_1", "Identity_2")  # of the grids, the finest first
DISTANCES: Final = ("Identity_3", "Identity_4", "Identity_5")

SIDE: Final = 416
STRIDES: Final = (8, 16, 32)  # pixels between the cells of a grid
BINS: Final = 11  # distances of 0 to 10 cells
MEAN: Final = (103.53, 116.28, 123.675)  # blue, green, red
DEVIATION: Final = (57.375, 57.12, 58.395)

CANDIDATES: Final = 300
MOST: Final = 100  # as many as COCO's measure looks at

SCORE: Final = 0.35  # from here on a box counts as found
IOU: Final = 0.8  # least overlap with the known box
PUBLISHED: Final = (
    "COCO AP of NanoDet-g at 416 pixels is 22.9 % as published by its author, for pictures whose shape is kept; it is "
    "not measured here, where pictures are squeezed. The sample photos guard the conversion: their boxes are those of "
    "the original graph. They say nothing of accuracy at large."
)


class NanoDet(nn.Module):
    """RGB pixels uint8 [N, 416, 416, 3] -> boxes float32 [N, 3549, 4] as xmin, ymin, xmax, ymax in pixels inside the
    picture, and scores float32 [N, 3549, 80], each class by itself.
    """

    mean: Tensor
    deviation: Tensor
    bins: Tensor
    centres: Tensor
    strides: Tensor

    def __init__(self, grids: nn.Module) -> None:
        super().__init__()
        self.grids = grids
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(3, 1, 1))
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32))
        self.register_buffer("centres", torch.cat([_centres(stride) for stride in STRIDES]))
        strides = [torch.full(((SIDE // stride) ** 2, 1), float(stride)) for stride in STRIDES]
        self.register_buffer("strides", torch.cat(strides))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        blue_first = pixels.permute(0, 3, 1, 2).flip(1).to(torch.float32)
        outputs = self.grids((blue_first - self.mean) / self.deviation)
        scores = torch.cat(outputs[: len(STRIDES)], dim=1)
        distances = torch.cat(outputs[len(STRIDES) :], dim=1)
        likely = distances.reshape(*distances.shape[:2], 4, BINS).softmax(dim=3)
        left_top, right_bottom = ((likely * self.bins).sum(dim=3) * self.strides).chunk(2, dim=2)
        boxes = torch.cat([self.centres - left_top, self.centres + right_bottom], dim=2)
        return boxes.clamp(0, SIDE), scores


def _centres(stride: int) -> Tensor:
    """Where the cells of a grid have their centres, row by row: float32 [cells, 2] as x, y in pixels."""
    steps = (torch.arange(SIDE // stride) + 0.5) * stride
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


class NanoDetCoco(Family[HeldOut]):
    """Shipped weights: nothing is trained."""

    model = "nanodet"
    task = "detect"
    intended_use = (
        "Find things of 80 everyday kinds on photos, one look at the whole picture at 416 pixels: small things and "
        "crowds are missed. Kinds are mixed up, animals with each other and with persons: a close-up of a cat is "
        "called a person, a dog and a cat. Not for decisions about people."
    )
    preprocessing: ClassVar = {"resize": None, "size": SIDE, "resample": "bilinear", "channels": 3}
    tolerance = 3e-2  # of boxes, which are in pixels; scores are a hundred times closer
    floors: ClassVar = {"objects_found": 1.0}
    golden_rows = 1
    max_batch_size = 8
    compact = True

    def licence(self) -> Licence:
        digests = " and ".join(f"{name} {digest_file(human_models_file(name))}" for name in FILES)
        return Licence(
            spdx="MIT AND Apache-2.0",
            source=f"{HUMAN_MODELS} on npm, {digests}",
            attribution="Package: Vladimir Mandic, 2021, MIT. NanoDet-g: RangiLyu, https://github.com/RangiLyu/nanodet,"
            " Apache-2.0. Class names: COCO, CC-BY-4.0.",
        )

    def labels(self) -> tuple[str, ...]:
        return COCO_LABELS

    def data(self, *, quick: bool) -> HeldOut:
        del quick  # four photos
        photos = load_photo_boxes(self.preprocessing, note=PUBLISHED)
        return HeldOut(photos.card, Rows({**photos.test.inputs, **limits(len(photos.test))}, photos.test.targets))

    def network(self) -> nn.Module:
        human_models_file(FILES[1])  # a message that says how to get it, in place of the reader's
        return NanoDet(load(human_models_file(FILES[0]), [*SCORES, *DISTANCES])).eval()

    def served(self, network: nn.Module) -> nn.Module:
        return DetectionsOut(network, candidates=CANDIDATES, most=MOST)

    def measure(self, predict: Predict, data: HeldOut) -> Measured:
        rows = len(data.test)
        found = predict({PIXELS: data.test.inputs[PIXELS], **_same_limits(rows)})
        hits = [is_found(found, row, data.test.targets[row]) for row in range(rows)]
        more = int(found["count"].sum()) - sum(hits)
        metrics = {
            "objects_found": Metric(value=sum(hits) / rows, rows=rows),
            "further_boxes_per_photo": Metric(value=more / rows, rows=rows, higher_is_better=False),
        }
        return Measured(metrics)


def is_found(found: Tensors, row: int, target: Array) -> bool:
    """Whether a box of the target's class, float32 [5], lies on the target's box."""
    count = int(found["count"][row, 0])
    of_class = found["class_ids"][row, :count] == int(target[0])
    return bool((of_class & (box_iou(found["boxes"][row, :count], target[1:])[:, 0] >= IOU)).any())


def _same_limits(rows: int) -> dict[str, Array]:
    """Score threshold, IoU threshold and greatest number by which boxes are measured."""
    return {
        "score_threshold": np.full((rows, 1), SCORE, np.float32),
        "iou_threshold": np.full((rows, 1), 0.6, np.float32),
        "max_detections": np.full((rows, 1), MOST, np.int32),
    }


PLUGIN = NanoDetCoco
