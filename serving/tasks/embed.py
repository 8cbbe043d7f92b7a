"""A picture or a text in, its embedding out: things that mean the same lie close together.

A version has a tower for pictures, one for text, or both, whose embeddings then share one space.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from serving.codecs.image import open_image
from serving.codecs.preprocessing import ImagePreprocessing
from serving.codecs.text import TextCodec, TextPreprocessing, read_text
from serving.errors import InvalidInput, OutputInvalid, RepositoryInvalid
from serving.monitoring.agreement import cosine
from serving.picture_task import EXAMPLE_PNG, PIXELS
from serving.repository.config import TensorSpec
from serving.repository.layout import Version
from serving.task import Example, Parameters, Reply, Request, Signature, Steps, Task, read_preprocessing
from serving.tensors import Tensors
from serving.text_task import open_text, tokens_seen

INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
EMBEDDING: Final = "embedding"
IMAGE: Final = "image"
TEXT: Final = "text"
TOKENS: Final = "tokens"  # text as ids of the version's own tokenizer: int64, little-endian
EXAMPLE_TEXT: Final = "a grey disc on white"
LENGTH_TOLERANCE: Final = 1e-3  # float16 leaves about 1e-4


class EmbedParameters(Parameters):
    """None yet."""


class EmbedReply(Reply):
    embedding: Annotated[list[float], Field(description="Of length 1, so that a dot product is a cosine.")]
    dimensions: int
    tokens: Annotated[int, Field(description="Tokens of the text that were read; 0 of a picture.")] = 0


class _Preprocessing(BaseModel):
    """What a manifest says under `preprocessing`: of each tower that the version has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: ImagePreprocessing | None = None
    text: TextPreprocessing | None = None


class Embed(Task[EmbedParameters]):
    """The embedding of a picture or a text: float32 numbers of length 1, by the version's tower for it."""

    verb = "embed"
    summary = "Turn a picture or a text into numbers that say what it means"
    payloads = (IMAGE, TEXT)
    parameters = EmbedParameters
    reply = EmbedReply
    any_graph = True
    signatures: ClassVar = {
        IMAGE: Signature(
            inputs=(TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),),  # height, width, channels
            outputs=(TensorSpec(EMBEDDING, "FP32", (-1,)),),
        ),
        TEXT: Signature(
            inputs=(TensorSpec(INPUT_IDS, "INT64", (-1,)), TensorSpec(ATTENTION_MASK, "INT64", (-1,))),
            outputs=(TensorSpec(EMBEDDING, "FP32", (-1,)),),
        ),
    }

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        settings = read_preprocessing(version, _Preprocessing)
        towers = [role for role in self.signatures if role in version.graphs]
        for role in towers:
            if getattr(settings, role) is None:
                raise RepositoryInvalid(f"{version.name}/manifest.json", f"preprocessing.{role}", "expected an object")
        self.towers: tuple[str, ...] = tuple(towers)
        self.pictures = settings.image
        self.words: TextCodec | None = open_text(version, settings.text) if settings.text and TEXT in towers else None

    @classmethod
    def example(cls) -> Example:
        reply = {
            "model": "clip",
            "version": 1,
            "embedding": [0.6, 0.0, -0.8],
            "dimensions": 3,
            "tokens": 5,
        }
        return Example(EXAMPLE_TEXT.encode(), "text/plain", {}, reply, TEXT)

    def sample(self) -> Request[EmbedParameters]:
        """The example, or a picture where the version has no tower for text."""
        return self._sample(TEXT if self.words else IMAGE)

    def warm_up(self) -> dict[str, Tensors]:
        """One row for each tower."""
        return {role: self.encode(self._sample(role)) for role in self.towers}

    def encode(self, request: Request[EmbedParameters]) -> Tensors:
        """One row, uint8 [1, height, width, channels] or int64 [1, tokens]. InvalidInput without the tower for it."""
        if request.kind == IMAGE and IMAGE in self.towers and self.pictures:
            return {PIXELS: self.pictures.apply(open_image(request.payload))[np.newaxis]}
        if request.kind in (TEXT, TOKENS) and self.words:
            if request.kind == TEXT:
                ids, mask = self.words.encode(read_text(request.payload))
            else:
                ids, mask = self.words.row(np.frombuffer(request.payload, "<i8").tolist())
            return {INPUT_IDS: ids, ATTENTION_MASK: mask}
        taken = " or ".join(self.towers)
        detail = f"Version {self.version} of {self.model} embeds no {request.kind}, only {taken}."
        raise InvalidInput(detail, remedy=f"Send {taken}, or name another model; GET /v1/models lists them.")

    async def answer(self, request: Request[EmbedParameters], steps: Steps) -> EmbedReply:
        """Through the tower of the request's kind."""
        inputs = await steps.pre(lambda: self.encode(request))
        outputs = await steps.run(IMAGE if PIXELS in inputs else TEXT, inputs)
        tokens = int(inputs[ATTENTION_MASK].sum()) if ATTENTION_MASK in inputs else 0
        return steps.post(lambda: self.decode(outputs, request).model_copy(update={"tokens": tokens}))

    def decode(self, outputs: Tensors, _: Request[EmbedParameters]) -> EmbedReply:
        """Row 0 of float32 [1, dimensions]. OutputInvalid unless it is finite and of length 1."""
        vector = outputs[EMBEDDING][0]
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise OutputInvalid("The model gave an embedding that is not finite numbers in a row.")
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if abs(length - 1) > LENGTH_TOLERANCE:
            raise OutputInvalid(f"The model gave an embedding of length {length:.4g}, not 1.")
        return EmbedReply.model_construct(
            model=self.model, version=self.version, embedding=vector.tolist(), dimensions=vector.size, tokens=0
        )

    def features(self, request: Request[EmbedParameters], inputs: Tensors) -> dict[str, float | str]:
        """Of a text also what the version's tokenizer makes of it."""
        found = super().features(request, inputs)
        if self.words and INPUT_IDS in inputs:
            found |= tokens_seen(self.words, request, inputs[INPUT_IDS][0][inputs[ATTENTION_MASK][0] == 1])
        return found

    def outcome(self, reply: Reply) -> dict[str, float | str]:
        """Of a version with two towers by which of them it was: what callers send more of is no drift of either."""
        found = super().outcome(reply)
        if len(self.towers) < 2 or not isinstance(reply, EmbedReply):
            return found
        kind = TEXT if reply.tokens else IMAGE
        return {name.replace("reply_", f"reply_{kind}_", 1): value for name, value in found.items()}

    def agreement(self, reply: Reply, other: Reply) -> float:
        """The cosine of the angle between both. Low of versions with spaces of their own, however good they are."""
        vectors = [np.array(one.embedding) for one in (reply, other) if isinstance(one, EmbedReply)]
        return cosine(*vectors)

    def _sample(self, kind: str) -> Request[EmbedParameters]:
        return Request(EXAMPLE_PNG if kind == IMAGE else EXAMPLE_TEXT.encode(), EmbedParameters(), kind=kind)


PLUGIN = Embed
