"""A text in, a picture of it out: noise that a network takes away step by step, led by the text.

A step of one picture is a request of two rows, with the prompt and without, or of one where there is no guidance. A row
has all that the step needs, so steps of different callers, at whichever timestep, meet in batches.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from serving.codecs.pixels import picture_png, pixels_of
from serving.codecs.text import TextPreprocessing, read_text
from serving.diffusion.drawing import MOST_SEED, Drawing, Plan, Sampling, guided
from serving.diffusion.schedule import Sampler
from serving.errors import OutputInvalid, ParameterInvalid, RepositoryInvalid
from serving.repository.config import TensorSpec
from serving.repository.layout import Version
from serving.task import (
    Example,
    FileReply,
    Parameters,
    Progress,
    Reply,
    Request,
    Signature,
    Steps,
    Task,
    read_preprocessing,
)
from serving.tensors import Array, Tensors
from serving.text_task import open_text

TEXT: Final = "text"
UNET: Final = "unet"
DECODER: Final = "decoder"
TOKENS: Final = "tokens"
CONTEXT: Final = "context"
LATENTS: Final = "latents"
TIMESTEP: Final = "timestep"
PREDICTION: Final = "prediction"
PIXELS: Final = "pixels"
SEED: Final = "seed"
STEPS: Final = "steps"
PNG: Final = "image/png"
RANDOM_SEED_BITS: Final = 32  # of a seed that the caller left open: short enough to be read out
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


class _Text(TextPreprocessing):
    """Every text is padded to `max_tokens`, or rows of different texts would not meet. pad: the id that fills; null:
    the text that stands for no prompt.
    """

    pad: Annotated[int, Field(ge=0)] = 0
    null: str = ""


class _Sizes(BaseModel):
    """Other sizes than that of `latents`: sides that are multiples of so many pixels, up to the most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    multiple_of: Annotated[int, Field(ge=1)]
    most: Annotated[int, Field(ge=1, le=4096)]


class _Preprocessing(Sampling):
    """What a manifest says under `preprocessing`. latents: channels, height and width of the network's samples; scale:
    pixels along a side of each.
    """

    text: _Text
    latents: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    scale: Annotated[int, Field(ge=1, le=64)] = 1
    sizes: _Sizes | None = None


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
        TEXT: Signature(
            inputs=(TensorSpec(TOKENS, "INT64", (-1,)),),
            outputs=(TensorSpec(CONTEXT, "FP32", (-1, -1)),),  # tokens, width
        ),
        UNET: Signature(
            inputs=(
                TensorSpec(LATENTS, "FP32", (-1, -1, -1)),  # channels, height, width
                TensorSpec(TIMESTEP, "FP32", (1,)),
                TensorSpec(CONTEXT, "FP32", (-1, -1)),
            ),
            outputs=(TensorSpec(PREDICTION, "FP32", (-1, -1, -1)),),
        ),
        DECODER: Signature(
            inputs=(TensorSpec(LATENTS, "FP32", (-1, -1, -1)),),
            outputs=(TensorSpec(PIXELS, "UINT8", (-1, -1, -1)),),  # height, width, channels
        ),
    }

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        self.settings = read_preprocessing(version, _Preprocessing)
        text = self.settings.text
        self.words = open_text(version, text.model_copy(update={"pad_to": text.max_tokens}))
        self._null = self.words.tokenizer.encode(text.null).ids
        self._width = _context_width(version)
        _check(version, self.settings, len(self._null), self.words.tokenizer.get_vocab_size())

    @classmethod
    def example(cls) -> Example:
        reply = {"model": "diffusion", "version": 1, "content": "", "media_type": PNG, "seed": 7, "steps": 20}
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
        pixels = (await steps.run(DECODER, {LATENTS: drawing.latents[np.newaxis]}))[PIXELS]
        found = {PIXELS: pixels, SEED: np.array([order.seed]), STEPS: np.array([drawing.count])}
        return await steps.post_aside(lambda: self.decode(found, request))

    def decode(self, outputs: Tensors, _: Request[GenerateParameters]) -> GenerateReply:
        """Row 0 of uint8 [1, height, width, 3] as a PNG, with the seed and steps beside it, int64 [1]."""
        return GenerateReply.model_construct(
            model=self.model,
            version=self.version,
            content=_png(outputs[PIXELS][0]),
            media_type=PNG,
            seed=int(outputs[SEED][0]),
            steps=int(outputs[STEPS][0]),
        )

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
        seed = secrets.randbits(RANDOM_SEED_BITS) if wanted.seed is None else wanted.seed
        return _Order(plan, self._shape(wanted.size), guidance, seed)

    def _shape(self, size: str | None) -> tuple[int, int, int]:
        """Of the network's samples for a picture of that size."""
        channels, height, width = self.settings.latents
        scale, sizes = self.settings.scale, self.settings.sizes
        usual = f"{width * scale}x{height * scale}"
        if size is None or size == usual:
            return channels, height, width
        columns, rows = (int(side) for side in size.split("x"))
        if sizes is None:
            raise _other_size(f"{self.model} draws pictures of {usual} pixels, not {size}.", "Leave size out.")
        if columns % sizes.multiple_of or rows % sizes.multiple_of or max(columns, rows) > sizes.most:
            detail = f"{self.model} draws no pictures of {size} pixels."
            raise _other_size(detail, f"Ask for multiples of {sizes.multiple_of} up to {sizes.most}.")
        return channels, rows // scale, columns // scale

    async def _tell(self, drawing: Drawing, steps: Steps) -> None:
        """Tells who watches of the last step, now and then with a picture of what was thought to come out."""
        watcher = steps.watcher
        if watcher is None:
            return
        preview = None
        clean, every = drawing.clean, watcher.preview_every
        if clean is not None and every and drawing.count % every == 0 and not drawing.done:
            outputs = await steps.run(DECODER, {LATENTS: clean.astype(np.float32)[np.newaxis]})
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


def _other_size(detail: str, remedy: str) -> ParameterInvalid:
    return ParameterInvalid(detail, remedy=remedy, extension={"param": "size"})


def _context_width(version: Version) -> int:
    """Numbers of each token's context. RepositoryInvalid where neither graph says it, or they differ."""
    pairs = ((TEXT, "outputs"), (UNET, "inputs"))
    specs = [spec for role, side in pairs for spec in getattr(version.graphs[role].config, side)]
    stated: set[int] = {spec.shape[-1] for spec in specs if spec.name == CONTEXT} - {-1}
    if len(stated) != 1:
        expected = f"expected a text and a unet with contexts of one width; found {sorted(stated) or 'none stated'}"
        raise RepositoryInvalid(f"{version.name}/manifest.json", "graphs", expected)
    return stated.pop()


def _check(version: Version, settings: _Preprocessing, null: int, known: int) -> None:
    """RepositoryInvalid: what of the manifest does not fit the tokenizer or the graphs."""

    def wrong(field: str, expected: str) -> RepositoryInvalid:
        return RepositoryInvalid(f"{version.name}/manifest.json", f"preprocessing.{field}", expected)

    if settings.text.pad >= known:
        raise wrong("text.pad", f"expected a token of the tokenizer, 0 to {known - 1}")
    if not null:
        raise wrong("text.null", "expected a text of which the tokenizer makes a token or more")
    try:
        settings.plan()
    except ValueError as error:
        raise wrong(STEPS, str(error)) from None
    if settings.sizes and settings.sizes.multiple_of % settings.scale:
        raise wrong("sizes.multiple_of", f"expected a multiple of scale, {settings.scale}")
    if version.graphs[UNET].config.rules.max_batch_size < 2:
        name = version.graphs[UNET].config.name
        raise RepositoryInvalid(f"{name}/config.pbtxt", "max_batch_size", "expected 2 or more: a step has two rows")


PLUGIN = GenerateImages
