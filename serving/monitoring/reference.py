"""What a version's requests and replies looked like when it was made: of each feature a histogram, a few KB in all.

Edges lie at quantiles of the reference rows, so that each bin holds about as many; where one value is common, it has a
bin of its own. The first and the last bin are open. Kinds are counted by name, the rare ones together as the last bin.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, model_validator

from serving.monitoring.features import Features
from serving.tensors import Array

BINS: Final = 10
BIN_ROWS: Final = 20  # that a bin wants; of fewer rows in all there are fewer bins
LEAST_ROWS: Final = 2 * BIN_ROWS  # that have a feature, or it has no bins
KINDS: Final = 20
KIND_ROWS: Final = 8  # that a kind wants for a bin of its own
MOST_FEATURES: Final = 64  # of requests, and of replies
MOST_NAME: Final = 100  # characters, of a feature and of a kind

Name = Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
Values = Sequence[float | str]


class _Counted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: tuple[NonNegativeInt, ...] = Field(min_length=2, max_length=32)


class Numbers(_Counted):
    """Bins of a number: below and at edges[0], above it up to edges[1], ..., above the last. counts: reference rows."""

    edges: tuple[FiniteFloat, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != len(self.edges) + 1 or any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("expected edges that rise, and one count more than edges")
        return self

    def place(self, value: float | str) -> int | None:
        """The bin of a value; None for what is no finite number."""
        if isinstance(value, str) or not -np.inf < value < np.inf:
            return None
        return bisect_left(self.edges, value)


class Kinds(_Counted):
    """Bins of a kind: those of `kinds`, then all others together."""

    kinds: tuple[Name, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != len(self.kinds) + 1 or len(set(self.kinds)) != len(self.kinds):
            raise ValueError("expected kinds that differ, and one count more than kinds")
        return self

    def place(self, value: float | str) -> int | None:
        """The bin of a kind; None for a number."""
        if not isinstance(value, str):
            return None
        return self.kinds.index(value[:MOST_NAME]) if value[:MOST_NAME] in self.kinds else len(self.kinds)


Bins = Numbers | Kinds


class Reference(BaseModel):
    """Of each feature of requests (`inputs`) and of replies (`outputs`) its bins; rows: that all was counted from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Annotated[int, Field(ge=1)]
    inputs: Mapping[Name, Bins] = Field(default={}, max_length=MOST_FEATURES)
    outputs: Mapping[Name, Bins] = Field(default={}, max_length=MOST_FEATURES)


def columns_of(rows: Iterable[Features]) -> dict[str, list[float | str]]:
    """The values of each feature over the rows that have it."""
    found: dict[str, list[float | str]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return found


def make_reference(rows: int, inputs: Mapping[str, Values], outputs: Mapping[str, Values]) -> Reference:
    """Of the values of each feature over so many rows. Features that too few rows have are left out."""
    made = [
        {name: bins for name, values in list(columns.items())[:MOST_FEATURES] if (bins := make_bins(values))}
        for columns in (inputs, outputs)
    ]
    return Reference(rows=rows, inputs=made[0], outputs=made[1])


def make_bins(values: Values) -> Bins | None:
    """Bins of values that are all numbers or all kinds; None for fewer than LEAST_ROWS."""
    kinds = [value[:MOST_NAME] for value in values if isinstance(value, str)]
    if len(kinds) == len(values) >= LEAST_ROWS:
        return _kinds(kinds)
    numbers = np.array([value for value in values if not isinstance(value, str)], np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return _numbers(numbers) if len(numbers) >= LEAST_ROWS else None


def _kinds(values: Sequence[str]) -> Kinds | None:
    """None where every kind is rare, and nothing could be told apart."""
    counted = Counter(values)
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    common = [(kind, count) for kind, count in ordered if count >= KIND_ROWS and kind][:KINDS]
    others = len(values) - sum(count for _, count in common)
    if not common:
        return None
    return Kinds(kinds=tuple(kind for kind, _ in common), counts=(*(count for _, count in common), others))


def _numbers(values: Array) -> Numbers:
    edges = _edges(values, bins=max(2, min(BINS, len(values) // BIN_ROWS)))
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return Numbers(edges=tuple(edges), counts=tuple(counts.tolist()))


def _edges(values: Array, bins: int) -> list[float]:
    """Between two values of the rows each, so that no rounding moves a value into another bin."""
    known, counts = np.unique(values, return_counts=True)
    wanted = np.arange(1, bins) * len(values) / bins
    ends = np.searchsorted(np.cumsum(counts), wanted, side="left")  # places of the values with which bins end
    common = np.flatnonzero(counts >= len(values) / bins)  # what lies on either side of those is another thing
    places = {*(ends[ends < len(known) - 1].tolist()), *common.tolist(), *(common - 1).tolist()}
    beyond = max(abs(known[0]), abs(known[-1]), 1e-3) * 1e-3
    padded = [known[0] - 2 * beyond, *known, known[-1] + 2 * beyond]
    return sorted({float(f"{(padded[i + 1] + padded[i + 2]) / 2:.6g}") for i in places})
