"""Vectors as embeddings lie: in clusters. And what is truly nearest to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def clustered(count: int, dimensions: int, seed: int, *, clusters: int = 1000, spread: float = 0.7) -> Vectors:
    """float32 [count, dimensions] of length 1 around centres of length 1.

    spread: the length of the noise that is put on a centre, which is 1 long.
    """
    chance = np.random.default_rng(seed)
    centres = _unit(np.random.default_rng(0).normal(size=(clusters, dimensions)).astype(np.float32))
    noise = chance.normal(size=(count, dimensions)).astype(np.float32) * np.float32(spread / dimensions**0.5)
    return _unit(centres[chance.integers(clusters, size=count)] + noise)


def nearest(vectors: Vectors, queries: Vectors, k: int) -> npt.NDArray[np.int64]:
    """The rows nearest to each query by cosine, the nearest first: int64 [queries, k], by looking at all of them."""
    scores = queries @ vectors.T
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    found: npt.NDArray[np.int64] = np.take_along_axis(best, order, axis=1)
    return found


def recall(found: list[list[int]], truth: npt.NDArray[np.int64]) -> float:
    """The share of the true neighbours that were found."""
    return sum(len(set(one) & set(true)) for one, true in zip(found, truth.tolist(), strict=True)) / truth.size


def _unit(rows: Vectors) -> Vectors:
    found: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found
