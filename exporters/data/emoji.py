"""Forty things as pictures: Noto's colour emoji, cut out on a transparent ground.

Source: https://github.com/googlefonts/noto-emoji, SIL Open Font License 1.1
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from exporters.data.files import debian_file

if TYPE_CHECKING:
    import PIL.Image

PACKAGE: Final = "fonts-noto-color-emoji"
FONT: Final = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
LICENCE: Final = "OFL-1.1"
GLYPH: Final = 109  # the one size that the font's pictures have: 136 x 128 pixels

# The vocabulary of all that is made of scenes. Its order is the classes' numbers: never change it, add at the end.
THINGS: Final = {
    "apple": "\U0001f34e", "banana": "\U0001f34c", "grapes": "\U0001f347", "strawberry": "\U0001f353",
    "pineapple": "\U0001f34d", "watermelon": "\U0001f349", "lemon": "\U0001f34b", "carrot": "\U0001f955",
    "pizza": "\U0001f355", "hamburger": "\U0001f354", "doughnut": "\U0001f369", "cake": "\U0001f382",
    "egg": "\U0001f95a", "cheese": "\U0001f9c0", "dog": "\U0001f436", "cat": "\U0001f431",
    "fox": "\U0001f98a", "panda": "\U0001f43c", "frog": "\U0001f438", "pig": "\U0001f437",
    "elephant": "\U0001f418", "penguin": "\U0001f427", "fish": "\U0001f420", "butterfly": "\U0001f98b",
    "bee": "\U0001f41d", "octopus": "\U0001f419", "turtle": "\U0001f422", "rose": "\U0001f339",
    "sunflower": "\U0001f33b", "cactus": "\U0001f335", "car": "\U0001f697", "bus": "\U0001f68c",
    "bicycle": "\U0001f6b2", "airplane": "\u2708", "rocket": "\U0001f680", "house": "\U0001f3e0",
    "umbrella": "\u2602", "key": "\U0001f511", "guitar": "\U0001f3b8", "football": "\u26bd",
}  # fmt: skip
NAMES: Final = tuple(THINGS)


def font_file() -> Path:
    """The font; PackageMissing says how to get it."""
    return debian_file(PACKAGE, FONT)


@cache
def cut_out(name: str) -> PIL.Image.Image:
    """A thing as RGBA, cropped to what is not transparent."""
    return glyph(THINGS[name])


def glyph(character: str) -> PIL.Image.Image:
    """An emoji as RGBA, cropped to what is not transparent; ValueError when the font has no picture of it."""
    import PIL.Image
    import PIL.ImageDraw

    picture = PIL.Image.new("RGBA", (160, 160))
    PIL.ImageDraw.Draw(picture).text((8, 8), character, font=_font(), embedded_color=True)
    box = picture.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"the font draws nothing for {character!r}")
    found = picture.crop(box)
    if not np.asarray(found.convert("RGB")).any():  # a box for a character that is not in it
        raise ValueError(f"the font has no colours for {character!r}")
    return found


@cache
def _font() -> PIL.ImageFont.FreeTypeFont:
    import PIL.ImageFont

    return PIL.ImageFont.truetype(str(font_file()), GLYPH)
