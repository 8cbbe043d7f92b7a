"""The case against one version on trial: all signals, and what is to be done by them. Pure; time is a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from serving.guard.inputs import Drift
from serving.guard.latency import Latency
from serving.guard.shares import Disagreement, Errors, LiveMetric
from serving.guard.signal import Finding, Signal
from serving.trial import Counts, Policy

CALM: Final = 0.5  # strength of evidence above which a canary does not climb
Kind = Literal["canary", "shadow", "promoted"]


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is to be done; why."""

    why: str


@dataclass(frozen=True, slots=True)
class Advance:
    """The canary gets a larger share; None: all requests, as the stable version."""

    percent: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Back:
    """The version must go back; `signal` says by what."""

    signal: str
    why: str


Decision = Hold | Advance | Back


class Case:
    """Counts of a version on trial and of the other one, block by block.

    past: of the version before it, where that one answers no more; known: what the other version did before the trial.
    """

    def __init__(self, policy: Policy, *, past: Counts | None = None, known: Counts | None = None) -> None:
        known = known or Counts()
        self._signals: list[Signal] = [Errors(policy, past, known), Latency(policy, past, known)]
        if past is None:
            self._signals += [Disagreement(policy), Drift(policy)]
        self._signals.append(LiveMetric(policy, past, known))
        self.requests = 0  # of callers, that the version on trial got

    def add(self, candidate: Counts, other: Counts) -> None:
        """What came since the block before."""
        self.requests += candidate.answered + candidate.failed
        for signal in self._signals:
            signal.add(candidate, other)

    def findings(self) -> tuple[Finding, ...]:
        """How each signal stands."""
        return tuple(signal.finding() for signal in self._signals)


def decide(
    policy: Policy, kind: Kind, findings: tuple[Finding, ...], *, percent: float, step_s: float, step_requests: int
) -> Decision:
    """What is to be done. percent: that the canary has; step_s, step_requests: since it has it."""
    proven = [finding for finding in findings if finding.proven]
    if proven:
        worst = max(proven, key=lambda one: one.strength or 0)
        return Back(worst.name, f"{worst.name}: {worst.detail}")
    if kind != "canary":
        return Hold("nothing speaks against it" if kind == "promoted" else "a shadow stays until somebody decides")
    uneasy = [finding for finding in findings if finding.over or (finding.strength or 0) > CALM]
    if uneasy:
        return Hold(f"{uneasy[0].name} may speak against it: {uneasy[0].detail}")
    if step_s < policy.step_s or step_requests < policy.step_requests:
        left = f"{max(0.0, policy.step_s - step_s):.0f} s and {max(0, policy.step_requests - step_requests)} requests"
        return Hold(f"this step takes {left} more")
    higher = [step for step in policy.steps if step > percent]
    following = higher[0] if higher else 100.0
    seen = f"nothing speaks against it after {step_requests:,} requests at {percent:g} %"
    return Advance(None if following >= 100 else following, seen)
