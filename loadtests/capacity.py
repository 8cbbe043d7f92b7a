"""The largest rate of arrivals that a server answers as promised: found by doubling, then by halving what is between.

Pure: what a rate came to is measured by whoever calls. A request is bad when it was not answered or took longer than
the p99 may be, so the promise is that at most one in a hundred is bad; a step is judged by how sure that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final

from loadtests.outcome import Outcome
from loadtests.summary import late_p99_s, percentile

BAD: Final = 0.01  # share
BLOCKS: Final = 10  # requests that wait behind each other are bad together, so sureness is about blocks of time
STUDENT: Final = 1.833  # of 9 degrees of freedom, one side: 95 %
NONE_BAD: Final = 3.0  # of n without a bad one, up to 3 / n may be bad: 95 %


@dataclass(frozen=True, slots=True)
class Range:
    """What the share of bad ones is, each end with 95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Step:
    """What a rate came to. sure: whether longer measuring would hardly change it."""

    rate: float
    seconds: float
    requests: int
    answered_rate: float
    p99_s: float
    late_p99_s: float
    bad: float
    range: Range

    @property
    def passed(self) -> bool:
        return self.bad <= BAD

    @property
    def sure(self) -> bool:
        return self.range.high <= BAD or self.range.low > BAD


@dataclass(frozen=True, slots=True)
class Found:
    """rate: the largest that passed, 0 if none did. above: the least that did not, inf if all did."""

    rate: float
    above: float
    steps: Sequence[Step]

    @property
    def limit(self) -> Step | None:
        """The step that says that no more is possible."""
        return next((step for step in self.steps if step.rate == self.above), None)

    @property
    def sure(self) -> bool:
        """Whether both ends are."""
        return all(step.sure for step in self.steps if step.rate in (self.rate, self.above))


def bad_range(blocks: Sequence[tuple[int, int]]) -> Range:
    """blocks: bad ones and all of them, in parts of the time. At least two."""
    total = sum(count for _, count in blocks)
    if not total:
        return Range(0.0, 1.0)
    shares = [bad / count for bad, count in blocks if count]
    middle = sum(bad for bad, _ in blocks) / total
    error = STUDENT * stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else 1.0
    return Range(max(0.0, middle - error), min(1.0, max(middle + error, NONE_BAD / total)))


def measured(rate: float, seconds: float, outcomes: Sequence[Outcome], p99_s: float) -> Step:
    """What the requests of a step say. p99_s: what it may be."""

    def is_bad(one: Outcome) -> bool:
        return not one.answered or one.latency_s > p99_s

    blocks: list[tuple[int, int]] = [(0, 0)] * BLOCKS
    for one in outcomes:
        i = min(BLOCKS - 1, int(one.due_s / seconds * BLOCKS))
        blocks[i] = blocks[i][0] + is_bad(one), blocks[i][1] + 1
    latencies = sorted(one.latency_s for one in outcomes if one.answered)
    last_s = max([seconds, *(one.due_s + one.latency_s for one in outcomes)])
    return Step(
        rate=rate,
        seconds=seconds,
        requests=len(outcomes),
        answered_rate=len(latencies) / last_s,
        p99_s=percentile(latencies, 0.99),
        late_p99_s=late_p99_s(outcomes),
        bad=mean(map(is_bad, outcomes)) if outcomes else 0.0,
        range=bad_range(blocks),
    )


def search(measure: Callable[[float], Step], first: float, within: float, most: float = 1e6) -> Found:
    """Doubles from `first` until a rate fails, or halves until one passes; then tries the middle of both, until they
    are no further apart than `within`, as a share. measure: a rate, tried.
    """
    steps = [measure(first)]
    low, high = (first, math.inf) if steps[0].passed else (0.0, first)

    def attempt(rate: float) -> None:
        nonlocal low, high
        steps.append(measure(rate))
        if steps[-1].passed:
            low = rate
        else:
            high = rate

    while high == math.inf and low < most:
        attempt(low * 2)
    while not low and high > first / 1024:
        attempt(high / 2)
    while low and high < math.inf and high > low * (1 + within):
        attempt(math.sqrt(low * high))
    return Found(low, high, steps)
