"""The bodies that the servers get: what an ordinary client of each would send."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image
import sklearn

from loadtests.bench.tiny_model import SIDE

PHOTO: Final = Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"  # 640 x 427, 192 KiB
JSON: Final = "application/json"
PNG: Final = "image/png"
_BOUNDARY: Final = "tidegate-bench-boundary"
MULTIPART: Final = f"multipart/form-data; boundary={_BOUNDARY}"


def protocol_json() -> bytes:
    """The pixels for the Open Inference Protocol."""
    numbers = _pixels()
    tensor = {"name": "x", "shape": [1, len(numbers)], "datatype": "FP32", "data": numbers}
    return json.dumps({"inputs": [tensor]}).encode()


def plain_json() -> bytes:
    """The pixels for the plain server."""
    return json.dumps({"data": _pixels()}).encode()


def photo_form() -> bytes:
    """The photo as the multipart part `image`."""
    disposition = b'Content-Disposition: form-data; name="image"; filename="china.jpg"'
    head = b"--%s\r\n%s\r\nContent-Type: image/jpeg\r\n\r\n" % (_BOUNDARY.encode(), disposition)
    return b"%s%s\r\n--%s--\r\n" % (head, PHOTO.read_bytes(), _BOUNDARY.encode())


def small_png() -> bytes:
    """The photo in grey and small, as a file."""
    file = io.BytesIO()
    with PIL.Image.open(PHOTO) as photo:
        photo.convert("L").resize((SIDE, SIDE)).save(file, "PNG")
    return file.getvalue()


def _pixels() -> list[float]:
    """The photo in grey and small, as `(image / 255).tolist()` gives it: up to 18 digits a number."""
    with PIL.Image.open(PHOTO) as photo:
        image = np.asarray(photo.convert("L").resize((SIDE, SIDE)))
    numbers: list[float] = (image / 255).ravel().tolist()
    return numbers
