"""One space as this process follows it, and the search in it. For one thread, but for building the graph."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from typing import Final

import numpy as np

from serving.filters import Filter
from serving.index import Hit
from serving.local_index import rows, tables
from serving.local_index.memory import Exact, Graph, Vectors
from serving.local_index.rows import Extent, Row
from serving.tensors import Array

MANY: Final = 10_000  # vectors from which on a graph is worth being built; exact search of fewer takes under 2 ms
LEAST_ASKED: Final = 32  # neighbours, of which the best are ranked again
SPARE: Final = 8  # times as many neighbours as are wanted, where a filter will drop some
BATCH: Final = 4096


class Space:
    """Follows one space of the tables. threads: that build the graph; many: from how many vectors on."""

    def __init__(self, here: int, version: int, extent: Extent, *, threads: int, many: int = MANY) -> None:
        self.born = extent.born
        self._here = here
        self._version = version
        self._dimensions = extent.dimensions
        self._threads = threads
        self._many = many
        self._vectors: Vectors = Exact(extent.dimensions)
        self._followed = 0
        self._building: threading.Thread | None = None
        self._built: tuple[Graph, int] | None = None  # and the revision that it has followed to
        self._stopped = False

    @property
    def exact(self) -> bool:
        """Whether there is no graph yet."""
        return isinstance(self._vectors, Exact)

    def stop(self) -> None:
        """Gives up on a graph that is being built."""
        self._stopped = True

    def follow(self, at: sqlite3.Connection, newest: int) -> None:
        """Takes in what has changed up to the newest revision."""
        if self._built is not None:
            (self._vectors, self._followed), self._built, self._building = self._built, None, None
        if newest - self._followed > rows.REMEMBERED:
            self._vectors, self._followed = Exact(self._dimensions), 0
        if newest > self._followed:
            for batch in _in_batches(list(rows.filled_after(at, self._here, self._version, self._followed))):
                self._vectors.add([row.revision for row in batch], _matrix(batch))
            self._vectors.remove(rows.gone_after(at, self._here, self._followed))
            self._followed = newest
        if self.exact and self._building is None and len(self._vectors) >= self._many:
            self._build(at)

    def search(self, at: sqlite3.Connection, vector: Array, k: int, condition: Filter | None) -> list[Hit]:
        """As Index.search, of a vector of length 1."""
        if condition is None:
            near = self._vectors.nearest(vector, max(k, min(2 * k, k + LEAST_ASKED)))
            return self._ranked(at, near, vector, k, None)
        near = self._vectors.nearest(vector, max(LEAST_ASKED, SPARE * k))
        hits = self._ranked(at, near, vector, k, condition)
        if len(hits) == k or len(near) == len(self._vectors):
            return hits
        everything = tables.all_metadata(at, self._here)
        matching = [revision for revision, metadata in everything if condition.matches(metadata)]
        return self._ranked(at, matching, vector, k, None)

    def _ranked(
        self, at: sqlite3.Connection, revisions: Sequence[int], vector: Array, k: int, condition: Filter | None
    ) -> list[Hit]:
        """The best k of these, by the vectors that the tables have of them."""
        items = tables.found(at, revisions)
        left = [one for one, item in items.items() if condition is None or condition.matches(item.metadata)]
        kept, vectors = rows.vectors_of(at, self._here, self._version, left)
        if not kept:
            return []
        scores = (vectors @ vector).tolist()
        hits = [Hit(items[one].ident, score, items[one].metadata) for one, score in zip(kept, scores, strict=True)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]

    def _build(self, at: sqlite3.Connection) -> None:
        present = list(rows.filled_after(at, self._here, self._version, 0))
        followed = self._followed

        def build() -> None:
            graph = Graph(self._dimensions)
            for batch in _in_batches(present):
                if self._stopped:
                    return
                graph.add([row.revision for row in batch], _matrix(batch), self._threads)
            self._built = graph, followed

        self._building = threading.Thread(target=build, name=f"graph {self._here}/{self._version}", daemon=True)
        self._building.start()


def _in_batches(whole: list[Row]) -> list[list[Row]]:
    return [whole[i : i + BATCH] for i in range(0, len(whole), BATCH)]


def _matrix(batch: Sequence[Row]) -> Array:
    return np.frombuffer(b"".join(row.vector for row in batch), np.float32).reshape(len(batch), -1)
