"""A trial as it is watched: what came of it, and the verdict that is kept of it when it ends."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel

from serving.guard.case import Advance, Back, Case, Decision, Hold, decide
from serving.guard.pool import Pool
from serving.guard.signal import Finding
from serving.guard.standing import Standing
from serving.ledger import Member
from serving.timestamp import timestamp
from serving.trial import Policy
from serving.verdict import Check, Verdict

BEGUN: Final = Hold("it has only begun")
GATHERING_S: Final = 3.0  # for all gateways to have said what they saw before a promotion


class SignalState(BaseModel):
    """One signal. strength: from 1 on it speaks for the way back; None: there is nothing to compare."""

    name: str
    strength: float | None
    measured: str
    limit: str
    detail: str


class TrialState(BaseModel):
    """A trial as operators see it. decision: hold, advance or back, and why."""

    model: str
    version: int
    against: int
    kind: str
    percent: float
    requests: int
    began: str
    signals: list[SignalState]
    decision: str
    why: str


@dataclass(slots=True)
class Watched:
    """One trial, with the evidence so far. began_s: when it was first seen, on the clock of now_s."""

    standing: Standing
    policy: Policy
    began_s: float
    pool: Pool = field(init=False)
    case: Case | None = None
    decision: Decision = BEGUN
    step_from: int = 0  # requests that it had when its share last changed
    advised: str = ""  # what was said last, where nothing is done

    def __post_init__(self) -> None:
        self.pool = Pool(self.standing)

    def look(self, members: Collection[Member], now_s: float) -> Decision:
        """Counts in what the gateways said since the last look. now_s: Unix seconds."""
        trial = self.standing
        if self.case is None:
            gathering = trial.kind == "promoted" and now_s < self.began_s + GATHERING_S
            if gathering or not self.pool.heard(members):
                return self.decision
            before = self.pool.before(members)
            self.case = Case(self.policy, past=before) if trial.kind == "promoted" else Case(self.policy, known=before)
        self.case.add(*self.pool.fresh(members))
        self.decision = decide(
            self.policy,
            trial.kind,
            self.findings,
            percent=trial.percent,
            step_s=trial.step_s(now_s),
            step_requests=self.case.requests - self.step_from,
        )
        return self.decision

    def follow(self, standing: Standing, policy: Policy) -> None:
        """The same trial, with another share or under another policy. Evidence stays as it was gathered."""
        if standing.step_began != self.standing.step_began and self.case is not None:
            self.step_from = self.case.requests
        self.standing, self.policy = standing, policy

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.case.findings() if self.case else ()

    def state(self) -> TrialState:
        """As operators see it."""
        trial, decision = self.standing, self.decision
        named = {Hold: "hold", Advance: "advance", Back: "back"}
        return TrialState(
            model=trial.model,
            version=trial.candidate,
            against=trial.other,
            kind=trial.kind,
            percent=trial.percent,
            requests=self.case.requests if self.case else 0,
            began=trial.began,
            signals=[
                SignalState(
                    name=one.name, strength=one.strength, measured=one.measured, limit=one.limit, detail=one.detail
                )
                for one in self.findings
            ],
            decision=named[type(decision)],
            why=decision.why,
        )

    def verdict(self, now_s: float, digest: str) -> Verdict:
        """What is kept of it: a check for each signal."""
        checks = tuple(
            Check(
                name=f"guard_{one.name}",
                passed=None if one.strength is None else not one.proven,
                measured=one.measured or None,
                limit=one.limit or None,
                detail=one.detail,
            )
            for one in self.findings
        )
        return Verdict(
            model=self.standing.model,
            version=self.standing.candidate,
            passed=not isinstance(self.decision, Back),
            checks=checks,
            time=timestamp(now_s, "seconds"),
            digest=digest,
            stable=self.standing.other,
        )
