"""What tasks on pictures share: how the version wants its pixels, and what its classes are called."""

from __future__ import annotations

import base64
from typing import ClassVar, Final, TypeVar

import numpy as np

from serving.codecs.frame import Frame
from serving.codecs.image import Image, open_image
from serving.codecs.preprocessing import ImagePreprocessing
from serving.errors import RepositoryInvalid
from serving.repository.layout import Version
from serving.repository.manifest import Manifest
from serving.task import Parameters, Task, read_preprocessing
from serving.tensors import Tensors

PIXELS: Final = "pixels"

# A grey disc on white, 16 x 16: small enough to stand in the documentation.
EXAMPLE_PNG: Final = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAPUlEQVR42mP8z4AKmBgICbBAqGgGBoalSCqi4QREIBqh"
    b"jIEJwYcwCNuCVWApjLMUpmIpgg/VshQhzEi65wDLigkfxMa9pQAAAABJRU5ErkJggg=="
)

P = TypeVar("P", bound=Parameters)


class PictureTask(Task[P]):
    """A task whose payload is a picture and whose versions have labels."""

    payloads: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        self.labels = _labels(version)
        self.preprocessing = read_preprocessing(version, ImagePreprocessing)

    def view(self, image: Image) -> Tensors:
        """One row of pixels, uint8 [1, height, width, channels]. ImageInvalid for damaged data."""
        return {PIXELS: self.preprocessing.apply(image)[np.newaxis]}

    def frame(self, payload: bytes) -> Frame:
        """Where what the model saw lies on the picture. Reads its header alone."""
        image = open_image(payload)
        return self.preprocessing.frame(image.width, image.height)


def _labels(version: Version) -> tuple[str, ...]:
    manifest: Manifest | None = version.manifest
    file = f"{version.name}/manifest.json"
    if manifest is None or manifest.labels is None:
        raise RepositoryInvalid(file, "labels", "expected the name of a file with one label a line")
    try:
        text = (version.folder / manifest.labels).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        expected = f"expected a file of UTF-8 text beside the manifest; found {manifest.labels!r}"
        raise RepositoryInvalid(file, "labels", expected) from None
    return tuple(text.splitlines())
