"""Contenders that take turns under the same load, and what their turns add up to.

A machine's speed drifts with its neighbours and its heat, so contenders are measured in turns (A B A B), each turn is
compared with the others of its own round, and medians over the rounds are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, NamedTuple

import httpx

from loadtests.bench import wrk
from loadtests.bench.wrk import Load, Target

CONNECTIONS: Final = (1, 8, 32)
WARM_UP_S: Final = 1
STEADY: Final = 1.25  # what the best round may be of the worst for a comparison to count


class AnswersDiffer(Exception):
    """The servers do not do the same work, so their speeds say nothing."""


class Contender(NamedTuple):
    """A server under so many connections; of the bound, so many threads."""

    name: str
    connections: int


@dataclass(frozen=True, slots=True)
class Turns:
    """How long a turn takes and how often it comes round."""

    seconds: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Bar:
    """What was to be reached, and what was."""

    name: str
    least: float
    reached: float

    @property
    def passed(self) -> bool:
        return self.reached >= self.least


@dataclass(frozen=True, slots=True)
class Comparison:
    """loads: one a round. shares: each as a multiple of the same round's load of `share_of`."""

    name: str
    title: str
    unit: str
    share_of: str
    loads: Mapping[Contender, Sequence[Load]]
    shares: Mapping[Contender, Sequence[float]]
    bars: Sequence[Bar]

    @property
    def unsteadiness(self) -> float:
        """How many times faster some contender was in its best round than in its worst. Quiet machines: below 1.1."""
        return max(
            max(rates) / min(rates) for rates in ([load.rate for load in loads] for loads in self.loads.values())
        )


def servers(
    targets: Mapping[str, Target], seconds: int, core: int | None = None
) -> Mapping[Contender, Callable[[], Load]]:
    """The servers, warmed up, under each number of connections. `core`: where wrk runs."""
    for target in targets.values():
        wrk.run(target, max(CONNECTIONS), WARM_UP_S, core)

    def contender(target: Target, connections: int) -> Callable[[], Load]:
        return lambda: wrk.run(target, connections, seconds, core)

    return {Contender(name, count): contender(targets[name], count) for count in CONNECTIONS for name in targets}


def take_turns(contenders: Mapping[Contender, Callable[[], Load]], rounds: int) -> Mapping[Contender, Sequence[Load]]:
    """The loads of each contender, one a round."""
    turns = [{name: measure() for name, measure in contenders.items()} for _ in range(rounds)]
    return {name: [loads[name] for loads in turns] for name in contenders}


def shares(
    loads: Mapping[Contender, Sequence[Load]], whole: Callable[[Contender], Contender]
) -> Mapping[Contender, Sequence[float]]:
    """Each rate as a multiple of the same round's rate of the contender that `whole` names."""
    return {
        name: [one.rate / other.rate for one, other in zip(rounds, loads[whole(name)], strict=True)]
        for name, rounds in loads.items()
    }


def median_load(loads: Sequence[Load]) -> Load:
    """Each figure's own median."""
    return Load(
        median(load.rate for load in loads),
        median(load.p50_s for load in loads),
        median(load.p99_s for load in loads),
    )


def ask(target: Target) -> Any:
    """One answer's JSON. AnswersDiffer when there is none."""
    answer = httpx.post(target.url, content=target.body, headers={"content-type": target.content_type}, timeout=30)
    if answer.status_code != 200:
        raise AnswersDiffer(f"{target.url} answers {answer.status_code}: {answer.text[:300]}")
    return answer.json()
