"""How a version draws pictures, as its manifest says it, and whether its tokenizer and graphs are as it says."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from serving.codecs.text import TextCodec, TextPreprocessing
from serving.diffusion.drawing import Sampling
from serving.errors import ParameterInvalid, RepositoryInvalid
from serving.repository.layout import Version
from serving.task import read_preprocessing
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
Side = Annotated[int, Field(ge=1, le=65_536)]


class DrawnText(TextPreprocessing):
    """Every text is padded to `max_tokens`, or rows of different texts would not meet. pad: the id that fills; null:
    the text that stands for no prompt.
    """

    pad: Annotated[int, Field(ge=0)] = 0
    null: str = ""


class Sizes(BaseModel):
    """Other sizes than that of `latents`: sides that are multiples of so many pixels, up to the most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    multiple_of: Side
    most: Annotated[int, Field(ge=1, le=4096)]


class DrawingPreprocessing(Sampling):
    """What a manifest says under `preprocessing`. latents: channels, height and width of the network's samples; scale:
    pixels along a side of each; sizes: null where there is no other.
    """

    text: DrawnText
    latents: tuple[Side, Side, Side]
    scale: Annotated[int, Field(ge=1, le=64)] = 1
    sizes: Sizes | None = None

    def shape(self, size: str | None) -> tuple[int, int, int]:
        """Of the samples for a picture of that size, width x height. ParameterInvalid: of none that can be drawn."""
        channels, height, width = self.latents
        usual = f"{width * self.scale}x{height * self.scale}"
        if size is None or size == usual:
            return self.latents
        columns, rows = (int(side) for side in size.split("x"))
        if self.sizes is None:
            raise _other_size(f"Pictures have {usual} pixels here, not {size}.", "Leave size out.")
        step, most = self.sizes.multiple_of, self.sizes.most
        if columns % step or rows % step or max(columns, rows) > most:
            remedy = f"Ask for sides that are multiples of {step}, up to {most}."
            raise _other_size(f"No pictures of {size} pixels are drawn here.", remedy)
        return channels, rows // self.scale, columns // self.scale


def open_drawing(version: Version) -> tuple[DrawingPreprocessing, TextCodec]:
    """The version's settings and tokenizer. RepositoryInvalid: what of them does not fit, also to its graphs."""
    settings = read_preprocessing(version, DrawingPreprocessing)
    text = settings.text
    words = open_text(version, text.model_copy(update={"pad_to": text.max_tokens}))
    known = words.tokenizer.get_vocab_size()
    if text.pad >= known:
        raise _wrong(version, "text.pad", f"expected a token of the tokenizer, 0 to {known - 1}")
    if not words.tokenizer.encode(text.null).ids:
        raise _wrong(version, "text.null", "expected a text of which the tokenizer makes a token or more")
    try:
        settings.plan()
    except ValueError as error:
        raise _wrong(version, "steps", f"expected fewer: {error}") from None
    if settings.sizes and settings.sizes.multiple_of % settings.scale:
        raise _wrong(version, "sizes.multiple_of", f"expected a multiple of scale, {settings.scale}")
    unet = version.graphs[UNET].config
    if unet.rules.max_batch_size < 2:
        raise RepositoryInvalid(f"{unet.name}/config.pbtxt", "max_batch_size", "expected 2 or more: a step has 2 rows")
    return settings, words


def context_width(version: Version) -> int:
    """Numbers of each token's context. RepositoryInvalid where no graph says it, or they differ."""
    text, unet = version.graphs[TEXT].config, version.graphs[UNET].config
    stated: set[int] = {spec.shape[-1] for spec in (*text.outputs, *unet.inputs) if spec.name == CONTEXT} - {-1}
    if len(stated) != 1:
        found = f"{sorted(stated)}" if stated else "none in config.pbtxt"
        expected = f"expected a text and a unet with contexts of one width; found {found}"
        raise RepositoryInvalid(f"{version.name}/manifest.json", "graphs", expected)
    return stated.pop()


def _wrong(version: Version, field: str, expected: str) -> RepositoryInvalid:
    return RepositoryInvalid(f"{version.name}/manifest.json", f"preprocessing.{field}", expected)


def _other_size(detail: str, remedy: str) -> ParameterInvalid:
    return ParameterInvalid(detail, remedy=remedy, extension={"param": "size"})
