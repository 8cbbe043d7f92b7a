"""A trial that is drawn: what both versions do each second, and what the guard makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from serving.guard.case import Advance, Back, Case, Decision, decide
from serving.tensors import Array
from serving.trial import SECONDS, Counts, Policy

BINS: Final = 10
FEATURES: Final = ("brightness", "contrast", "sharpness")
MEDIAN_S: Final = 0.02
SPREAD: Final = 0.4  # of the logarithm of seconds
CLASSES: Final = 10


@dataclass(frozen=True, slots=True)
class World:
    """rate: requests a second, of both versions. The rest: first the other version's, then the candidate's.

    truths: the share of requests that one is sent for. looked_at: inputs a second of each version, at most; copied:
    requests of both versions a second, at most, each for the other one. drifted: how far the candidate's inputs are
    shifted, in bins. wrong_class: whether the candidate is always wrong about one class of ten.
    """

    rate: float = 50.0
    errors: tuple[float, float] = (0.002, 0.002)
    slowdown: float = 1.0
    disagreement: float = 0.03
    good: tuple[float, float] = (0.9, 0.9)
    truths: float = 0.1
    looked_at: float = 20.0
    copied: float = 32.0
    drifted: float = 0.0
    wrong_class: bool = False


HEALTHY: Final = World()
HARMS: Final = {
    "errs on 2 % of requests": ("errors", replace(HEALTHY, errors=(0.0, 0.02))),
    "three times slower": ("latency", replace(HEALTHY, slowdown=3.0)),
    "wrong on one class of ten, by copies": ("disagreement", replace(HEALTHY, wrong_class=True, truths=0.0)),
    "wrong on one class of ten, by truths": ("live_metric", replace(HEALTHY, wrong_class=True, truths=1.0, copied=0.0)),
    "a drifted camera": ("drift", replace(HEALTHY, drifted=2.0)),
}


@dataclass(frozen=True, slots=True)
class End:
    """decision: the last one; seconds: until it was made; percent: that the canary had then."""

    decision: Decision
    seconds: float
    percent: float


def run(world: World, policy: Policy, seed: int, *, percent: float = 50.0, longest_s: float = 3600.0) -> End:
    """A canary that begins with so many percent, until it is stable, must go back, or the time is over."""
    chance = np.random.default_rng(seed)
    case = Case(policy, known=_counts(world, chance, world.rate * 60, candidate=False))
    step_s, step_from = 0.0, 0
    decision: Decision = Advance(percent, "")
    second = 0.0
    while second < longest_s:
        second += 1.0
        step_s += 1.0
        share = percent / 100
        candidate = _counts(world, chance, world.rate * share, candidate=True)
        other = _counts(world, chance, world.rate * (1 - share), candidate=False)
        candidate, other = _with_copies(world, chance, candidate, other, share)
        case.add(candidate, other)
        requests = case.requests - step_from
        decision = decide(policy, "canary", case.findings(), percent=percent, step_s=step_s, step_requests=requests)
        if isinstance(decision, Back) or (isinstance(decision, Advance) and decision.percent is None):
            break
        if isinstance(decision, Advance) and decision.percent is not None:
            percent, step_s, step_from = decision.percent, 0.0, case.requests
    return End(decision, second, percent)


def _counts(world: World, chance: np.random.Generator, rate: float, *, candidate: bool) -> Counts:
    """One second of a version."""
    requests = int(chance.poisson(rate))
    failed = int(chance.binomial(requests, world.errors[candidate]))
    answered = requests - failed
    seconds = MEDIAN_S * np.exp(chance.normal(0.0, SPREAD, answered)) * (world.slowdown if candidate else 1.0)
    truths = int(chance.binomial(answered, world.truths))
    wrong = world.wrong_class and candidate
    quality = _by_class(chance, truths, 1 - world.good[candidate], wrong=wrong)
    looked_at = min(answered, int(world.looked_at))
    return Counts(
        answered=answered,
        failed=failed,
        seconds=_binned(np.searchsorted(SECONDS, seconds), len(SECONDS) + 1),
        truths=truths,
        quality=truths - sum(bad for _, bad in quality.values()),
        truths_by={name: (rows, rows - bad) for name, (rows, bad) in quality.items()},
        features={name: _inputs(chance, looked_at, world.drifted if candidate else 0.0) for name in FEATURES},
    )


def _with_copies(
    world: World, chance: np.random.Generator, candidate: Counts, other: Counts, share: float
) -> tuple[Counts, Counts]:
    """Both, with the copies that each got of the other's requests; a canary's are copied while it has half at most."""
    back = share if share <= 0.5 else 0.0
    copied = min(other.answered, int(world.copied * (1 - back)))
    failed = int(chance.binomial(copied, world.errors[1]))
    differing = _by_class(chance, copied - failed, world.disagreement, wrong=world.wrong_class)
    together = sum(bad for _, bad in differing.values())
    figures = {"copies": copied - failed, "copies_failed": failed, "disagreement": together, "copies_by": differing}
    controls = min(candidate.answered, int(world.copied * back))
    controls_failed = int(chance.binomial(controls, world.errors[0]))
    controlled = {"copies": controls - controls_failed, "copies_failed": controls_failed}
    return candidate.model_copy(update=figures), other.model_copy(update=controlled)


def _by_class(chance: np.random.Generator, rows: int, bad: float, *, wrong: bool) -> dict[str, tuple[int, float]]:
    """Rows of each class, and how many of those are bad."""
    each = chance.multinomial(rows, [1 / CLASSES] * CLASSES).tolist()
    return {
        str(place): (count, float(chance.binomial(count, 1.0 if wrong and place == 0 else bad)))
        for place, count in enumerate(each)
        if count
    }


def _inputs(chance: np.random.Generator, rows: int, drifted: float) -> tuple[int, ...]:
    places = np.clip(np.floor(chance.uniform(0, BINS, rows) + drifted * chance.uniform(0, 2, rows)), 0, BINS - 1)
    return _binned(places.astype(np.int64), BINS)


def _binned(places: Array, bins: int) -> tuple[int, ...]:
    return tuple(np.bincount(places, minlength=bins).tolist())
