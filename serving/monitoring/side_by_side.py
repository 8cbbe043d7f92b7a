"""Two versions on the same requests, side by side: where their answers differ, and which were slower. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import BaseModel

from serving.timestamp import timestamp

SHOWN: Final = 100  # requests in a list
SLOWER: Final = 1.5  # times as long: what one request's own time can say


@dataclass(frozen=True, slots=True)
class Turn:
    """One version on one request. brief: its answer in some words, or the code of its error. seconds: of all of it."""

    seconds: float
    brief: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Both versions on one request. at: Unix seconds, when it was captured; agreement: 0 to 1."""

    request_id: str
    at: float
    agreement: float
    before: Turn
    candidate: Turn


class Limits(BaseModel):
    """What a candidate must keep to. max_slowdown: of the median, 1 for no slower."""

    min_agreement: float | None = None
    max_slowdown: float | None = None


class Speed(BaseModel):
    """In seconds, of the requests that both answered."""

    median_s: float
    p99_s: float


class Side(BaseModel):
    version: int
    failed: int
    speed: Speed | None


class Differing(BaseModel):
    """A request whose answers differ, and both in some words."""

    request_id: str
    time: str
    agreement: float
    before: str
    candidate: str


class Slower(BaseModel):
    """A request that took the candidate SLOWER times as long, or more."""

    request_id: str
    time: str
    ratio: float
    before_s: float
    candidate_s: float


class Report(BaseModel):
    """before: the version that the candidate is held against. agreement: the mean. slowdown: the candidate's median by
    that of the other, slowdown_p99 likewise; None where nothing was answered by both. unreadable: captured requests
    that were left out. unmet: which limits are not kept, in words.

    differing: the worst first; slower: likewise. differ, slower_count: how many there are, also beyond those shown.
    """

    model: str
    before: Side
    candidate: Side
    requests: int
    unreadable: int
    agreement: float
    differ: int
    slowdown: float | None
    slowdown_p99: float | None
    slower_count: int
    differing: list[Differing]
    slower: list[Slower]
    unmet: list[str]


def report(model: str, versions: tuple[int, int], pairs: Sequence[Pair], unreadable: int, limits: Limits) -> Report:
    """What the pairs say. versions: before and candidate. ValueError: there are no pairs."""
    if not pairs:
        raise ValueError("expected at least one request")
    answered = [pair for pair in pairs if not (pair.before.failed or pair.candidate.failed)]
    sides = [_side(versions[i], [(pair.before, pair.candidate)[i] for pair in pairs], answered, i) for i in (0, 1)]
    before, candidate = sides
    slowdown = slowdown_p99 = None
    if before.speed and candidate.speed:
        slowdown = candidate.speed.median_s / before.speed.median_s
        slowdown_p99 = candidate.speed.p99_s / before.speed.p99_s
    agreement = float(np.mean([pair.agreement for pair in pairs]))
    differing = sorted((pair for pair in pairs if pair.agreement < 1), key=lambda pair: pair.agreement)
    slower = sorted((pair for pair in answered if _ratio(pair) >= SLOWER), key=_ratio, reverse=True)
    return Report(
        model=model,
        before=before,
        candidate=candidate,
        requests=len(pairs),
        unreadable=unreadable,
        agreement=agreement,
        differ=len(differing),
        slowdown=slowdown,
        slowdown_p99=slowdown_p99,
        slower_count=len(slower),
        differing=[_differing(pair) for pair in differing[:SHOWN]],
        slower=[_slower(pair) for pair in slower[:SHOWN]],
        unmet=_unmet(agreement, slowdown, limits),
    )


def _side(version: int, turns: Sequence[Turn], answered: Sequence[Pair], which: int) -> Side:
    seconds = [(pair.before, pair.candidate)[which].seconds for pair in answered]
    speed = None
    if seconds:
        speed = Speed(median_s=float(np.median(seconds)), p99_s=float(np.percentile(seconds, 99)))
    return Side(version=version, failed=sum(turn.failed for turn in turns), speed=speed)


def _ratio(pair: Pair) -> float:
    return pair.candidate.seconds / pair.before.seconds


def _differing(pair: Pair) -> Differing:
    return Differing(
        request_id=pair.request_id,
        time=timestamp(pair.at, "milliseconds"),
        agreement=pair.agreement,
        before=pair.before.brief,
        candidate=pair.candidate.brief,
    )


def _slower(pair: Pair) -> Slower:
    return Slower(
        request_id=pair.request_id,
        time=timestamp(pair.at, "milliseconds"),
        ratio=_ratio(pair),
        before_s=pair.before.seconds,
        candidate_s=pair.candidate.seconds,
    )


def _unmet(agreement: float, slowdown: float | None, limits: Limits) -> list[str]:
    unmet = []
    if limits.min_agreement is not None and agreement < limits.min_agreement:
        unmet.append(f"The agreement is {agreement:.4f}; at least {limits.min_agreement:g} was asked for.")
    if limits.max_slowdown is not None and slowdown is None:
        unmet.append("No request was answered by both versions, so nothing is known of the slowdown.")
    elif limits.max_slowdown is not None and slowdown is not None and slowdown > limits.max_slowdown:
        unmet.append(f"The median is {slowdown:.2f} times as long; at most {limits.max_slowdown:g} was asked for.")
    return unmet
