"""Signals that are a share of something bad: failures, losses by the live metric, disagreement."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from serving.guard.evidence import Sample, WorseThanLimit, WorseThanOther, upper_bound
from serving.guard.signal import Finding, Signal, percent
from serving.trial import Counts, Policy

NONE: Final = Sample(0.0, 0.0)


class BesideOther(Signal):
    """A share of the candidate's rows that is bad, beside that of the other version's."""

    def __init__(self, policy: Policy, past: Counts | None) -> None:
        super().__init__(policy)
        self._past = self.sample(past) if past is not None else None
        if self._past is None:
            self._test: WorseThanOther | WorseThanLimit = WorseThanOther()
        else:
            self._test = WorseThanLimit(upper_bound(self._past, self.limited()))

    @abstractmethod
    def sample(self, counts: Counts) -> Sample:
        """What of these counts is judged."""

    @abstractmethod
    def described(self, log_e: float, ours: Sample, theirs: Sample) -> Finding:
        """When there is something of both."""

    def add(self, candidate: Counts, other: Counts) -> None:
        if isinstance(self._test, WorseThanLimit):
            self._test.add(self.sample(candidate))
        else:
            self._test.add(self.sample(candidate), self.sample(other))

    def finding(self) -> Finding:
        ours = self._test.candidate
        theirs = self._test.other if isinstance(self._test, WorseThanOther) else self._past or NONE
        if not ours.rows or not theirs.rows:
            return Finding(self.name, None, detail="there is nothing of both versions to compare")
        return self.described(self._test.log_e, ours, theirs)


class Errors(BesideOther):
    """Requests that failed, and copies that did; those that callers are to blame for are not among them."""

    name = "errors"

    def sample(self, counts: Counts) -> Sample:
        failed = counts.failed + counts.copies_failed
        return Sample(counts.answered + counts.copies + failed, failed)

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
    """How good answers were, by what callers said was right."""

    name = "live_metric"

    def sample(self, counts: Counts) -> Sample:
        return Sample(counts.truths, max(0.0, counts.truths - counts.quality))

    def described(self, log_e: float, ours: Sample, theirs: Sample) -> Finding:
        return self.found(
            log_e,
            harmful=ours.share - theirs.share > self.policy.loss,
            measured=f"{1 - ours.share:.3f}",
            limit=f"{1 - theirs.share - self.policy.loss:.3f}",
            detail=f"mean {1 - ours.share:.3f} by {ours.rows:,.0f} truths, "
            f"{1 - theirs.share:.3f} by {theirs.rows:,.0f} of the other version's",
        )


class Disagreement(Signal):
    """Copies of the other version's requests that the candidate answers otherwise."""

    name = "disagreement"

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._test = WorseThanLimit(policy.disagreement)

    def add(self, candidate: Counts, other: Counts) -> None:
        del other
        self._test.add(Sample(candidate.copies, candidate.disagreement))

    def finding(self) -> Finding:
        seen = self._test.candidate
        if not seen.rows:
            return Finding(self.name, None, detail="no request was copied yet")
        return self.found(
            self._test.log_e,
            harmful=seen.share > self.policy.disagreement,
            measured=percent(seen.share),
            limit=percent(self.policy.disagreement),
            detail=f"{percent(seen.share)} of the answers to {seen.rows:,.0f} copied requests differ",
        )
