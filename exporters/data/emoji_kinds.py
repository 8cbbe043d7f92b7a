"""Seven kinds of emoji, a small labelled set: 300 drawings, some to learn from and others to be tested with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from exporters.data import emoji
from exporters.data.backgrounds import make_background
from exporters.data.pictures import as_png, encode_pictures
from exporters.data.scenes import PARTS, SEED
from exporters.data.splits import Rows, Splits
from exporters.provenance import digest_arrays, package_version
from serving.codecs.preprocessing import ImagePreprocessing
from serving.picture_task import PIXELS
from serving.repository.manifest import Data
from serving.tensors import Array

# Blocks of Unicode that hold one kind. Source: https://unicode.org/Public/emoji/latest/emoji-test.txt
KINDS: Final[Mapping[str, tuple[range, ...]]] = {
    "animal": (range(0x1F400, 0x1F43E), range(0x1F980, 0x1F9AE)),
    "food": (range(0x1F32D, 0x1F330), range(0x1F345, 0x1F374), range(0x1F950, 0x1F970)),
    "face": (range(0x1F600, 0x1F638), range(0x1F910, 0x1F918)),
    "vehicle": (range(0x1F681, 0x1F6A4), range(0x1F6F3, 0x1F6FD)),
    "building": (range(0x1F3D7, 0x1F3DC), range(0x1F3DF, 0x1F3E6), range(0x1F3E8, 0x1F3F1)),
    "clothing": (range(0x1F451, 0x1F463), range(0x1F97B, 0x1F980), range(0x1F9E2, 0x1F9E7)),
    "plant": (range(0x1F331, 0x1F336), range(0x1F337, 0x1F345)),
}
MOST: Final = 50  # drawings of a kind
SHARES: Final = {"test": 0.3, "validation": 0.15}
VIEWS: Final = {"train": 6, "validation": 2, "test": 2}  # pictures of one drawing
SIDE: Final = 160  # pixels of a picture
QUICK: Final = 8  # drawings of a kind


def load_emoji_kinds(preprocessing: Mapping[str, Any], *, quick: bool) -> Splits:
    """Pictures of one emoji each, at any angle and size, on any ground; no drawing is in two parts.

    Inputs: pixels uint8 [N, size, size, 3]; targets: int64 [N], the kind. PackageMissing: the font is not here.
    """
    settings = ImagePreprocessing.model_validate(dict(preprocessing))
    files: dict[str, list[bytes]] = {part: [] for part in PARTS}
    targets: dict[str, list[int]] = {part: [] for part in PARTS}
    for kind, blocks in enumerate(KINDS.values()):
        for part, characters in split(drawings(blocks), QUICK if quick else MOST).items():
            for character in characters:
                for view in range(VIEWS[part]):
                    files[part].append(as_png(_picture(character, part, view)))
                    targets[part].append(kind)
    pixels = {part: encode_pictures(files[part], settings) for part in PARTS}
    parts = {part: Rows({PIXELS: pixels[part]}, np.array(targets[part], np.int64)) for part in PARTS}
    card = Data(
        name="kinds of emoji",
        source=f"drawn by tidegate from Debian's {emoji.PACKAGE} and photos of {package_version('scikit-image')}",
        licence="OFL-1.1 (emoji); CC0, public domain and others by photo (scikit-image)",
        digest=digest_arrays([array for rows in parts.values() for array in (rows.inputs[PIXELS], rows.targets)]),
        rows={part: len(rows) for part, rows in parts.items()},
        note="Test rows show drawings that no training row shows.",
    )
    return Splits(card=card, test=parts["test"], train=parts["train"], validation=parts["validation"])


def drawings(blocks: tuple[range, ...]) -> list[str]:
    """The characters of the blocks that the font has a picture of."""
    found = []
    for code in (code for block in blocks for code in block):
        try:
            emoji.glyph(chr(code))
        except ValueError:
            continue
        found.append(chr(code))
    return found


def split(characters: list[str], most: int) -> dict[str, list[str]]:
    """Up to `most` of the characters, dealt out to the parts."""
    order = np.random.default_rng(SEED).permutation(len(characters))[:most]
    test, validation = round(len(order) * SHARES["test"]), round(len(order) * SHARES["validation"])
    places = {"test": order[:test], "validation": order[test : test + validation], "train": order[test + validation :]}
    return {part: [characters[place] for place in places[part]] for part in PARTS}


def _picture(character: str, part: str, view: int) -> Array:
    """The drawing turned and sized at random, near the middle of a ground of its part: uint8 [160, 160, 3]."""
    import PIL.Image

    generator = np.random.default_rng([SEED, PARTS.index(part), ord(character), view])
    ground = make_background(SIDE, part, generator)
    drawing = emoji.glyph(character).rotate(generator.uniform(-20, 20), PIL.Image.Resampling.BICUBIC, expand=True)
    longer = generator.uniform(0.5, 0.95) * SIDE
    width, height = (max(8, round(length * longer / max(drawing.size))) for length in drawing.size)
    small = drawing.resize((width, height), PIL.Image.Resampling.LANCZOS)
    corner = (int(generator.integers(0, SIDE - width + 1)), int(generator.integers(0, SIDE - height + 1)))
    ground.paste(small, corner, small)
    return np.asarray(ground)
