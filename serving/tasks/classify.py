"""An image in, the most probable labels out.

The graph takes uint8 pixels and gives probabilities: normalisation and softmax are inside it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter

from serving.codecs.image import open_image
from serving.errors import OutputInvalid
from serving.monitoring.agreement import same_top
from serving.monitoring.outcomes import surest
from serving.monitoring.score import Score, class_of, read_truth
from serving.picture_task import EXAMPLE_PNG, PIXELS, PictureTask
from serving.repository.config import TensorSpec
from serving.repository.layout import SINGLE_GRAPH
from serving.task import Example, Gist, Parameters, Reply, Request, Signature
from serving.tensors import Array, Tensors

PROBABILITIES = "probabilities"
TRUTH: Final[TypeAdapter[str | int]] = TypeAdapter(str | int)


class ClassifyParameters(Parameters):
    top_k: Annotated[int, Field(ge=1, le=1000, description="How many labels, the most probable first.")] = 5


class Prediction(BaseModel):
    label: str
    class_id: Annotated[int, Field(description="The label's place in the version's list, from 0.")]
    score: Annotated[float, Field(ge=0, le=1, description="Probability; all classes together make 1.")]


class ClassifyReply(Reply):
    predictions: list[Prediction]


class Classify(PictureTask[ClassifyParameters]):
    """Labels of the version's manifest, by the probabilities of its graph."""

    verb = "classify"
    summary = "Name what a picture shows"
    parameters = ClassifyParameters
    reply = ClassifyReply
    signatures: ClassVar = {
        SINGLE_GRAPH: Signature(
            inputs=(TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),),  # height, width, channels
            outputs=(TensorSpec(PROBABILITIES, "FP32", (-1,)),),  # classes
        )
    }

    @classmethod
    def example(cls) -> Example:
        reply = {
            "model": "efficientnet-lite0",
            "version": 1,
            "predictions": [{"label": "espresso", "class_id": 967, "score": 0.95}],
        }
        return Example(EXAMPLE_PNG, "image/png", {"top_k": 3}, reply)

    def encode(self, request: Request[ClassifyParameters]) -> Tensors:
        """One row of pixels, uint8 [1, height, width, channels]."""
        return self.view(open_image(request.payload))

    def decode(self, outputs: Tensors, request: Request[ClassifyParameters]) -> ClassifyReply:
        """The `top_k` most probable classes of row 0 of float32 [1, classes]; equal scores by class_id."""
        scores = outputs[PROBABILITIES][0]
        if scores.shape != (len(self.labels),):
            raise OutputInvalid(f"The model gave {scores.size} scores for {len(self.labels)} labels.")
        if not np.isfinite(scores).all():
            raise OutputInvalid("The model gave scores that are not finite.")
        predictions = [
            Prediction.model_construct(label=self.labels[i], class_id=i, score=min(1.0, max(0.0, float(scores[i]))))
            for i in _best(scores, request.parameters.top_k).tolist()
        ]
        return ClassifyReply.model_construct(model=self.model, version=self.version, predictions=predictions)

    def outcome(self, reply: Reply) -> dict[str, float | str]:
        """The most probable label and its probability; how many labels there are is the caller's wish."""
        return surest([(one.label, one.score) for one in reply.predictions] if isinstance(reply, ClassifyReply) else [])

    def agreement(self, reply: Reply, other: Reply) -> float:
        """1 if both name the same label first."""
        tops = [[one.label for one in some.predictions] for some in (reply, other) if isinstance(some, ClassifyReply)]
        return same_top(*tops)

    def group(self, reply: Reply) -> str:
        """The label that it names first."""
        return reply.predictions[0].label if isinstance(reply, ClassifyReply) and reply.predictions else ""

    def gist(self, reply: Reply) -> Gist | None:
        """The class_id of the most probable label."""
        return reply.predictions[0].class_id if isinstance(reply, ClassifyReply) else None

    def score(self, gist: Gist, truth: Any) -> Score:
        """accuracy: whether that is the truth, a label or a class_id. Two classes of one label are the same to it."""
        right = read_truth(TRUTH, truth, 'Send the right label, such as {"truth": "espresso"}, or its class_id.')
        place = class_of(self.labels, right)
        same = place == gist or (isinstance(right, str) and self.labels[int(gist)] == right)
        return Score("accuracy", float(same), truth=self.labels[place])


def _best(scores: Array, count: int) -> Array:
    """Places of the `count` largest scores of float32 [classes], the largest first, equal ones by place."""
    if count < len(scores):
        least = np.partition(scores, -count)[-count]  # a whole sort takes ten times as long
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    order = np.argsort(-scores[places], kind="stable")
    best: Array = places[order][:count]
    return best


PLUGIN = Classify
