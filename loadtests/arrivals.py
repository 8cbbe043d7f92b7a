"""When requests are due: a Poisson process, whose rate goes up and down by phases.

Arrivals do not wait for answers. A closed loop hides queueing: its callers wait, so an overloaded server is asked less,
and what it would have answered late is never asked (coordinated omission).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """So many seconds, over which the rate goes evenly from `first` to `last` requests a second."""

    seconds: float
    first: float
    last: float

    @property
    def expected(self) -> float:
        """Requests due in it, on average."""
        return self.seconds * (self.first + self.last) / 2

    def when(self, count: float) -> float:
        """Seconds into the phase by which `count` of them are due on average."""
        if math.isclose(self.first, self.last):
            return count / self.last if self.last else self.seconds
        slope = (self.last - self.first) / self.seconds
        return (math.sqrt(max(0.0, self.first**2 + 2 * slope * count)) - self.first) / slope


def constant(rate: float, seconds: float) -> tuple[Phase, ...]:
    """One phase of one rate."""
    return (Phase(seconds, rate, rate),)


def length_s(phases: Sequence[Phase]) -> float:
    return sum(phase.seconds for phase in phases)


def due_times(phases: Sequence[Phase], seed: int, share: float = 1.0) -> Iterator[float]:
    """Seconds from the start, in order, of a Poisson process; the same ones for the same seed.

    share: of the rates, for one of several sources: together they are a Poisson process of the whole.
    """
    chance = random.Random(seed)
    begun_s, passed = 0.0, 0.0
    reached = chance.expovariate(1.0)  # in expected arrivals: there the process is even
    for phase in phases:
        expected = phase.expected * share
        while reached < passed + expected:
            yield begun_s + phase.when((reached - passed) / share)
            reached += chance.expovariate(1.0)
        passed += expected
        begun_s += phase.seconds
