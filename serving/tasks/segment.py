"""An image in, for each of its pixels what it belongs to out: masks, or the whole map as a picture.

The graph takes uint8 pixels and gives a map of classes in its own size; here it comes to that of the picture sent.
"""

from __future__ import annotations

import io
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import orjson
import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from serving.codecs.image import open_image
from serving.codecs.mask import enlarge, from_run_lengths, palette_png, read_run_lengths, run_lengths
from serving.errors import OutputInvalid, TruthInvalid
from serving.monitoring.agreement import mask_iou
from serving.monitoring.score import Score, TrueThing, class_of, read_truth
from serving.picture_task import EXAMPLE_PNG, PIXELS, PictureTask
from serving.repository.config import TensorSpec
from serving.repository.layout import SINGLE_GRAPH
from serving.task import JSON, Example, FileReply, Gist, Parameters, Reply, Request, Signature, Steps
from serving.tensors import Array, Tensors

CLASS_MAP, CONFIDENCE = "class_map", "confidence"
BACKGROUND = "background"  # as the first label: nothing that would be told of
PNG = "image/png"
MOST_SIDE: Final = 65_535
MOST_COUNTS: Final = 500_000  # of a mask that a truth has
MOST_PIXELS: Final = 2**28  # of all its masks together: a second


class SegmentParameters(Parameters):
    """None."""


class Box(BaseModel):
    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Mask(BaseModel):
    size: Annotated[list[int], Field(min_length=2, max_length=2, description="Height and width, in pixels.")]
    counts: Annotated[str, Field(description="Compressed run lengths, as pycocotools reads and writes them.")]


class Segment(BaseModel):
    label: str
    class_id: Annotated[int, Field(description="The label's place in the version's list, from 0.")]
    score: Annotated[float, Field(ge=0, le=1, description="Mean probability over what the model saw of it.")]
    area: Annotated[int, Field(description="Pixels of the picture that belong to it.")]
    box: Annotated[Box, Field(description="Around all of it, in pixels of the picture, upright.")]
    mask: Mask


class SegmentReply(Reply):
    predictions: list[Segment]


class _TrueMask(BaseModel):
    """COCO's run lengths: compressed, or as numbers, the first of pixels that are not of it; column by column."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[list[Annotated[int, Field(ge=1, le=MOST_SIDE)]], Field(min_length=2, max_length=2)]
    counts: Annotated[str, Field(max_length=MOST_COUNTS)] | Annotated[list[int], Field(max_length=MOST_COUNTS)]


class _TrueSegment(TrueThing):
    mask: _TrueMask


TRUTH: Final = TypeAdapter(Annotated[list[_TrueSegment], Field(max_length=256)])
SEND: Final = 'Send all masks of the picture, as a reply has them: {"truth": [{"label": "person", "mask": {...}}]}.'


class SegmentTask(PictureTask[SegmentParameters]):
    """A mask for each class that is on the picture, in its own pixels; with `Accept: image/png` the map of classes as a
    palette PNG, whose pixels are the labels' places. What a centre crop leaves out counts as class 0.
    """

    verb = "segment"
    summary = "Cut out what is on a picture"
    parameters = SegmentParameters
    reply = SegmentReply
    media_types = (JSON, PNG)
    signatures: ClassVar = {
        SINGLE_GRAPH: Signature(
            inputs=(TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),),  # height, width, channels
            outputs=(
                TensorSpec(CLASS_MAP, "UINT8", (-1, -1)),  # rows, columns: the most probable class
                TensorSpec(CONFIDENCE, "FP32", (-1, -1)),  # its probability
            ),
        )
    }

    @property
    def background(self) -> bool:
        """Whether class 0 is nothing."""
        return self.labels[:1] == (BACKGROUND,)

    @classmethod
    def example(cls) -> Example:
        person = {
            "label": "person",
            "class_id": 1,
            "score": 0.97,
            "area": 4,
            "box": {"xmin": 1, "ymin": 1, "xmax": 3, "ymax": 3},
            "mask": {"size": [4, 4], "counts": "52203"},
        }
        return Example(EXAMPLE_PNG, "image/png", {}, {"model": "selfie", "version": 1, "predictions": [person]})

    def encode(self, request: Request[SegmentParameters]) -> Tensors:
        """One row of pixels, uint8 [1, height, width, channels]."""
        return self.view(open_image(request.payload))

    async def answer(self, request: Request[SegmentParameters], steps: Steps) -> Reply:
        """As other tasks, but for the reply, whose masks take longer to draw."""
        inputs = await steps.pre(lambda: self.encode(request))
        outputs = await steps.run(SINGLE_GRAPH, inputs)
        return await steps.post_aside(lambda: self.decode(outputs, request))

    def decode(self, outputs: Tensors, request: Request[SegmentParameters]) -> Reply:
        """Row 0's classes, but for the background, as masks in the picture's size, or all of them as one PNG."""
        class_map, confidence = outputs[CLASS_MAP][0], outputs[CONFIDENCE][0]
        if class_map.shape != confidence.shape or not class_map.size:
            raise OutputInvalid("The model gave a map of classes and probabilities of another size.")
        if class_map.max() >= len(self.labels):
            raise OutputInvalid(f"The model gave a class that none of the {len(self.labels)} labels is for.")
        if not np.isfinite(confidence).all():
            raise OutputInvalid("The model gave probabilities that are not finite.")
        found = enlarge(class_map, confidence, self.frame(request.payload), len(self.labels))
        if request.media_type == PNG:
            content = palette_png(found, background=self.background)
            return FileReply.model_construct(model=self.model, version=self.version, content=content, media_type=PNG)
        segments = [
            self._segment(int(one), found == one, float(confidence[class_map == one].mean()))
            for one in np.unique(found)
            if not (self.background and one == 0) and (class_map == one).any()
        ]
        return SegmentReply.model_construct(model=self.model, version=self.version, predictions=segments)

    def agreement(self, reply: Reply, other: Reply) -> float:
        """Mean over the classes of how far their masks overlap."""
        return mask_iou(_class_map(reply), _class_map(other))

    def gist(self, reply: Reply) -> Gist | None:
        """The PNG, or the masks as run lengths: either is small already."""
        if isinstance(reply, FileReply):
            return reply.content
        if not isinstance(reply, SegmentReply):
            return None
        return orjson.dumps([(one.class_id, one.mask.size, one.mask.counts) for one in reply.predictions])

    def score(self, gist: Gist, truth: Any) -> Score:
        """iou: the mean over the classes that either shows; where true masks overlap, the later one counts."""
        masks = read_truth(TRUTH, truth, SEND)
        found = self._remembered(gist if isinstance(gist, bytes) else b"[]")
        right = np.zeros_like(found)
        if len(masks) * found.size > MOST_PIXELS:
            detail = f"{len(masks)} masks of a picture of {found.size:,} pixels are too much to look at."
            raise TruthInvalid(detail, remedy="Join those of one label.")
        for one in masks:
            class_id = class_of(self.labels, one.what)
            if found.size == 1 and not found.any():  # no mask was found that would say how large the picture is
                right[0, 0] = max(right[0, 0], self._shown(class_id))
                continue
            if tuple(one.mask.size) != found.shape:
                sizes = f"The masks are of {one.mask.size}, the picture has {list(found.shape)}"
                raise TruthInvalid(f"{sizes}, height and width.", remedy="Send masks of the picture that was answered.")
            try:
                right[read_run_lengths(one.mask.size, one.mask.counts)] = self._shown(class_id)
            except ValueError as error:
                raise TruthInvalid(f"truth: {error}.", remedy=SEND) from None
        return Score("iou", mask_iou(found, right))

    def _shown(self, class_id: int) -> int:
        """As a map has it: 0 for nothing."""
        return 0 if self.background and class_id == 0 else class_id + 1

    def _remembered(self, gist: bytes) -> Array:
        """The map of a gist: uint16 [height, width], classes as `_shown`; one pixel of nothing where no mask is."""
        if gist.startswith(b"\x89PNG"):
            with PIL.Image.open(io.BytesIO(gist)) as picture:
                found = np.array(picture).astype(np.uint16)
            return np.where(found == 0, self._shown(0), found + 1).astype(np.uint16)
        segments = orjson.loads(gist)
        found = np.zeros(segments[0][1] if segments else (1, 1), np.uint16)
        for class_id, size, counts in segments:
            found[from_run_lengths(size, counts)] = self._shown(class_id)
        return found

    def _segment(self, class_id: int, mask: Array, score: float) -> Segment:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        size, counts = run_lengths(mask)
        box = Box.model_construct(
            xmin=int(columns[0]), ymin=int(rows[0]), xmax=int(columns[-1]) + 1, ymax=int(rows[-1]) + 1
        )
        return Segment.model_construct(
            label=self.labels[class_id],
            class_id=class_id,
            score=min(1.0, max(0.0, score)),
            area=int(np.count_nonzero(mask)),
            box=box,
            mask=Mask.model_construct(size=size, counts=counts),
        )


def _class_map(reply: Reply) -> Array:
    """The classes that are told of, [height, width], 0 for nothing; one pixel of it when no mask says how large the
    picture is.
    """
    if isinstance(reply, FileReply):
        with PIL.Image.open(io.BytesIO(reply.content)) as picture:
            return np.array(picture)
    found = np.zeros((1, 1), np.uint16)
    for one in reply.predictions if isinstance(reply, SegmentReply) else ():
        if found.shape != tuple(one.mask.size):
            found = np.zeros(one.mask.size, np.uint16)
        found[from_run_lengths(one.mask.size, one.mask.counts)] = one.class_id + 1
    return found


PLUGIN = SegmentTask
