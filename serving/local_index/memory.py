"""The vectors of one space in memory: exact while they are few, HNSW once they are many.

Source of the graph: Y. Malkov and D. Yashunin, https://arxiv.org/abs/1603.09320, as usearch has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from usearch.index import Index

from serving.tensors import Array

# Measured over 100,000 clustered vectors of 384 (docs/decisions/0017-collections.md).
CONNECTIVITY: Final = 32
BREADTH_ADDING: Final = 128
BREADTH_SEARCHING: Final = 96


class Vectors(Protocol):
    """Vectors of length 1 by the revisions of their items."""

    def __len__(self) -> int: ...

    def add(self, revisions: Sequence[int], vectors: Array) -> None:
        """float32 [n, dimensions]."""
        ...

    def remove(self, revisions: Sequence[int]) -> None:
        """Those that are not there are passed over."""
        ...

    def nearest(self, vector: Array, count: int) -> list[int]:
        """The revisions of those nearest to float32 [dimensions], the nearest first."""
        ...


class Exact:
    """All of them, one under the other: float32 [n, dimensions]."""

    def __init__(self, dimensions: int) -> None:
        self._rows = np.empty((64, dimensions), np.float32)
        self._revisions = np.empty(64, np.int64)
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, revisions: Sequence[int], vectors: Array) -> None:
        wanted = len(self) + len(revisions)
        if wanted > len(self._rows):
            more = max(wanted, 2 * len(self._rows))
            self._rows = np.resize(self._rows, (more, self._rows.shape[1]))
            self._revisions = np.resize(self._revisions, more)
        for revision, vector in zip(revisions, vectors, strict=True):
            place = self._places.setdefault(revision, len(self._places))
            self._rows[place], self._revisions[place] = vector, revision

    def remove(self, revisions: Sequence[int]) -> None:
        for revision in revisions:
            if (place := self._places.pop(revision, None)) is None:
                continue
            last = len(self._places)
            if place != last:  # the last one moves into the hole
                moved = int(self._revisions[last])
                self._rows[place], self._revisions[place] = self._rows[last], moved
                self._places[moved] = place

    def nearest(self, vector: Array, count: int) -> list[int]:
        scores = self._rows[: len(self)] @ vector
        best = np.argpartition(-scores, count)[:count] if count < len(scores) else np.arange(len(scores))
        ordered: list[int] = self._revisions[best[np.argsort(-scores[best], kind="stable")]].tolist()
        return ordered


class Graph:
    """A navigable graph; weights of float16, which is half the memory, and is ranked again by whoever has float32."""

    def __init__(self, dimensions: int) -> None:
        self._index: Any = Index(
            ndim=dimensions,
            metric="ip",  # of length 1, all of them: the cosine
            dtype="f16",
            connectivity=CONNECTIVITY,
            expansion_add=BREADTH_ADDING,
            expansion_search=BREADTH_SEARCHING,
        )

    def __len__(self) -> int:
        return len(self._index)

    def add(self, revisions: Sequence[int], vectors: Array, threads: int = 1) -> None:
        if len(revisions):
            self._index.add(np.asarray(revisions, np.uint64), vectors, threads=threads)

    def remove(self, revisions: Sequence[int]) -> None:
        there = [revision for revision in revisions if revision in self._index]
        if there:
            self._index.remove(np.asarray(there, np.uint64))

    def nearest(self, vector: Array, count: int) -> list[int]:
        if not len(self):
            return []
        found: list[int] = self._index.search(vector, count).keys.astype(np.int64).tolist()
        return found
