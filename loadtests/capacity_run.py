"""The capacity of one route, measured: each rate until its p99 can be judged, beside callers who wait for answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from loadtests.arrivals import constant, due_times
from loadtests.capacity import Found, Step, measured, search
from loadtests.connection import Connections
from loadtests.outcome import Outcome
from loadtests.payloads import Aim, Shot, drawn
from loadtests.source import Source

LEAST_REQUESTS: Final = 340  # of a step: with fewer, not even none that is bad says enough
PAUSE_S: Final = 0.5  # between steps, for queues to be empty
WARM_UP_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """closed: answers a second to so many callers who wait, before the search and after it."""

    found: Found
    callers: int
    closed: Sequence[float]

    @property
    def ratio(self) -> float:
        """The capacity as a share of what callers who wait got."""
        return self.found.rate / (sum(self.closed) / len(self.closed))


@dataclass(frozen=True, slots=True)
class Effort:
    """step_s: the least that a step takes; a step that says nothing sure is repeated, for up to most_s in all.

    first: requests a second, where the search begins. within: how far apart what passed and what failed may be in the
    end, as a share. callers: who wait.
    """

    step_s: float = 8.0
    most_s: float = 32.0
    first: float = 16.0
    within: float = 0.04
    callers: int = 8


class Route:
    """One kind of request to one server."""

    def __init__(self, url: str, shots: Sequence[Shot]) -> None:
        self._connections = Connections(url)
        self._shots = drawn([Aim(shots, 1.0)], seed=0)
        self._seeds = random.Random(0)

    def open_loop(self, rate: float, seconds: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        source = Source(self._connections.ask, outcomes.append)
        source.open_loop(due_times(constant(rate, seconds), self._seeds.randrange(2**32)), self._shots)
        source.finish()
        return outcomes

    def closed_loop(self, callers: int, seconds: float) -> float:
        """Answers a second."""
        outcomes: list[Outcome] = []
        source = Source(self._connections.ask, outcomes.append)
        source.closed_loop(callers, seconds, self._shots)
        last_s = max([seconds, *(one.due_s + one.latency_s for one in outcomes)])
        return sum(one.answered for one in outcomes) / last_s


def step_of(route: Route, rate: float, p99_s: float, effort: Effort) -> Step:
    """The rate, tried; one that fails, twice, of which the better counts: what else goes on at a machine meets one."""
    step = _attempt(route, rate, p99_s, effort)
    return step if step.passed else min(step, _attempt(route, rate, p99_s, effort), key=lambda one: one.bad)


def _attempt(route: Route, rate: float, p99_s: float, effort: Effort) -> Step:
    """For as long as it takes to be sure, or as may be.

    And so long that a rate that is too high by `within` grows a backlog as long as the p99 may be: shorter, it passes.
    """
    seconds = max(effort.step_s, LEAST_REQUESTS / rate, p99_s / effort.within)
    outcomes = route.open_loop(rate, seconds)
    step = measured(rate, seconds, outcomes, p99_s)
    while not step.sure and step.seconds + seconds <= effort.most_s:
        time.sleep(PAUSE_S)
        more = route.open_loop(rate, seconds)
        outcomes += [_later(one, step.seconds) for one in more]
        step = measured(rate, step.seconds + seconds, outcomes, p99_s)
    time.sleep(PAUSE_S)
    return step


def compare(route: Route, p99_s: float, effort: Effort, tell: Callable[[Step], None]) -> Comparison:
    """The capacity, and what callers who wait get before and after: machines drift. tell: is called with each step."""
    route.closed_loop(effort.callers, WARM_UP_S)

    def measure(rate: float) -> Step:
        step = step_of(route, rate, p99_s, effort)
        tell(step)
        return step

    before = route.closed_loop(effort.callers, effort.step_s)
    found = search(measure, effort.first, effort.within)
    return Comparison(found, effort.callers, [before, route.closed_loop(effort.callers, effort.step_s)])


def _later(one: Outcome, seconds: float) -> Outcome:
    return replace(one, due_s=one.due_s + seconds)
