"""An image in, the most probable labels out.

The graph takes uint8 pixels and gives probabilities: normalisation and softmax are inside it.
"""

from __future__ import annotations

import base64
from typing import Annotated, ClassVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from serving.codecs.image import open_image
from serving.codecs.preprocessing import ImagePreprocessing
from serving.errors import OutputInvalid, RepositoryInvalid
from serving.monitoring.agreement import same_top
from serving.repository.config import TensorSpec
from serving.repository.layout import SINGLE_GRAPH, Version
from serving.task import Example, Parameters, Reply, Request, Signature, Task
from serving.tensors import Array, Tensors

PIXELS = "pixels"
PROBABILITIES = "probabilities"

# A grey disc on white, 16 x 16: small enough to stand in the documentation.
EXAMPLE_PNG = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAPUlEQVR42mP8z4AKmBgICbBAqGgGBoalSCqi4QREIBqh"
    b"jIEJwYcwCNuCVWApjLMUpmIpgg/VshQhzEi65wDLigkfxMa9pQAAAABJRU5ErkJggg=="
)


class ClassifyParameters(Parameters):
    top_k: Annotated[int, Field(ge=1, le=1000, description="How many labels, the most probable first.")] = 5


class Prediction(BaseModel):
    label: str
    class_id: Annotated[int, Field(description="The label's place in the version's list, from 0.")]
    score: Annotated[float, Field(ge=0, le=1, description="Probability; all classes together make 1.")]


class ClassifyReply(Reply):
    predictions: list[Prediction]


class Classify(Task[ClassifyParameters]):
    """Labels of the version's manifest, by the probabilities of its graph."""

    verb = "classify"
    summary = "Name what a picture shows"
    payload = "image"
    parameters = ClassifyParameters
    reply = ClassifyReply
    signatures: ClassVar = {
        SINGLE_GRAPH: Signature(
            inputs=(TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),),  # height, width, channels
            outputs=(TensorSpec(PROBABILITIES, "FP32", (-1,)),),  # classes
        )
    }

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        manifest_file = f"{version.name}/manifest.json"
        if version.manifest is None or version.manifest.labels is None:
            raise RepositoryInvalid(manifest_file, "labels", "expected the name of a file with one label a line")
        try:
            self.preprocessing = ImagePreprocessing.model_validate(dict(version.manifest.preprocessing))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in ("preprocessing", *first["loc"]))
            raise RepositoryInvalid(manifest_file, field, first["msg"]) from None
        try:
            text = (version.folder / version.manifest.labels).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            expected = f"expected a file of UTF-8 text beside the manifest; found {version.manifest.labels!r}"
            raise RepositoryInvalid(manifest_file, "labels", expected) from None
        self.labels = tuple(text.splitlines())

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
        pixels = self.preprocessing.apply(open_image(request.payload))
        return {PIXELS: pixels[np.newaxis]}

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

    def agreement(self, reply: Reply, other: Reply) -> float:
        """1 if both name the same label first."""
        tops = [[one.label for one in some.predictions] for some in (reply, other) if isinstance(some, ClassifyReply)]
        return same_top(*tops)


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
