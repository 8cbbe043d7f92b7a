"""A text in, a picture of it out: noise that a network takes away step by step, led by the text.

A step of one picture is a request of two rows, with the prompt and without, or of one where there is no guidance. A row
has all that the step needs, so steps of different callers, at whichever timestep, meet in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import ConfigDict, Field

from serving.codecs.pixels import picture_png, pixels_of
from serving.codecs.text import read_text
from serving.diffusion.drawing import MOST_SEED, Drawing, Plan, any_seed, guided
from serving.diffusion.schedule import Sampler
from serving.drawing_task import (
    CONTEXT,
    DECODER,
    LATENTS,
    PIXELS,
    PREDICTION,
    TEXT,
    TIMESTEP,
    TOKENS,
    UNET,
    context_width,
    open_drawing,
)
from serving.errors import OutputInvalid, ParameterInvalid
from serving.repository.config import TensorSpec
from serving.repository.layout import Version
from serving.task import Example, FileReply, Parameters, Progress, Reply, Request, Signature, Steps, Task
from serving.tensors import Array, Tensors
from serving.text_task import tokens_seen

SEED: Final = "seed"
STEPS: Final = "steps"
PNG: Final = "image/png"
SIZE: Final = r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$"
ASIDE: Final = 50_000  # numbers of a sample, whose step then takes more than a millisecond


class GenerateParameters(Parameters):
    size: Annotated[
        str | None,
        Field(pattern=SIZE, description="Width x height in pixels, such as 64x64; by default the version's."),
    ] = None
    steps: Annotated[
        int | None, Field(ge=1, le=1000, description="Runs of the network a picture; by default the version's.")
    ] = None
    guidance: Annotated[
        float | None,
        Field(
            ge=0,
            le=50,
            allow_inf_nan=False,
            description="How strongly the prompt leads: 1 as the network learned it, more beyond; by default the "
            "version's.",
        ),
    ] = None
    seed: Annotated[
        int | None, Field(ge=0, le=MOST_SEED, description="The same seed gives the same picture; by default any.")
    ] = None
    negative_prompt: Annotated[
        str | None, Field(description="What to lead away from; by default from pictures of anything.")
    ] = None
    sampler: Annotated[Sampler | None, Field(description="By default the version's.")] = None


class GenerateReply(FileReply):
    """A picture as PNG, and with what it can be drawn again."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    seed: int
    steps: int
    size: Annotated[str, Field(description="Width x height in pixels.")]


@dataclass(frozen=True, slots=True)
class _Order:
    """A request's parameters with the version's own in place of what was left open."""

    plan: Plan
    shape: tuple[int, int, int]
    guidance: float
    seed: int

    @property
    def rows(self) -> int:
        """Of each step: with the prompt alone, or without it as well."""
        return 1 if self.guidance == 1 else 2


class GenerateImages(Task[GenerateParameters]):
    """A picture of what the text says, drawn out of the seed's noise by classifier-free guidance."""

    verb = "generate-images"
    summary = "Draw a picture of what a text says"
    payloads = (TEXT,)
    parameters = GenerateParameters
    reply = GenerateReply
    path = "/v1/images/generations"
    media_types = (PNG,)
    signatures: ClassVar = {
        # first: the graph with the model's own name
        UNET: Signature(
            inputs=(
                TensorSpec(LATENTS, "FP32", (-1, -1, -1)),  # channels, height, width
                TensorSpec(TIMESTEP, "FP32", (1,)),
                TensorSpec(CONTEXT, "FP32", (-1, -1)),
            ),
            outputs=(TensorSpec(PREDICTION, "FP32", (-1, -1, -1)),),
        ),
        TEXT: Signature(
            inputs=(TensorSpec(TOKENS, "INT64", (-1,)),),
            outputs=(TensorSpec(CONTEXT, "FP32", (-1, -1)),),  # tokens, width
        ),
        DECODER: Signature(
            inputs=(TensorSpec(LATENTS, "FP32", (-1, -1, -1)),),
            outputs=(TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),),  # height, width, channels
        ),
    }

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        self.settings, self.words = open_drawing(version)
        self._null = self.words.tokenizer.encode(self.settings.text.null).ids
        self._width = context_width(version)

    @classmethod
    def example(cls) -> Example:
        picture = {"content": "", "media_type": PNG, "size": "64x64"}
        reply = {"model": "diffusion", "version": 1, **picture, "seed": 7, "steps": 20}
        return Example(b"a red apple", "text/plain", {"seed": 7}, reply, TEXT)

    def warm_up(self) -> dict[str, Tensors]:
        """The example's tokens, and latents and a context of zeros."""
        latents = np.zeros((1, *self.settings.latents), np.float32)
        context = np.zeros((1, self.settings.text.max_tokens, self._width), np.float32)
        tokens = self.encode(self.sample())[TOKENS][:1]
        return {
            TEXT: {TOKENS: tokens},
            UNET: {LATENTS: latents, TIMESTEP: np.zeros((1, 1), np.float32), CONTEXT: context},
            DECODER: {LATENTS: latents},
        }

    def encode(self, request: Request[GenerateParameters]) -> Tensors:
        """Two rows, int64 [2, max_tokens]: the prompt, and what stands for none. TextInvalid."""
        prompt, mask = self.words.encode(read_text(request.payload))
        negative = request.parameters.negative_prompt
        null, null_mask = self.words.encode(negative) if negative else self.words.row(self._null)
        tokens, known = np.concatenate([prompt, null]), np.concatenate([mask, null_mask])
        return {TOKENS: np.where(known == 1, tokens, self.settings.text.pad)}

    async def answer(self, request: Request[GenerateParameters], steps: Steps) -> GenerateReply:
        """The text once, then the network for each step of the plan, then the decoder."""
        order = self._order(request.parameters)
        tokens = (await steps.pre(lambda: self.encode(request)))[TOKENS]
        context = (await steps.run(TEXT, {TOKENS: tokens[: order.rows]}))[CONTEXT]
        drawing = Drawing.begin(order.plan, order.shape, order.seed)
        while not drawing.done:
            prediction = (await steps.run(UNET, _step_rows(drawing, context)))[PREDICTION]
            drawing = await _step(drawing, prediction, order.guidance, steps)
            await self._tell(drawing, steps)
        latents = drawing.latents[np.newaxis]
        if not np.isfinite(latents).all():
            raise OutputInvalid("The model led to samples that are not finite.")
        pixels = (await steps.run(DECODER, {LATENTS: latents}))[PIXELS]
        found = {PIXELS: pixels, SEED: np.array([order.seed]), STEPS: np.array([drawing.count])}
        return await steps.post_aside(lambda: self.decode(found, request))

    def decode(self, outputs: Tensors, _: Request[GenerateParameters]) -> GenerateReply:
        """Row 0 of uint8 [1, height, width, 3] as a PNG, with the seed and steps beside it, int64 [1]."""
        pixels = outputs[PIXELS][0]
        return GenerateReply.model_construct(
            model=self.model,
            version=self.version,
            content=_png(pixels),
            media_type=PNG,
            seed=int(outputs[SEED][0]),
            steps=int(outputs[STEPS][0]),
            size=f"{pixels.shape[1]}x{pixels.shape[0]}",
        )

    def features(self, request: Request[GenerateParameters], inputs: Tensors) -> dict[str, float | str]:
        """Of the prompt also what the version's tokenizer makes of it."""
        tokens = inputs[TOKENS][0]
        seen = tokens_seen(self.words, request, tokens[tokens != self.settings.text.pad])
        return super().features(request, inputs) | seen

    def agreement(self, reply: Reply, other: Reply) -> float:
        """How alike the pixels are: 1 less their mean difference, of pictures of one size."""
        pictures = [pixels_of(one.content) for one in (reply, other) if isinstance(one, FileReply)]
        if len({picture.shape for picture in pictures}) != 1 or len(pictures) != 2:
            return 0.0
        one, second = (picture.astype(np.float64) for picture in pictures)
        return 1 - float(np.abs(one - second).mean()) / 255

    def _order(self, wanted: GenerateParameters) -> _Order:
        """ParameterInvalid: more steps or another size than the version has."""
        settings = self.settings
        try:
            plan = settings.plan(wanted.sampler, wanted.steps)
        except ValueError as error:
            raise ParameterInvalid(f"steps: {error}.", remedy="Ask for fewer.", extension={"param": STEPS}) from None
        guidance = settings.guidance if wanted.guidance is None else wanted.guidance
        seed = any_seed() if wanted.seed is None else wanted.seed
        return _Order(plan, settings.shape(wanted.size), guidance, seed)

    async def _tell(self, drawing: Drawing, steps: Steps) -> None:
        """Tells who watches of the last step, now and then with a picture of what was thought to come out."""
        watcher = steps.watcher
        if watcher is None:
            return
        preview, every = None, watcher.preview_every
        if every and drawing.count % every == 0 and not drawing.done:
            outputs = await steps.run(DECODER, {LATENTS: drawing.preview[np.newaxis]})
            preview = await steps.post_aside(lambda: _png(outputs[PIXELS][0]))
        watcher.told(Progress(drawing.count, len(drawing.plan.timesteps), preview))


def _step_rows(drawing: Drawing, context: Array) -> Tensors:
    """The network's inputs for one step, a row for each of the context's."""
    count = len(context)
    latents = np.repeat(drawing.latents[np.newaxis], count, axis=0)
    return {LATENTS: latents, TIMESTEP: np.full((count, 1), drawing.timestep, np.float32), CONTEXT: context}


async def _step(drawing: Drawing, prediction: Array, guidance: float, steps: Steps) -> Drawing:
    """The drawing after one more step. OutputInvalid for what no picture can come of."""
    if prediction.shape[1:] != drawing.sample.shape:
        raise OutputInvalid("The model gave a prediction of another shape than its sample.")
    if not np.isfinite(prediction).all():
        raise OutputInvalid("The model gave a prediction that is not finite.")

    def advance() -> Drawing:
        return drawing.step(prediction[0] if len(prediction) == 1 else guided(prediction[1], prediction[0], guidance))

    return await steps.post_aside(advance) if prediction.size > ASIDE else steps.post(advance)


def _png(pixels: Array) -> bytes:
    """OutputInvalid unless it is uint8 [height, width, 3]."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise OutputInvalid("The model gave pixels that are no picture in colour.")
    return picture_png(pixels)


PLUGIN = GenerateImages
