"""Photos inside installed packages that show one of ImageNet's classes: to see that a conversion went right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from exporters.data.pictures import encode_pictures
from exporters.data.splits import HeldOut, Rows
from exporters.provenance import digest_arrays, package_file, package_version
from serving.codecs.preprocessing import ImagePreprocessing
from serving.repository.manifest import Data
from serving.tasks.classify import PIXELS


class Photo(NamedTuple):
    """A picture file in a package, the classes that are right for it, and under what it may be passed on."""

    path: tuple[str, ...]
    shows: str
    classes: tuple[int, ...]
    licence: str


# The first ones become golden rows, which are published: they are free of any condition.
PHOTOS: Final = (
    Photo(("skimage", "data", "coffee.png"), "espresso", (967,), "CC0, Rachel Michetti"),
    Photo(("skimage", "data", "chelsea.png"), "cat", (281, 282, 285), "CC0, Stefan van der Walt"),
    Photo(("skimage", "data", "rocket.jpg"), "missile", (657, 744), "public domain, SpaceX"),
    Photo(("skimage", "data", "camera.png"), "tripod", (872,), "CC0, Lav Varshney"),
    Photo(("sklearn", "datasets", "images", "flower.jpg"), "daisy", (985,), "CC-BY-2.0, vultilion"),
    Photo(("sklearn", "datasets", "images", "china.jpg"), "palace", (698,), "CC-BY-2.0, danielbuechele"),
)
CLASSES: Final = 1000


def load_photos(preprocessing: Mapping[str, Any], note: str) -> HeldOut:
    """The photos. Inputs: pixels uint8 [6, size, size, channels]; targets: bool [6, 1000], true for the classes
    that are right.

    PackageMissing: scikit-image or scikit-learn is not installed.
    """
    files = [package_file(*photo.path).read_bytes() for photo in PHOTOS]
    pixels = encode_pictures(files, ImagePreprocessing.model_validate(dict(preprocessing)))
    targets = np.zeros((len(PHOTOS), CLASSES), np.bool_)
    for row, photo in enumerate(PHOTOS):
        targets[row, list(photo.classes)] = True
    shows = ", ".join(f"{photo.path[-1]} ({photo.shows}; {photo.licence})" for photo in PHOTOS)
    card = Data(
        name="sample photos",
        source=f"{package_version('scikit-image')} and {package_version('scikit-learn')}: {shows}",
        licence="CC0-1.0, public domain and CC-BY-2.0, by photo",
        digest=digest_arrays([np.frombuffer(file, np.uint8) for file in files]),
        rows={"test": len(targets)},
        note=note,
    )
    return HeldOut(card, Rows({PIXELS: pixels}, targets))
