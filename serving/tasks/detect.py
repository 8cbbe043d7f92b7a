"""An image in, boxes around what is on it out.

The graph takes uint8 pixels and each caller's own thresholds, and gives boxes in its own pixels: suppression by class
is inside it. Here they become boxes in the pixels of the picture that was sent.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, model_validator

from serving.codecs.image import open_image
from serving.errors import OutputInvalid
from serving.monitoring.agreement import matched_boxes
from serving.monitoring.score import Score, TrueThing, class_of, read_truth
from serving.picture_task import EXAMPLE_PNG, PIXELS, PictureTask
from serving.repository.config import TensorSpec
from serving.repository.layout import SINGLE_GRAPH
from serving.task import Example, Gist, Parameters, Reply, Request, Signature
from serving.tensors import Array, Tensors

SCORE_THRESHOLD, IOU_THRESHOLD, MAX_DETECTIONS = "score_threshold", "iou_threshold", "max_detections"
BOXES, SCORES, CLASS_IDS, COUNT = "boxes", "scores", "class_ids", "count"
MOST_TRUE = 1000  # boxes of a truth
MOST_PIXELS = 1e6
MOST = 300  # boxes that a caller may ask for; the model's own limit may be lower


class DetectParameters(Parameters):
    score_threshold: Annotated[float, Field(ge=0, le=1, description="Boxes of a lower score are left out.")] = 0.35
    iou_threshold: Annotated[
        float,
        Field(ge=0, le=1, description="Of two boxes of one class that overlap more than this, the better one stays."),
    ] = 0.5
    max_detections: Annotated[int, Field(ge=1, le=MOST, description="How many boxes at most, the best first.")] = 100
    format: Annotated[
        Literal["corners", "coco"],
        Field(description="`corners` gives `box` with its corners, `coco` gives `bbox` as [x, y, width, height]."),
    ] = "corners"


class Size(BaseModel):
    width: int
    height: int


class Box(BaseModel):
    xmin: float
    ymin: float
    xmax: float
    ymax: float


class _Found(BaseModel):
    label: str
    class_id: Annotated[int, Field(description="The label's place in the version's list, from 0.")]
    score: Annotated[float, Field(ge=0, le=1)]


class Detection(_Found):
    box: Annotated[Box, Field(description="In pixels of the picture, upright, from its upper left corner.")]


class CocoDetection(_Found):
    bbox: Annotated[list[float], Field(min_length=4, max_length=4, description="x, y, width and height, in pixels.")]


class DetectReply(Reply):
    image: Annotated[Size, Field(description="The picture's size in pixels, upright.")]
    predictions: list[Detection | CocoDetection]


Pixels = Annotated[float, Field(allow_inf_nan=False, ge=-MOST_PIXELS, le=MOST_PIXELS)]


class _TrueBox(TrueThing):
    """And where it is, as replies say it."""

    box: dict[Literal["xmin", "ymin", "xmax", "ymax"], Pixels] | None = None
    bbox: Annotated[list[Pixels], Field(min_length=4, max_length=4)] | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.box is None) == (self.bbox is None) or (self.box is not None and len(self.box) < 4):
            raise ValueError("expected either box, with xmin, ymin, xmax and ymax, or bbox")
        return self

    def row(self, labels: tuple[str, ...]) -> list[float]:
        """Corners and class."""
        what = float(class_of(labels, self.what))
        if self.box is not None:
            return [self.box["xmin"], self.box["ymin"], self.box["xmax"], self.box["ymax"], what]
        x, y, width, height = self.bbox or [0.0] * 4
        return [x, y, x + width, y + height, what]


TRUTH: Final = TypeAdapter(Annotated[list[_TrueBox], Field(max_length=MOST_TRUE)])


class Detect(PictureTask[DetectParameters]):
    """Labels of the version's manifest with boxes in pixels of the picture, the most certain first."""

    verb = "detect"
    summary = "Find things on a picture"
    parameters = DetectParameters
    reply = DetectReply
    signatures: ClassVar = {
        SINGLE_GRAPH: Signature(
            inputs=(
                TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),  # height, width, channels
                TensorSpec(SCORE_THRESHOLD, "FP32", (1,)),
                TensorSpec(IOU_THRESHOLD, "FP32", (1,)),
                TensorSpec(MAX_DETECTIONS, "INT32", (1,)),
            ),
            outputs=(
                TensorSpec(BOXES, "FP32", (-1, 4)),  # xmin, ymin, xmax, ymax in pixels of the input; 0 behind the count
                TensorSpec(SCORES, "FP32", (-1,)),
                TensorSpec(CLASS_IDS, "INT32", (-1,)),
                TensorSpec(COUNT, "INT32", (1,)),
            ),
        )
    }

    @classmethod
    def example(cls) -> Example:
        found = {
            "label": "cup",
            "class_id": 41,
            "score": 0.52,
            "box": {"xmin": 131.0, "ymin": 56.5, "xmax": 492.0, "ymax": 322.0},
        }
        reply = {"model": "nanodet", "version": 1, "image": {"width": 600, "height": 400}, "predictions": [found]}
        return Example(EXAMPLE_PNG, "image/png", {"score_threshold": 0.35, "iou_threshold": 0.5}, reply)

    def encode(self, request: Request[DetectParameters]) -> Tensors:
        """One row: pixels uint8 [1, height, width, channels], and the caller's thresholds, each [1, 1]."""
        wanted = request.parameters
        return {
            **self.view(open_image(request.payload)),
            SCORE_THRESHOLD: np.array([[wanted.score_threshold]], np.float32),
            IOU_THRESHOLD: np.array([[wanted.iou_threshold]], np.float32),
            MAX_DETECTIONS: np.array([[wanted.max_detections]], np.int32),
        }

    def decode(self, outputs: Tensors, request: Request[DetectParameters]) -> DetectReply:
        """Row 0's boxes in pixels of the picture, cut off at its edges; those that lie outside are left out."""
        count = int(outputs[COUNT][0, 0])
        if not 0 <= count <= outputs[SCORES].shape[1]:
            raise OutputInvalid("The model gave a number of boxes that it has no room for.")
        boxes, scores, class_ids = (outputs[name][0, :count] for name in (BOXES, SCORES, CLASS_IDS))
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise OutputInvalid("The model gave boxes or scores that are not finite.")
        if count and not (class_ids.min() >= 0 and class_ids.max() < len(self.labels)):
            raise OutputInvalid(f"The model gave a class that none of the {len(self.labels)} labels is for.")
        frame = self.frame(request.payload)
        corners, seen = frame.to_picture(boxes, self.preprocessing.size)
        make = _coco if request.parameters.format == "coco" else _with_corners
        predictions = [
            make(self.labels[class_id], class_id, min(1.0, max(0.0, score)), corner)
            for class_id, score, corner in zip(
                class_ids[seen].tolist(), scores[seen].tolist(), corners[seen].tolist(), strict=True
            )
        ]
        size = Size.model_construct(width=frame.width, height=frame.height)
        return DetectReply.model_construct(model=self.model, version=self.version, image=size, predictions=predictions)

    def agreement(self, reply: Reply, other: Reply) -> float:
        """Share of the boxes that the other version has too: of the same class, overlapping by half."""
        found = [_arrays(one) for one in (reply, other) if isinstance(one, DetectReply)]
        return matched_boxes(*found[0], *found[1])

    def gist(self, reply: Reply) -> Gist | None:
        """Corners and class of each box, float64 [n, 5]."""
        return np.column_stack(_arrays(reply)) if isinstance(reply, DetectReply) else None

    def score(self, gist: Gist, truth: Any) -> Score:
        """f1: of boxes that are matched with the true ones, of their class and overlapping by half."""
        example = '{"truth": [{"label": "cup", "box": {"xmin": 131, "ymin": 57, "xmax": 492, "ymax": 322}}]}'
        boxes = read_truth(TRUTH, truth, f"Send all that is on the picture, in its pixels, such as {example}.")
        rows = np.array([box.row(self.labels) for box in boxes], np.float64).reshape(-1, 5)
        found = np.asarray(gist)
        return Score("f1", matched_boxes(found[:, :4], found[:, 4], rows[:, :4], rows[:, 4]))


def _with_corners(label: str, class_id: int, score: float, corner: list[float]) -> Detection:
    xmin, ymin, xmax, ymax = corner
    box = Box.model_construct(xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
    return Detection.model_construct(label=label, class_id=class_id, score=score, box=box)


def _coco(label: str, class_id: int, score: float, corner: list[float]) -> CocoDetection:
    xmin, ymin, xmax, ymax = corner
    bbox = [xmin, ymin, xmax - xmin, ymax - ymin]
    return CocoDetection.model_construct(label=label, class_id=class_id, score=score, bbox=bbox)


def _arrays(reply: DetectReply) -> tuple[Array, Array]:
    """Corners, float64 [n, 4], and classes, int64 [n]."""
    corners = []
    for one in reply.predictions:
        if isinstance(one, Detection):
            corners.append([one.box.xmin, one.box.ymin, one.box.xmax, one.box.ymax])
        else:
            x, y, width, height = one.bbox
            corners.append([x, y, x + width, y + height])
    classes = np.array([one.class_id for one in reply.predictions], np.int64)
    return np.array(corners, np.float64).reshape(-1, 4), classes


PLUGIN = Detect
