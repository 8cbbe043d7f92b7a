import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage
import sklearn

_PHOTOS = {
    "rocket": Path(skimage.__file__).parent / "data" / "rocket.jpg",
    "china": Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg",
    "flower": Path(sklearn.__file__).parent / "datasets" / "images" / "flower.jpg",
}


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """A picture as a file of some format, with Pillow's options for it."""

    def encoded(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    return encoded


@pytest.fixture(scope="session")
def photo() -> Callable[[str], bytes]:
    return lambda name: _PHOTOS[name].read_bytes()


@pytest.fixture(scope="session")
def noise() -> Callable[..., PIL.Image.Image]:
    """Reproducible RGB noise: any pixel that is moved or lost shows."""

    def drawn(width: int, height: int) -> PIL.Image.Image:
        pixels = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return PIL.Image.fromarray(pixels)

    return drawn


@pytest.fixture(scope="session")
def smooth() -> Callable[..., PIL.Image.Image]:
    """Lopsided waves that JPEG keeps nearly unharmed."""

    def drawn(width: int, height: int) -> PIL.Image.Image:
        y, x = np.mgrid[:height, :width] / max(width, height)
        waves = [x, y, (x + 2 * y) / 3]
        return PIL.Image.fromarray((np.stack(waves, axis=2) * 230).astype(np.uint8))

    return drawn
