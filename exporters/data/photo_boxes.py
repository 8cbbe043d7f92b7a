"""Photos inside installed packages that show something COCO has a name for, and where it is on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from exporters.data.coco import COCO_LABELS
from exporters.data.photos import Photo, card, photo_size, read_photos
from exporters.data.splits import HeldOut, Rows
from serving.picture_task import PIXELS

PERSON: Final = COCO_LABELS.index("person")
MOTORCYCLE: Final = COCO_LABELS.index("motorcycle")
CUP: Final = COCO_LABELS.index("cup")


class Boxed(NamedTuple):
    """A photo with one thing, the first of its classes, and the box around it: xmin, ymin, xmax, ymax in pixels."""

    photo: Photo
    box: tuple[int, int, int, int]


CAMERA: Final = Photo(("skimage", "data", "camera.png"), "person", (PERSON,), "CC0, Lav Varshney")
ASTRONAUT: Final = Photo(("skimage", "data", "astronaut.png"), "person", (PERSON,), "public domain, NASA")
COFFEE: Final = Photo(("skimage", "data", "coffee.png"), "cup", (CUP,), "CC0, Rachel Michetti")
MOTORCYCLE_LEFT: Final = Photo(
    ("skimage", "data", "motorcycle_left.png"),
    "motorcycle",
    (MOTORCYCLE,),
    "no licence stated, Middlebury 2014 stereo data set by D. Scharstein et al.",
)

# The boxes are those that NanoDet-g's original graph gives, run by another converter and engine, and were then looked
# at on the photos. The first photos are free of any condition: they may become golden rows.
BOXES: Final = (
    Boxed(CAMERA, (3, 68, 320, 512)),
    Boxed(COFFEE, (140, 11, 427, 398)),
    Boxed(ASTRONAUT, (15, 14, 364, 507)),
    Boxed(MOTORCYCLE_LEFT, (106, 77, 688, 454)),
)


def load_photo_boxes(preprocessing: Mapping[str, Any], note: str) -> HeldOut:
    """Inputs: pixels uint8 [4, size, size, channels], of squeezed photos. Targets: float32 [4, 5], the class and the
    box in pixels of the squeezed photo.

    PackageMissing: scikit-image is not installed.
    """
    photos = [boxed.photo for boxed in BOXES]
    pixels = read_photos(photos, preprocessing)
    sizes = np.array([photo_size(photo) * 2 for photo in photos])
    boxes = np.array([boxed.box for boxed in BOXES]) / sizes * preprocessing["size"]
    classes = np.array([photo.classes[:1] for photo in photos])
    targets = np.concatenate([classes, boxes], axis=1).astype(np.float32)
    return HeldOut(card(photos, note), Rows({PIXELS: pixels}, targets))
