"""Pictures of single emoji and their names, as pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from exporters.data import emoji
from exporters.data.backgrounds import make_background
from exporters.data.emoji_names import Named
from exporters.data.pictures import as_png, encode_pictures
from exporters.data.scenes import SEED
from serving.codecs.preprocessing import ImagePreprocessing
from serving.tensors import Array

SIDE: Final = 224  # pixels of a picture
PLAIN: Final = 0.85  # of the side, that the longer side of an emoji on white takes
SIZES: Final = (0.6, 0.95)  # of the side, on other grounds
TURN: Final = 15  # degrees to either side, there


def pictures(named: Sequence[Named], preprocessing: Mapping[str, Any], *, views: Sequence[int]) -> Array:
    """Each emoji in each view, view by view: uint8 [len(views) * len(named), size, size, 3].

    View 0 is on white, in the middle; each other one is on a photo or a colour, turned, sized and placed at random.
    """
    settings = ImagePreprocessing.model_validate(dict(preprocessing))
    return encode_pictures([as_png(_picture(one.characters, view)) for view in views for one in named], settings)


def _picture(characters: str, view: int) -> Array:
    import PIL.Image

    chance = np.random.default_rng([SEED, view, *map(ord, characters)])
    ground = make_background(SIDE, "train", chance) if view else PIL.Image.new("RGB", (SIDE, SIDE), "white")
    drawing = emoji.glyph(characters)
    if view:
        drawing = drawing.rotate(chance.uniform(-TURN, TURN), PIL.Image.Resampling.BICUBIC, expand=True)
    longer = (chance.uniform(*SIZES) if view else PLAIN) * SIDE
    width, height = (max(8, round(length * longer / max(drawing.size))) for length in drawing.size)
    small = drawing.resize((width, height), PIL.Image.Resampling.LANCZOS)
    places = (SIDE - width + 1, SIDE - height + 1)
    left, top = (int(chance.integers(most)) if view else most // 2 for most in places)
    ground.paste(small, (left, top), small)
    return np.asarray(ground.convert("RGB"))
