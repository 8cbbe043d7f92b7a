"""A picture in, a sentence about it out: an encoder that looks once, a decoder that gives a token at a time.

The decoder keeps nothing between steps: each row is a text so far and the picture's memory. So open hypotheses of one
caller and of others, at whichever step they are, have one shape and meet in batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from serving.beam_search import Beams
from serving.codecs.image import open_image
from serving.codecs.preprocessing import ImagePreprocessing
from serving.codecs.text import TextPreprocessing
from serving.errors import OutputInvalid, RepositoryInvalid
from serving.monitoring.agreement import shared_words
from serving.monitoring.score import Score, read_truth
from serving.picture_task import EXAMPLE_PNG, PIXELS
from serving.repository.config import TensorSpec
from serving.repository.layout import Version
from serving.task import Example, Gist, Parameters, Reply, Request, Signature, Steps, Task, read_preprocessing
from serving.tensors import Array, Tensors
from serving.text_task import open_text

ENCODER: Final = "encoder"
DECODER: Final = "decoder"
MEMORY: Final = "memory"
TOKENS: Final = "tokens"
LENGTH: Final = "length"
LOGITS: Final = "logits"
SCORE: Final = "score"
MOST_BEAMS: Final = 8  # rows that one caller has in the queue at a time
Sentence = Annotated[str, Field(max_length=10_000)]
TRUTH: Final[TypeAdapter[str | list[str]]] = TypeAdapter(
    Sentence | Annotated[list[Sentence], Field(min_length=1, max_length=20)]
)
ASIDE: Final = 100_000  # logits of a step, whose search then takes more than a millisecond


class CaptionParameters(Parameters):
    max_tokens: Annotated[
        int, Field(ge=1, le=1024, description="The longest caption, in tokens; a version's own limit may be lower.")
    ] = 64
    num_beams: Annotated[
        int, Field(ge=1, le=MOST_BEAMS, description="Hypotheses that are followed at a time; 1 is greedy search.")
    ] = 1


class CaptionReply(Reply):
    text: str
    score: Annotated[float, Field(description="The mean log-probability of its tokens: 0 is certain.")]
    tokens: Annotated[int, Field(description="Tokens of the caption, its end included.")]


class _Text(TextPreprocessing):
    """`max_tokens`: tokens that the decoder takes, the start included. Ids of the tokenizer that start, end and pad."""

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    pad: Annotated[int, Field(ge=0)] = 0


class _Preprocessing(BaseModel):
    """What a manifest says under `preprocessing`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: ImagePreprocessing
    text: _Text


class Caption(Task[CaptionParameters]):
    """A sentence that says what the picture shows, found token by token by beam search."""

    verb = "caption"
    summary = "Say what a picture shows"
    payloads = ("image",)
    parameters = CaptionParameters
    reply = CaptionReply
    signatures: ClassVar = {
        ENCODER: Signature(
            inputs=(TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),),  # height, width, channels
            outputs=(TensorSpec(MEMORY, "FP32", (-1, -1)),),
        ),
        DECODER: Signature(
            inputs=(
                TensorSpec(TOKENS, "INT64", (-1,)),
                TensorSpec(LENGTH, "INT64", (1,)),
                TensorSpec(MEMORY, "FP32", (-1, -1)),
            ),
            outputs=(TensorSpec(LOGITS, "FP32", (-1,)),),  # of the token after the last one that counts
        ),
    }

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        settings = read_preprocessing(version, _Preprocessing)
        self.pictures = settings.image
        self.text = settings.text
        self.words = open_text(version, settings.text)
        self._memory = _memory_shape(version)
        _check_text(version, settings.text, self.words.tokenizer.get_vocab_size())

    @classmethod
    def example(cls) -> Example:
        reply = {"model": "captioner", "version": 1, "text": "a grey disc on white", "score": -0.11, "tokens": 6}
        return Example(EXAMPLE_PNG, "image/png", {"num_beams": 3}, reply)

    def warm_up(self) -> dict[str, Tensors]:
        """The example's pixels, and a text that has just begun about a picture of nothing."""
        memory = np.zeros((1, *self._memory), np.float32)
        return {ENCODER: self.encode(self.sample()), DECODER: self._rows(np.zeros((1, 0), np.int64), memory)[0]}

    def encode(self, request: Request[CaptionParameters]) -> Tensors:
        """One row, uint8 [1, height, width, channels]."""
        return {PIXELS: self.pictures.apply(open_image(request.payload))[np.newaxis]}

    async def answer(self, request: Request[CaptionParameters], steps: Steps) -> CaptionReply:
        """The encoder once, then the decoder on all open hypotheses until the search is over."""
        inputs = await steps.pre(lambda: self.encode(request))
        memory = (await steps.run(ENCODER, inputs))[MEMORY]
        wanted = request.parameters
        beams = Beams.begin(wanted.num_beams, self.text.end, min(wanted.max_tokens, self.text.max_tokens))
        while not beams.done:
            logits = await _run_all(self._rows(beams.tokens, memory), steps)
            beams = await self._step(beams, logits, steps)
        best = beams.best
        found = {TOKENS: np.array([best.tokens], np.int64), SCORE: np.array([best.score])}
        return steps.post(lambda: self.decode(found, request))

    def decode(self, outputs: Tensors, _: Request[CaptionParameters]) -> CaptionReply:
        """What the search found: tokens int64 [1, length] without the start, and their score float64 [1]."""
        tokens: list[int] = outputs[TOKENS][0].tolist()
        return CaptionReply.model_construct(
            model=self.model,
            version=self.version,
            text=self.words.decode([token for token in tokens if token not in (self.text.start, self.text.end)]),
            score=float(outputs[SCORE][0]),
            tokens=len(tokens),
        )

    def agreement(self, reply: Reply, other: Reply) -> float:
        """1 for the same text, else the share of words that both have."""
        texts = [one.text for one in (reply, other) if isinstance(one, CaptionReply)]
        return shared_words(*texts)

    def gist(self, reply: Reply) -> Gist | None:
        """The text."""
        return reply.text if isinstance(reply, CaptionReply) else None

    def score(self, gist: Gist, truth: Any) -> Score:
        """word_f1: of the words, in any order and case, with those of the true sentence that has most of them."""
        told = read_truth(TRUTH, truth, "Send what it should have said: a text, or a list of up to 20 good ones.")
        texts = [told] if isinstance(told, str) else told
        return Score("word_f1", max(shared_words(str(gist).lower(), text.lower()) for text in texts))

    def _rows(self, tokens: Array, memory: Array) -> list[Tensors]:
        """The decoder's inputs for each open hypothesis, each a batch of one row."""
        count, steps = tokens.shape
        padded = np.full((count, self.text.max_tokens), self.text.pad, np.int64)
        padded[:, 0] = self.text.start
        padded[:, 1 : steps + 1] = tokens
        self.words.positions.add(count * (steps + 1), count * (self.text.max_tokens - steps - 1))
        length = np.array([[steps + 1]], np.int64)
        return [{TOKENS: padded[i : i + 1], LENGTH: length, MEMORY: memory} for i in range(count)]

    async def _step(self, beams: Beams, logits: Array, steps: Steps) -> Beams:
        # What is not finite shows in the largest; -inf alone is said of tokens that may not come.
        if logits.shape[1] <= self.text.end or not np.isfinite(logits.max(axis=1)).all():
            raise OutputInvalid("The model gave logits that are not finite, or none for the end of a caption.")
        if logits.size < ASIDE:
            return steps.post(lambda: beams.step(logits))
        return await steps.post_aside(lambda: beams.step(logits))


async def _run_all(rows: list[Tensors], steps: Steps) -> Array:
    """The logits of all rows, float32 [rows, vocabulary]. When one fails or the caller leaves, none waits on."""
    if len(rows) == 1:
        return (await steps.run(DECODER, rows[0]))[LOGITS]
    runs = [asyncio.ensure_future(steps.run(DECODER, row)) for row in rows]
    try:
        return np.concatenate([outputs[LOGITS] for outputs in await asyncio.gather(*runs)])
    finally:
        for run in runs:
            run.cancel()


def _wrong(version: Version, field: str, expected: str) -> RepositoryInvalid:
    return RepositoryInvalid(f"{version.name}/manifest.json", f"preprocessing.{field}", expected)


def _memory_shape(version: Version) -> tuple[int, ...]:
    """Of one row, 1 where any size will do. RepositoryInvalid where encoder and decoder state another one."""
    given = _stated(version.graphs[ENCODER].config.outputs, MEMORY)
    taken = _stated(version.graphs[DECODER].config.inputs, MEMORY)
    if given and taken and any(-1 not in pair and pair[0] != pair[1] for pair in zip(given, taken, strict=False)):
        expected = f"expected a decoder that takes the encoder's memory, {list(given)}; found {list(taken)}"
        raise RepositoryInvalid(f"{version.name}/manifest.json", "graphs", expected)
    return tuple(max(1, size) for size in taken or (1, 1))


def _check_text(version: Version, text: _Text, known: int) -> None:
    """RepositoryInvalid where the tokenizer has no such token, or the decoder takes another number of them."""
    for name in ("start", "end", "pad"):
        if getattr(text, name) >= known:
            raise _wrong(version, f"text.{name}", f"expected a token of the tokenizer, 0 to {known - 1}")
    taken = _stated(version.graphs[DECODER].config.inputs, TOKENS)
    if taken and taken[0] not in (-1, text.max_tokens):
        raise _wrong(version, "text.max_tokens", f"expected {taken[0]}, as many as the decoder takes")


def _stated(specs: Sequence[TensorSpec], name: str) -> tuple[int, ...]:
    """The shape that a configuration states; () where it leaves that to the model file."""
    return next((spec.shape for spec in specs if spec.name == name), ())


PLUGIN = Caption
