"""Features of one request and of its reply, by what kind of thing they are: numbers, and kinds by their names.

A feature that a request does not have is left out. Features of replies are called reply_..., so that one name means
one thing. All functions are pure, and cheap: a fifth of a millisecond for a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.monitoring.picture_features import picture_features
from serving.monitoring.text_features import text_features
from serving.tensors import Tensors

Features = Mapping[str, float | str]


def request_features(kind: str, payload: bytes, inputs: Tensors) -> dict[str, float | str]:
    """Of a picture by the pixels that the model sees, of a text by its characters, of other kinds none.

    kind: of the payload. inputs: as the task encoded it; pixels are what is uint8 [1, height, width, channels].
    """
    if kind == "text":
        return text_features(payload.decode(errors="replace"))
    pixels = [array for array in inputs.values() if array.dtype == np.uint8 and array.ndim == 4 and array.size]
    return {**picture_features(pixels[0][0])} if pixels else {}


def size_features(width: int, height: int) -> dict[str, float | str]:
    """Of a picture as it was sent: its pixels, and width by height."""
    return {"size": float(width * height), "aspect": width / height}


def row_features(row: Mapping[str, Any]) -> dict[str, float | str]:
    """Of a row of a table, each column by its name: numbers as they are, all else as kinds; `missing_share`: of columns
    without a value (None, an empty text, NaN).
    """
    found: dict[str, float | str] = {}
    for name, value in row.items():
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        found[name] = float(value) if is_number else str(value)
    return {**found, "missing_share": 1 - len(found) / len(row)} if row else {}
