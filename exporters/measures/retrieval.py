"""How often what belongs together is found together."""

from __future__ import annotations

import numpy as np

from serving.tensors import Array


def recall_at(k: int, queries: Array, found: Array, truth: Array) -> float:
    """The share of queries whose own row is among the `k` nearest; rows as near as it stand before it.

    queries: float32 [N, D]; found: float32 [M, D], both of length 1; truth: int64 [N], the row of each query.
    """
    scores = queries @ found.T
    own = np.take_along_axis(scores, truth[:, np.newaxis], axis=1)
    return float(((scores >= own).sum(axis=1) <= k).mean())
