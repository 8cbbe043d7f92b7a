"""Signals that are a share of something bad: failures, losses by the live metric, disagreement."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Final

from serving.guard.evidence import (
    NOTHING,
    Sample,
    WorseThanLimit,
    WorseThanOther,
    together,
    upper_bound,
    with_groups,
)
from serving.guard.signal import Finding, Signal, percent
from serving.trial import MOST_GROUPS, Counts, Policy

CLASS_LIMIT: Final = 0.5
LEAST_KNOWN: Final = 50  # rows from before the trial, to guess by
LEAST_GUESS: Final = 0.001
SUSPICIOUS: Final = math.log(4)  # evidence of one class by itself, at which a canary does not climb


class BesideOther(Signal):
    """A share of the candidate's rows that is bad, beside that of the other version's. past, known: as of Case."""

    def __init__(self, policy: Policy, past: Counts | None, known: Counts) -> None:
        super().__init__(policy)
        self._past = self.sample(past) if past is not None else None
        if self._past is None:
            before = self.sample(known)
            enough = before.rows >= LEAST_KNOWN
            self._test: WorseThanOther | WorseThanLimit = (
                WorseThanOther(max(before.share, LEAST_GUESS), known=True) if enough else WorseThanOther()
            )
        else:
            self._test = WorseThanLimit(upper_bound(self._past, self.limited()))

    @property
    def other(self) -> Sample:
        """What was seen of the other version."""
        return self._test.other if isinstance(self._test, WorseThanOther) else self._past or NOTHING

    @abstractmethod
    def sample(self, counts: Counts) -> Sample:
        """What of these counts is judged."""

    def beside(self, candidate: Counts, other: Counts) -> Sample:
        """What of the other version's counts the candidate's are held against."""
        del candidate
        return self.sample(other)

    @abstractmethod
    def described(self, log_e: float, ours: Sample, theirs: Sample) -> Finding:
        """When there is something of both."""

    def add(self, candidate: Counts, other: Counts) -> None:
        if isinstance(self._test, WorseThanLimit):
            self._test.add(self.sample(candidate))
        else:
            self._test.add(self.sample(candidate), self.beside(candidate, other))

    def finding(self) -> Finding:
        ours, theirs = self._test.candidate, self.other
        if not ours.rows or not theirs.rows:
            return Finding(self.name, None, detail="there is nothing of both versions to compare")
        return self.described(self._test.log_e, ours, theirs)


class Errors(BesideOther):
    """Requests that failed, and copies that did; those that callers are to blame for are not among them."""

    name = "errors"

    def sample(self, counts: Counts) -> Sample:
        return together(_own(counts), _copies(counts))

    def beside(self, candidate: Counts, other: Counts) -> Sample:
        """Copies are of requests that were answered. Where it lies in the request whether it fails, they fail less than
        others do; so both versions are judged by as many of them, for each request of their own.
        """
        own, copies, asked = _own(other), _copies(other), _own(candidate).rows
        most = own.rows * _copies(candidate).rows / asked if asked else 0.0
        part = min(1.0, most / copies.rows) if copies.rows else 0.0
        return together(own, Sample(part * copies.rows, part * copies.bad))

    def described(self, log_e: float, ours: Sample, theirs: Sample) -> Finding:
        return self.found(
            log_e,
            harmful=ours.share - theirs.share > self.policy.errors,
            measured=percent(ours.share),
            limit=percent(theirs.share + self.policy.errors),
            detail=f"{percent(ours.share)} of {ours.rows:,.0f} requests failed, "
            f"{percent(theirs.share)} of the other version's {theirs.rows:,.0f}",
        )


class LiveMetric(BesideOther):
    """How good answers were, by what callers said was right: of all, and of each class of truths."""

    name = "live_metric"

    def __init__(self, policy: Policy, past: Counts | None, known: Counts) -> None:
        super().__init__(policy, past, known)
        self._classes: dict[str, WorseThanOther] = {}

    def sample(self, counts: Counts) -> Sample:
        return _losses(counts.truths, counts.quality)

    def add(self, candidate: Counts, other: Counts) -> None:
        super().add(candidate, other)
        for name in candidate.truths_by.keys() & other.truths_by.keys() if self._past is None else ():
            test = self._classes.setdefault(name, WorseThanOther(max(self.other.share, LEAST_GUESS)))
            test.add(_losses(*candidate.truths_by[name]), _losses(*other.truths_by[name]))

    def described(self, log_e: float, ours: Sample, theirs: Sample) -> Finding:
        worst = max(self._classes.items(), key=lambda one: one[1].log_e, default=None)
        name = ""
        if worst is not None and worst[1].log_e > max(log_e, SUSPICIOUS):  # it is this class that tells
            name, ours, theirs = f" of {worst[0]}", worst[1].candidate, worst[1].other
        return self.found(
            with_groups(log_e, [test.log_e for test in self._classes.values()], MOST_GROUPS),
            harmful=ours.share - theirs.share > self.policy.loss,
            measured=f"{1 - ours.share:.3f}",
            limit=f"{1 - theirs.share - self.policy.loss:.3f}",
            over=bool(name),
            detail=f"mean{name} {1 - ours.share:.3f} by {ours.rows:,.0f} truths, "
            f"{1 - theirs.share:.3f} by {theirs.rows:,.0f} of the other version's",
        )


class Disagreement(Signal):
    """Copies of the other version's requests that the candidate answers otherwise: of all, and of each answer that the
    other one gave. A single one may differ more often, up to half.
    """

    name = "disagreement"

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._test = WorseThanLimit(policy.disagreement)
        self._classes: dict[str, WorseThanLimit] = {}
        self._class_limit = max(CLASS_LIMIT, policy.disagreement)

    def add(self, candidate: Counts, other: Counts) -> None:
        del other
        self._test.add(Sample(candidate.copies, candidate.disagreement))
        for name, (rows, differing) in candidate.copies_by.items():
            self._classes.setdefault(name, WorseThanLimit(self._class_limit)).add(Sample(rows, differing))

    def finding(self) -> Finding:
        seen, limit, name = self._test.candidate, self.policy.disagreement, ""
        if not seen.rows:
            return Finding(self.name, None, detail="no request was copied yet")
        worst = max(self._classes.items(), key=lambda one: one[1].log_e, default=None)
        if worst is not None and worst[1].log_e > max(self._test.log_e, SUSPICIOUS):
            name, seen, limit = f" that were answered {worst[0]!r}", worst[1].candidate, self._class_limit
        return self.found(
            with_groups(self._test.log_e, [test.log_e for test in self._classes.values()], MOST_GROUPS),
            harmful=seen.share > limit,
            measured=percent(seen.share),
            limit=percent(limit),
            over=bool(name),
            detail=f"{percent(seen.share)} of the answers to {seen.rows:,.0f} copied requests{name} differ",
        )


def _own(counts: Counts) -> Sample:
    return Sample(counts.answered + counts.failed, counts.failed)


def _copies(counts: Counts) -> Sample:
    return Sample(counts.copies + counts.copies_failed, counts.copies_failed)


def _losses(rows: float, quality: float) -> Sample:
    return Sample(rows, max(0.0, rows - quality))
