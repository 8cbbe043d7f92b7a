"""Whether a version on trial is slower than is let pass."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from serving.guard.evidence import NOTHING, Sample, WorseThanLimit, WorseThanOther, mean_evidence, upper_bound
from serving.guard.signal import Finding, Signal
from serving.tensors import Array
from serving.trial import SECONDS, STEPS_A_DOUBLING, Counts, Policy

QUANTILES: Final = (0.5, 0.9, 0.99)
LEAST_BEYOND: Final = 5.0  # answers beyond a quantile before it is one


class Latency(Signal):
    """Whether more of the candidate's answers take longer than `slowdown` times a quantile of the other version's than
    there are of the other's beyond that quantile. A quantile is of the blocks before: none is judged by itself.

    known: what the other version did before the trial, so that its quantiles are known from the first block on.
    """

    name = "latency"

    def __init__(self, policy: Policy, past: Counts | None, known: Counts) -> None:
        super().__init__(policy)
        self._shift = math.ceil(math.log2(policy.slowdown) * STEPS_A_DOUBLING)
        self._candidate = _row(())
        self._other = _row((past or known).seconds)
        self._beside = {} if past is not None else {quantile: WorseThanOther() for quantile in QUANTILES}
        self._limits: dict[float, WorseThanLimit] = {}
        if past is not None:
            chance = self.limited() / len(QUANTILES)
            for quantile in QUANTILES:
                bound = _bound(self._other, quantile)
                beyond = _beyond(self._other, bound) if bound is not None else NOTHING
                self._limits[quantile] = WorseThanLimit(upper_bound(beyond, chance))

    def add(self, candidate: Counts, other: Counts) -> None:
        ours, theirs = _row(candidate.seconds), _row(other.seconds)
        for quantile in QUANTILES:
            bound = _bound(self._other, quantile)
            if bound is None:
                continue
            slow = _beyond(ours, bound + self._shift)
            if quantile in self._limits:
                self._limits[quantile].add(slow)
            else:
                self._beside[quantile].add(slow, _beyond(theirs, bound))
        self._candidate = self._candidate + ours
        if self._beside:
            self._other = self._other + theirs

    def finding(self) -> Finding:
        if not self._candidate.sum() or not self._other.sum():
            return Finding(self.name, None, detail="there is nothing of both versions to compare")
        tests = (self._beside or self._limits).values()
        ours, theirs = _quantile_ms(self._candidate, 0.99), _quantile_ms(self._other, 0.99)
        halves = _quantile_ms(self._candidate, 0.5), _quantile_ms(self._other, 0.5)
        return self.found(
            mean_evidence([test.log_e for test in tests]),
            harmful=True,  # what is let pass is in the tests themselves
            measured=f"{ours:.3g} ms",
            limit=f"{theirs * self.policy.slowdown:.3g} ms",
            detail=f"p99 {ours:.3g} ms beside {theirs:.3g} ms, median {halves[0]:.3g} ms beside {halves[1]:.3g} ms",
        )


def _row(seconds: tuple[int, ...]) -> Array:
    """Counts as they are sent, [bounds + 1]; the last is what lies above all bounds."""
    row = np.zeros(len(SECONDS) + 1)
    row[: len(seconds)] = seconds[: len(row)]
    return row


def _beyond(row: Array, bound: int) -> Sample:
    """How many there are, and how many above the bound of that place."""
    return Sample(float(row.sum()), float(row[bound + 1 :].sum()))


def _bound(row: Array, quantile: float) -> int | None:
    """The place of the bound that this share lies within; None while too few lie beyond it to tell."""
    rows = float(row.sum())
    if rows * (1 - quantile) < LEAST_BEYOND:
        return None
    return int(np.searchsorted(np.cumsum(row), quantile * rows))


def _quantile_ms(row: Array, quantile: float) -> float:
    place = int(np.searchsorted(np.cumsum(row), quantile * float(row.sum())))
    return 1e3 * SECONDS[min(place, len(SECONDS) - 1)]
