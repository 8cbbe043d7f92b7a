"""Whether a version on trial gets other inputs than the one beside it."""

from __future__ import annotations

from typing import Final

import numpy as np

from serving.guard.evidence import OtherKind, mean_evidence
from serving.guard.signal import Finding, Signal
from serving.monitoring.drift import psi
from serving.tensors import Array
from serving.trial import BINS, Counts, Policy

LEAST_ROWS: Final = 50  # of a feature, on both sides, before anybody is told that it drifted


class Drift(Signal):
    """Features of the inputs that fall into other bins than those of the other version's."""

    name = "drift"

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._tests: dict[str, OtherKind] = {}

    def add(self, candidate: Counts, other: Counts) -> None:
        for name in candidate.features.keys() & other.features.keys():
            ours, theirs = candidate.features[name], other.features[name]
            test = self._tests.setdefault(name, OtherKind.of(max(len(ours), len(theirs))))
            bins = len(test.candidate)
            test.add(_row(ours, bins), _row(theirs, bins))

    def finding(self) -> Finding:
        seen = [(psi(test.other, test.candidate), name) for name, test in self._tests.items() if _enough(test)]
        if not seen:
            return Finding(self.name, None, detail="too few inputs were looked at")
        index, name = max(seen)
        test = self._tests[name]
        return self.found(
            mean_evidence([one.log_e for one in self._tests.values()]),
            harmful=index > self.policy.drift,
            measured=f"PSI {index:.2f}",
            limit=f"PSI {self.policy.drift:.2f}",
            detail=f"{name.partition(BINS)[0]} of {test.candidate.sum():,.0f} inputs, "
            f"beside {test.other.sum():,.0f} of the other's",
        )


def _enough(test: OtherKind) -> bool:
    return min(float(test.candidate.sum()), float(test.other.sum())) >= LEAST_ROWS


def _row(counts: tuple[int, ...], bins: int) -> Array:
    row = np.zeros(bins)
    row[: len(counts)] = counts[:bins]
    return row
