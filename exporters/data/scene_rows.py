"""Emoji scenes as rows to train on: pixels as the model sees them, and what should come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from exporters.data import backgrounds, emoji
from exporters.data.pictures import as_png, encode_pictures
from exporters.data.scenes import MOST, PARTS, SIDE, Scene, make_scene
from exporters.data.splits import Rows, Splits
from exporters.provenance import digest_arrays, package_version
from serving.codecs.preprocessing import ImagePreprocessing
from serving.picture_task import PIXELS
from serving.repository.manifest import Data
from serving.tensors import Array

COUNTS: Final = {"train": 10_000, "validation": 500, "test": 1_000}
QUICK: Final = {"train": 160, "validation": 40, "test": 40}
FEW: Final = 100  # scenes for which no further process is worth its start
LICENCE: Final = "OFL-1.1 (emoji); CC0, public domain and others by photo (scikit-image)"

Row = tuple[Array, Array]  # a scene's pixels and its target
Target = Callable[[Scene, int], Array]  # of a scene, for a model that sees so many pixels


def load_scenes(preprocessing: Mapping[str, Any], target: Target, *, quick: bool) -> Splits:
    """10,000 scenes to train, 500 to validate, 1,000 to test, or a quick few; no photo is a ground in two parts.

    Inputs: pixels uint8 [N, size, size, 3], each through a PNG file of the whole scene. PackageMissing: the font or
    the photos are not here. target: a plain function, for it is also called in other processes.
    """
    settings = ImagePreprocessing.model_validate(dict(preprocessing))
    counts = QUICK if quick else COUNTS
    make = partial(_row, settings=settings, target=target)
    parts = {}
    for part in PARTS:
        pixels, targets = zip(*_each(partial(make, part), counts[part]), strict=True)
        parts[part] = Rows({PIXELS: np.stack(pixels)}, np.stack(targets))
    card = Data(
        name="emoji scenes",
        source=f"drawn by tidegate from Debian's {emoji.PACKAGE} and photos of {package_version('scikit-image')}",
        licence=LICENCE,
        digest=digest_arrays([array for rows in parts.values() for array in (rows.inputs[PIXELS], rows.targets)]),
        rows={part: len(rows) for part, rows in parts.items()},
        note=f"{len(emoji.NAMES)} things; photos of the test: {', '.join(backgrounds.PHOTOS['test'])}.",
    )
    return Splits(card=card, test=parts["test"], train=parts["train"], validation=parts["validation"])


def held_out_scenes(preprocessing: Mapping[str, Any]) -> Array:
    """The pixels of the test rows alone, as load_scenes has them: a tenth of the work."""
    settings = ImagePreprocessing.model_validate(dict(preprocessing))
    make = partial(_row, "test", settings=settings, target=padded_boxes)
    return np.stack([pixels for pixels, _ in _each(make, COUNTS["test"])])


def padded_boxes(scene: Scene, size: int) -> Array:
    """float32 [4, 5]: class, xmin, ymin, xmax, ymax in the model's pixels; class -1 where there is no more."""
    found = np.full((MOST, 5), -1, np.float32)
    found[: len(scene.boxes), 0] = scene.class_ids
    found[: len(scene.boxes), 1:] = scene.boxes * (size / SIDE)
    return found


def small_class_map(scene: Scene, size: int) -> Array:
    """uint8 [size, size]: the class map at the middles of the model's pixels. `size` divides the scene's side."""
    step = SIDE // size
    return scene.class_map[step // 2 :: step, step // 2 :: step]


def _row(part: str, number: int, *, settings: ImagePreprocessing, target: Target) -> Row:
    scene = make_scene(part, number)
    return encode_pictures([as_png(scene.pixels)], settings)[0], target(scene, settings.size)


def _each(make: Callable[[int], Row], count: int) -> Iterator[Row]:
    """The rows in order, made by as many processes as there are cores."""
    from joblib import Parallel, delayed

    workers = Parallel(n_jobs=1 if count <= FEW else -1, batch_size=32, return_as="generator")
    yield from workers(delayed(make)(number) for number in range(count))
