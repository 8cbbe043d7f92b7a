"""Requests by the time at which they were due: what the plots show, as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.outcome import Outcome
from loadtests.summary import percentile

BINS: Final = 60  # at most; of a second or longer, so that a percentile has something to be of


@dataclass(frozen=True, slots=True)
class Bins:
    """Requests in equal parts of the time. width_s: of one; middles_s: where they stand."""

    width_s: float
    middles_s: Sequence[float]
    groups: Sequence[Sequence[Outcome]]

    def latency_s(self, share: float) -> list[float]:
        """A percentile of what was answered, nan where nothing was."""
        ordered = [sorted(one.latency_s for one in group if one.answered) for group in self.groups]
        return [percentile(some, share) if some else math.nan for some in ordered]

    def rate(self, counts: Callable[[Outcome], bool]) -> list[float]:
        """How many a second."""
        return [sum(map(counts, group)) / self.width_s for group in self.groups]

    def rates_by(self, name: Callable[[Outcome], str]) -> Mapping[str, list[float]]:
        """The same by name, those without left out; the most frequent first."""
        totals: dict[str, int] = {}
        for group in self.groups:
            for one in group:
                if found := name(one):
                    totals[found] = totals.get(found, 0) + 1
        ranked = sorted(totals, key=lambda found: -totals[found])
        return {found: self.rate(lambda one, found=found: name(one) == found) for found in ranked}  # type: ignore[misc]


def binned(outcomes: Sequence[Outcome], seconds: float) -> Bins:
    """All of the time that load was offered."""
    width_s = max(1.0, seconds / BINS)
    count = max(1, math.ceil(seconds / width_s))
    groups: list[list[Outcome]] = [[] for _ in range(count)]
    for one in outcomes:
        groups[min(count - 1, int(one.due_s / width_s))].append(one)
    return Bins(width_s, [(i + 0.5) * width_s for i in range(count)], groups)
