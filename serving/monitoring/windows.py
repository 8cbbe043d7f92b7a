"""The latest requests of a version, kept as counts by bin: memory is bounded, and windows of one layout add up.

Time is a number that callers give.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from serving.monitoring.features import Features
from serving.monitoring.reference import Bins
from serving.tensors import Array

ROWS: Final = 1000
BLOCKS: Final = 10  # that a window is made of; the oldest goes as a whole
AGE_S: Final = 6 * 3600.0  # what is older is forgotten, however few have come since


class Layout:
    """The bins of all features behind one another, so that a window is one row of counts."""

    def __init__(self, bins: Mapping[str, Bins]) -> None:
        self.bins = dict(bins)
        sizes = [len(one.counts) for one in self.bins.values()]
        self.size = sum(sizes)
        stops = np.cumsum(sizes).tolist()
        self._slices = {
            name: slice(stop - size, stop) for name, size, stop in zip(self.bins, sizes, stops, strict=True)
        }
        edges = "\n".join(f"{name} {one.model_dump_json(exclude={'counts'})}" for name, one in self.bins.items())
        self.fingerprint = hashlib.blake2b(edges.encode(), digest_size=6).hexdigest()  # of names and bins, not counts

    def places(self, features: Features) -> list[int]:
        """Where a request counts. Features without bins, and values that fit none, count nowhere."""
        found: list[int] = []
        for name, value in features.items():
            bins = self.bins.get(name)
            place = bins.place(value) if bins else None
            if place is not None:
                found.append(self._slices[name].start + place)
        return found

    def split(self, counts: Array) -> dict[str, Array]:
        """Counts [size] by feature."""
        return {name: counts[part] for name, part in self._slices.items()}

    def empty(self) -> Array:
        """Counts of nothing, int64 [size]."""
        return np.zeros(self.size, np.int64)


@dataclass(slots=True)
class _Block:
    began_s: float
    counts: Array
    rows: int = 0


class Window:
    """The latest ROWS requests, a block's worth less at times, none of them older than AGE_S."""

    def __init__(self, layout: Layout, rows: int = ROWS, blocks: int = BLOCKS, age_s: float = AGE_S) -> None:
        self.layout = layout
        self._block_rows, self._block_s, self._age_s = rows // blocks, age_s / blocks, age_s
        self._blocks: deque[_Block] = deque(maxlen=blocks)

    def add(self, places: list[int], now_s: float) -> None:
        """Counts a request by its places in the layout, each at most once."""
        self._forget(now_s)
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.rows >= self._block_rows or now_s - last.began_s > self._block_s:
            last = _Block(now_s, self.layout.empty())
            self._blocks.append(last)
        last.counts[places] += 1
        last.rows += 1

    def counts(self, now_s: float) -> Array:
        """int64 [size]."""
        self._forget(now_s)
        return sum((block.counts for block in self._blocks), start=self.layout.empty())

    def rows(self, now_s: float) -> int:
        """How many requests it holds."""
        self._forget(now_s)
        return sum(block.rows for block in self._blocks)

    def _forget(self, now_s: float) -> None:
        while self._blocks and now_s - self._blocks[0].began_s > self._age_s:
            self._blocks.popleft()
