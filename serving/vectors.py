"""Vectors that are compared by their angle: what they must be."""

from __future__ import annotations

import numpy as np

from serving.errors import VectorInvalid
from serving.tensors import Array


def unit(rows: Array) -> Array:
    """The rows at length 1, float32 [n, dimensions]. VectorInvalid for one that is not finite or of no length."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise VectorInvalid("A vector is not finite, or of no length.", remedy="Send one with a direction.")
    found: Array = (rows / lengths).astype(np.float32)
    return found


def check_dimensions(rows: Array, wanted: int) -> None:
    """VectorInvalid unless float32 [n, dimensions] has as many as wanted."""
    if rows.shape[1] != wanted:
        detail = f"The vector has {rows.shape[1]} dimensions; those of this space have {wanted}."
        raise VectorInvalid(detail, remedy="Send one of the collection's model.")
