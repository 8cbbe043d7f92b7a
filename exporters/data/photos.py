"""Photos inside installed packages: to see that a conversion went right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from exporters.data.pictures import encode_pictures
from exporters.data.splits import HeldOut, Rows
from exporters.provenance import digest_arrays, package_file, package_version
from serving.codecs.image import open_image
from serving.codecs.preprocessing import ImagePreprocessing
from serving.picture_task import PIXELS
from serving.repository.manifest import Data
from serving.tensors import Array


class Photo(NamedTuple):
    """A picture file in a package, the classes that are right for it, and under what it may be passed on: first the
    licence, then who made it.
    """

    path: tuple[str, ...]
    shows: str
    classes: tuple[int, ...]
    licence: str


# Each shows one of ImageNet's classes. The first ones become golden rows, which are published: they are free of any
# condition.
PHOTOS: Final = (
    Photo(("skimage", "data", "coffee.png"), "espresso", (967,), "CC0, Rachel Michetti"),
    Photo(("skimage", "data", "chelsea.png"), "cat", (281, 282, 285), "CC0, Stefan van der Walt"),
    Photo(("skimage", "data", "rocket.jpg"), "missile", (657, 744), "public domain, SpaceX"),
    Photo(("skimage", "data", "camera.png"), "tripod", (872,), "CC0, Lav Varshney"),
    Photo(("sklearn", "datasets", "images", "flower.jpg"), "daisy", (985,), "CC-BY-2.0, vultilion"),
    Photo(("sklearn", "datasets", "images", "china.jpg"), "palace", (698,), "CC-BY-2.0, danielbuechele"),
)
CLASSES: Final = 1000
DISTRIBUTIONS: Final = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def load_photos(preprocessing: Mapping[str, Any], note: str) -> HeldOut:
    """The photos. Inputs: pixels uint8 [6, size, size, channels]; targets: bool [6, 1000], true for the classes
    that are right.

    PackageMissing: scikit-image or scikit-learn is not installed.
    """
    targets = np.zeros((len(PHOTOS), CLASSES), np.bool_)
    for row, photo in enumerate(PHOTOS):
        targets[row, list(photo.classes)] = True
    return HeldOut(card(PHOTOS, note), Rows({PIXELS: read_photos(PHOTOS, preprocessing)}, targets))


def read_photos(photos: Sequence[Photo], preprocessing: Mapping[str, Any]) -> Array:
    """What a model sees of them: uint8 [photos, size, size, channels]. PackageMissing: they are not installed."""
    return encode_pictures(map(_content, photos), ImagePreprocessing.model_validate(dict(preprocessing)))


def photo_size(photo: Photo) -> tuple[int, int]:
    """Its width and height. PackageMissing: it is not installed."""
    image = open_image(_content(photo))
    return image.width, image.height


def card(photos: Sequence[Photo], note: str) -> Data:
    """What a manifest says of the photos, with a digest of their files. PackageMissing: they are not installed."""
    shows = ", ".join(f"{photo.path[-1]} ({photo.shows}; {photo.licence})" for photo in photos)
    distributions = sorted({DISTRIBUTIONS[photo.path[0]] for photo in photos})
    licences = ", ".join(sorted({photo.licence.split(",")[0] for photo in photos}))
    return Data(
        name="sample photos",
        source=f"{' and '.join(map(package_version, distributions))}: {shows}",
        licence=f"{licences}; by photo",
        digest=digest_arrays([np.frombuffer(_content(photo), np.uint8) for photo in photos]),
        rows={"test": len(photos)},
        note=note,
    )


def _content(photo: Photo) -> bytes:
    return package_file(*photo.path).read_bytes()
