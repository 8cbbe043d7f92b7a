"""Evidence against a version on trial that may be looked at after every block, as often as anybody likes. All is pure.

Each test keeps an e-process: a non-negative number, here its natural logarithm, whose expectation is at most 1 at any
stopping time while the version is no worse. So the chance that it ever reaches 1/a is at most a, however often it is
looked at (Ville's inequality). Sources: Ramdas, Gruenwald, Vovk, Shafer, https://arxiv.org/abs/2210.01948
(e-processes); Turner, Ly, Gruenwald, https://arxiv.org/abs/2106.02693 (two samples, in blocks); Waudby-Smith, Ramdas,
https://arxiv.org/abs/2010.09686 (means of bounded values).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from serving.tensors import Array

# How much worse a version may be, in parts of what the other one still gets right; which it is nobody knows before, so
# the evidence is the weighted mean over all of them: a harm costs no more than the logarithm of its weight.
HARMS: Final = (0.005, 0.02, 0.08, 0.3, 0.9)
WEIGHTS: Final = (0.1, 0.4, 0.25, 0.15, 0.1)  # most where the time is short: a rare harm takes the longest to find
TIMID: Final = 1e-9
GUESS_ROWS: Final = 30.0  # that a guess of how the other one does is worth
WARY_ROWS: Final = 100.0
PRIOR_BIN_ROWS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How many rows were judged, and how much of them was bad: the sum of their badness, each from 0 to 1."""

    rows: float
    bad: float

    @property
    def share(self) -> float:
        """Of what is bad; 0 of no rows."""
        return self.bad / self.rows if self.rows else 0.0


NOTHING: Final = Sample(0.0, 0.0)


@dataclass(slots=True)
class WorseThanOther:
    """Against: the candidate is bad no more often than the other version, both seen at the same time.

    In each block both chances may be what they like, as long as the candidate's is not the larger one. guess: of how
    often the other's is; a bad one costs evidence, so half of it is put aside until WARY_ROWS were seen,
    unless it is known.
    """

    guess: float = 0.003
    known: bool = False
    candidate: Sample = NOTHING
    other: Sample = NOTHING
    _logs: Array = field(default_factory=lambda: np.zeros((2, len(HARMS))))

    @property
    def log_e(self) -> float:
        """The evidence so far, as a natural logarithm."""
        return _weighed(self._logs)

    def add(self, candidate: Sample, other: Sample) -> None:
        """One block. What it is bet on comes from the blocks before alone."""
        if candidate.rows and other.rows:
            bad = (self.other.bad + GUESS_ROWS * self.guess) / (self.other.rows + GUESS_ROWS)
            ours = np.clip(bad + np.asarray(HARMS) * (1 - bad), TIMID, 1 - TIMID)
            theirs = min(max(bad, TIMID), 1 - TIMID)
            both = (candidate.rows * ours + other.rows * theirs) / (candidate.rows + other.rows)
            gained = _log_ratio(candidate, ours, both) + _log_ratio(other, np.full_like(ours, theirs), both)
            bold = np.array([[1.0], [float(self.known or self.other.rows >= WARY_ROWS)]])
            self._logs = self._logs + bold * gained
        self.candidate, self.other = together(self.candidate, candidate), together(self.other, other)


@dataclass(slots=True)
class WorseThanLimit:
    """Against: the candidate is bad with a chance of `limit` at most."""

    limit: float
    candidate: Sample = NOTHING
    _logs: Array = field(default_factory=lambda: np.zeros(len(HARMS)))

    @property
    def log_e(self) -> float:
        """The evidence so far, as a natural logarithm."""
        return _weighed(self._logs)

    def add(self, candidate: Sample) -> None:
        """One block."""
        limit = min(max(self.limit, TIMID), 1 - TIMID)
        ours = np.clip(limit + np.asarray(HARMS) * (1 - limit), TIMID, 1 - TIMID)
        self._logs = self._logs + _log_ratio(candidate, ours, np.full_like(ours, limit))
        self.candidate = together(self.candidate, candidate)


@dataclass(slots=True)
class OtherKind:
    """Against: what both get is of one kind, by the bins it falls into. Counts: [bins], of one block."""

    candidate: Array
    other: Array
    log_e: float = 0.0

    @classmethod
    def of(cls, bins: int) -> OtherKind:
        """With nothing seen yet."""
        return cls(np.zeros(bins), np.zeros(bins))

    def add(self, candidate: Array, other: Array) -> None:
        """One block. It is bet that each goes on as it was; that they are one, as long as little was seen."""
        rows, others = float(candidate.sum()), float(other.sum())
        if rows and others:
            together = self.candidate + self.other + 0.5
            together = together / together.sum()
            ours = _shares(self.candidate, together)
            theirs = _shares(self.other, together)
            both = (rows * ours + others * theirs) / (rows + others)
            self.log_e += float(candidate @ np.log(ours / both) + other @ np.log(theirs / both))
        self.candidate, self.other = self.candidate + candidate, self.other + other


def together(one: Sample, other: Sample) -> Sample:
    """Both."""
    return Sample(one.rows + other.rows, one.bad + other.bad)


def upper_bound(past: Sample, chance: float) -> float:
    """What the chance of the bad lies below, but for one case in 1/`chance`, by what was seen of it: the largest p with
    rows * KL(share, p) <= log(1/chance). Chernoff's bound, which holds for values between 0 and 1 too; 1 of no rows.
    """
    if not past.rows:
        return 1.0
    low, high = past.share, 1.0
    allowed = math.log(1 / chance) / past.rows
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(past.share, middle) <= allowed else (low, middle)
    return high


def mean_evidence(logs: Sequence[float]) -> float:
    """Of several tests as one: the mean of e-processes is one. Natural logarithms; 0 of none."""
    return _log_mean(np.asarray(logs)) if len(logs) else 0.0


def with_groups(log_e: float, groups: Sequence[float], most: int) -> float:
    """The evidence of all rows, and that of their groups, half and half. Groups that are not there yet count as 1, so
    that `most` of them may come.
    """
    rest = [*groups, *[0.0] * max(0, most - len(groups))]
    return mean_evidence([log_e, mean_evidence(rest)])


def _log_ratio(sample: Sample, ours: Array, null: Array) -> Array:
    """Of the likelihoods, [harms]. For badness between 0 and 1 it is below that of chances of all or nothing."""
    ratio: Array = sample.bad * np.log(ours / null) + (sample.rows - sample.bad) * np.log((1 - ours) / (1 - null))
    return ratio


def _shares(seen: Array, guess: Array) -> Array:
    shares: Array = (seen + PRIOR_BIN_ROWS * guess) / (seen.sum() + PRIOR_BIN_ROWS)
    return shares


def _weighed(logs: Array) -> float:
    """Of bets on all HARMS, [..., harms], as one."""
    return _log_mean(logs + np.log(WEIGHTS) + math.log(len(WEIGHTS)))


def _log_mean(logs: Array) -> float:
    highest = float(logs.max())
    return highest + math.log(float(np.mean(np.exp(logs - highest))))


def _divergence(share: float, other: float) -> float:
    """Of one chance from another, Kullback and Leibler's, in nats."""
    if other >= 1.0:
        return math.inf if share < 1.0 else 0.0
    first = share * math.log(share / other) if share else 0.0
    rest = (1 - share) * math.log((1 - share) / (1 - other)) if share < 1 else 0.0
    return first + rest
